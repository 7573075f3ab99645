"""Several opinions on one output, compared pairwise: who agrees with whom, and who stands alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from keras3conv.numerics.difference import Judgement, Tolerance, judge
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
    output: str, opinions: Mapping[str, Array], source: Array, truth: Array | None, tolerance: Tolerance | None = None
) -> list[Verdict]:
    """Compares every pair of opinions on one output.

    Args:
        output: The name of the output.
        opinions: What each computed, in one layout.
        source: What torch computed in its own dtype.
        truth: What torch computed in float64: the noise floor is the difference of the two. None where only the
            tolerance counts.
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


def groups(found: list[Verdict]) -> list[tuple[str, ...]]:
    """The opinions in groups, the largest first: in a group everybody agrees with everybody on every output."""
    apart = _apart(found)
    made: list[list[str]] = []
    for name in _names(found):
        home = next((group for group in made if all(frozenset((name, other)) not in apart for other in group)), None)
        if home is None:
            made.append([name])
        else:
            home.append(name)
    return sorted(map(tuple, made), key=len, reverse=True)


def who_disagrees(found: list[Verdict]) -> str:
    """One line: who disagrees with whom, the fewest first."""
    made, apart = groups(found), _apart(found)
    if not apart:
        return f"{_listed(made[0])} agree"
    if not any(verdict.judgement and verdict.judgement.proves for verdict in found):
        odd = {verdict.odd for verdict in found}
        return "the outputs hold values that are not finite, which prove nothing" if odd == {""} else "; ".join(odd)
    if not _are_clear(made, apart):
        pairs = [f"{verdict.first} with {verdict.second}" for verdict in found if not verdict.agrees]
        return f"at the limit of what is noise disagree {'; '.join(dict.fromkeys(pairs))}"
    *others, fewest = made
    verb = "disagrees" if len(fewest) == 1 else "disagree"
    return f"{_listed(fewest)} {verb} with {'; and with '.join(map(_listed, others))}"


def _names(found: list[Verdict]) -> list[str]:
    """Whoever is judged, in the order torch, Keras, and their files."""
    judged = {name for verdict in found for name in (verdict.first, verdict.second)}
    known = (TORCH, KERAS, TORCH_ONNX, KERAS_ONNX)
    return [*(name for name in known if name in judged), *sorted(judged - {*known})]


def _apart(found: list[Verdict]) -> set[frozenset[str]]:
    return {frozenset((verdict.first, verdict.second)) for verdict in found if not verdict.agrees}


def _are_clear(made: list[tuple[str, ...]], apart: set[frozenset[str]]) -> bool:
    """Whether everybody disagrees with everybody in another group: one agrees with two that are too far apart else."""
    return all(
        frozenset((first, second)) in apart for one, other in combinations(made, 2) for first in one for second in other
    )


def where_to_look(found: list[Verdict], exporters: Mapping[str, str]) -> str:
    """What a split of the opinions points at; empty where it points at nothing in particular.

    Args:
        found: The verdicts.
        exporters: Which exporter wrote the file, by opinion.
    """
    made = groups(found)
    if len(made) < 2 or not _are_clear(made, _apart(found)):
        return ""
    fewest, most = set(made[-1]), set(made[0])
    for sides in (fewest, most):
        if sides in ({TORCH_ONNX}, {KERAS_ONNX}) and frozenset((TORCH, KERAS)) not in _apart(found):
            name = next(iter(sides))
            return f"the models agree, so look at the exporter ({exporters.get(name, name)}) or at onnxruntime"
    parts = {frozenset(group) for group in made}
    if frozenset({TORCH, TORCH_ONNX}) in parts and frozenset({KERAS, KERAS_ONNX}) in parts:
        return "each model agrees with its own export: the two models differ"
    if frozenset({TORCH, KERAS}) in parts:
        return "the two models agree: look at the exporters, or at onnxruntime"
    if fewest == {KERAS} and {TORCH, TORCH_ONNX, KERAS_ONNX} == most:
        return "Keras' own export computes what torch does: look at the Keras backend"
    if fewest == {TORCH} and {KERAS, TORCH_ONNX, KERAS_ONNX} == most:
        return "torch's own export computes what Keras does: look at how torch runs the module"
    return ""


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
