"""Several opinions on one output, compared pairwise: who agrees with whom, and who stands alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from keras3conv.compare import Judgement, Tolerance, judge
from keras3conv.transforms import Array

TORCH, KERAS, TORCH_ONNX, KERAS_ONNX = "torch", "Keras", "ONNX of torch", "ONNX of Keras"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How two opinions on one output compare.

    Attributes:
        output: The name of the output.
        first: Whose opinion it is.
        second: Whose the other is.
        judgement: Their difference against the noise floor; None where the shapes differ.
        odd: Why there is nothing to judge.
    """

    output: str
    first: str
    second: str
    judgement: Judgement | None = None
    odd: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than noise."""
        return self.judgement is not None and self.judgement.passed

    def __str__(self) -> str:
        return f"{self.first} and {self.second}: {self.odd or self.judgement}"


def verdicts(
    output: str, opinions: Mapping[str, Array], source: Array, truth: Array, tolerance: Tolerance | None = None
) -> list[Verdict]:
    """Compares every pair of opinions on one output.

    Args:
        output: The name of the output.
        opinions: What each computed, in one layout.
        source: What torch computed in its own dtype.
        truth: What torch computed in float64: the noise floor is the difference of the two.
        tolerance: What the caller allows, whatever the noise is.
    """
    found = []
    for first, second in combinations(opinions, 2):
        one, other = opinions[first], opinions[second]
        if one.shape != other.shape:
            found.append(Verdict(output=output, first=first, second=second, odd=f"{one.shape} is not {other.shape}"))
            continue
        floor = judge(source, source, truth).floor
        judgement = replace(judge(other, one, None, tolerance), floor=floor)
        found.append(Verdict(output=output, first=first, second=second, judgement=judgement))
    return found


def groups(names: tuple[str, ...], found: list[Verdict]) -> list[tuple[str, ...]]:
    """The opinions in groups, the largest first: in a group everybody agrees with everybody on every output."""
    apart = {frozenset((verdict.first, verdict.second)) for verdict in found if not verdict.agrees}
    made: list[list[str]] = []
    for name in names:
        home = next((group for group in made if all(frozenset((name, other)) not in apart for other in group)), None)
        if home is None:
            made.append([name])
        else:
            home.append(name)
    return sorted(map(tuple, made), key=len, reverse=True)


def who_disagrees(made: list[tuple[str, ...]]) -> str:
    """One line: who disagrees with whom, the fewest first."""
    if len(made) == 1:
        return f"{_listed(made[0])} agree"
    *others, fewest = made
    verb = "disagrees" if len(fewest) == 1 else "disagree"
    return f"{_listed(fewest)} {verb} with {'; and with '.join(map(_listed, others))}"


def where_to_look(made: list[tuple[str, ...]], exporters: Mapping[str, str]) -> str:
    """What a split of the opinions points at; empty where it points at nothing in particular.

    Args:
        made: The groups.
        exporters: Which exporter wrote the file, by opinion.
    """
    if len(made) < 2:
        return ""
    fewest, most = set(made[-1]), set(made[0])
    for sides in (fewest, most):
        if sides in ({TORCH_ONNX}, {KERAS_ONNX}):
            name = next(iter(sides))
            return f"the models agree, so look at the exporter ({exporters.get(name, name)}) or at onnxruntime"
    parts = {frozenset(group) for group in made}
    if frozenset({TORCH, TORCH_ONNX}) in parts and frozenset({KERAS, KERAS_ONNX}) in parts:
        return "each model agrees with its own export: the two models differ"
    if frozenset({TORCH, KERAS}) in parts:
        return "the two models agree: look at the exporters, or at onnxruntime"
    if fewest == {KERAS}:
        return "Keras' own export computes what torch does: look at the Keras backend"
    if fewest == {TORCH}:
        return "torch's own export computes what Keras does: look at how torch runs the module"
    return ""


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
