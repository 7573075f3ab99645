"""Compare what torch, Keras and their ONNX files return for the same inputs, and find out which one disagrees.

The outputs that one of them returns are called its opinion: there are up to four opinions, "torch", "Keras", "ONNX of
torch" and "ONNX of Keras".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product

from keras3conv.numerics.judgement import Judgement, Tolerance, judge
from keras3conv.transforms import Array

TORCH, KERAS, TORCH_ONNX, KERAS_ONNX = "torch", "Keras", "ONNX of torch", "ONNX of Keras"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The comparison of one output in two opinions (what torch, Keras or an ONNX file returns for the same inputs).

    Attributes:
        output: Name of the output.
        first: Name of the first opinion, such as "torch".
        second: Name of the second opinion, such as "ONNX of torch".
        judgement: Difference of the two opinions, judged by the noise floor; None if they cannot be compared.
        mismatch: The reason why the two opinions cannot be compared; empty if they can be compared.
    """

    output: str
    first: str
    second: str
    judgement: Judgement | None = None
    mismatch: str = ""

    @property
    def agrees(self) -> bool:
        """True if the output differs by no more than noise in the two opinions."""
        return self.judgement is not None and self.judgement.passed

    def __str__(self) -> str:
        return f"{self.first} and {self.second}: {self.mismatch or self.judgement}"


def compare_opinions(
    output: str, opinions: Mapping[str, Array], source: Array, truth: Array | None, tolerance: Tolerance | None = None
) -> list[Verdict]:
    """Compare one output in every two opinions (what torch, Keras or an ONNX file returns for the same inputs).

    Args:
        output: Name of the output.
        opinions: The values of the output, by the name of the opinion ("torch", "Keras"), all in one memory layout.
        source: Torch's values in its own dtype.
        truth: Torch's values in float64, whose difference from `source` is the noise floor; None if only a tolerance is
            used.
        tolerance: Difference that the caller allows, whatever the noise is.
    """
    verdicts = []
    for first, second in combinations(opinions, 2):
        first_values, second_values = opinions[first], opinions[second]
        if first_values.shape != second_values.shape:
            mismatch = f"the shapes differ: {first_values.shape} and {second_values.shape}"
            verdicts.append(Verdict(output=output, first=first, second=second, mismatch=mismatch))
            continue
        floor = judge(source, source, truth).floor
        judgement = replace(judge(second_values, first_values, None, tolerance), floor=floor)
        verdicts.append(Verdict(output=output, first=first, second=second, judgement=judgement))
    return verdicts


def agreeing_groups(verdicts: list[Verdict]) -> list[tuple[str, ...]]:
    """Group torch, Keras and their ONNX files: those of a group agree on all outputs. The largest group comes first."""
    disagreeing = _disagreeing_pairs(verdicts)
    groups: list[list[str]] = []
    for name in _opinion_names(verdicts):
        for group in groups:
            if all(frozenset((name, other)) not in disagreeing for other in group):
                group.append(name)
                break
        else:
            groups.append([name])
    return sorted(map(tuple, groups), key=len, reverse=True)


def who_disagrees(verdicts: list[Verdict]) -> str:
    """Return one sentence that says which of torch, Keras and their ONNX files disagree with the rest."""
    groups, disagreeing = agreeing_groups(verdicts), _disagreeing_pairs(verdicts)
    if not disagreeing:
        return f"{_listed(groups[0])} agree"
    if not any(verdict.judgement and verdict.judgement.proves for verdict in verdicts):
        mismatches = {verdict.mismatch for verdict in verdicts}
        if mismatches == {""}:
            return "the outputs contain NaN or infinity, so the comparison proves nothing"
        return "; ".join(mismatches)
    if not _are_separate(groups, disagreeing):
        pairs = [f"{verdict.first} and {verdict.second}" for verdict in verdicts if not verdict.agrees]
        return f"{'; '.join(dict.fromkeys(pairs))} disagree, by little more than the noise floor"
    *others, smallest = groups
    verb = "disagrees" if len(smallest) == 1 else "disagree"
    return f"{_listed(smallest)} {verb} with {'; and with '.join(map(_listed, others))}"


def _opinion_names(verdicts: list[Verdict]) -> list[str]:
    """Return the names of what was compared: "torch", "Keras", "ONNX of torch", "ONNX of Keras", then any other names.

    Args:
        verdicts: The comparisons, each of two runs.
    """
    names = {name for verdict in verdicts for name in (verdict.first, verdict.second)}
    known = (TORCH, KERAS, TORCH_ONNX, KERAS_ONNX)
    return [*(name for name in known if name in names), *sorted(names - {*known})]


def _disagreeing_pairs(verdicts: list[Verdict]) -> set[frozenset[str]]:
    return {frozenset((verdict.first, verdict.second)) for verdict in verdicts if not verdict.agrees}


def _are_separate(groups: list[tuple[str, ...]], disagreeing: set[frozenset[str]]) -> bool:
    """Return whether every run (of torch, Keras or an ONNX file) disagrees with all runs in the other groups.

    The result is False if the outputs of a run are close to those of two others that differ from each other.

    Args:
        groups: Groups of names of runs that agree.
        disagreeing: The pairs of names of runs that disagree.
    """
    for one_group, other_group in combinations(groups, 2):
        if any(frozenset(pair) not in disagreeing for pair in product(one_group, other_group)):
            return False
    return True


def suspected_part(verdicts: list[Verdict], exporters: Mapping[str, str]) -> str:
    """Return which part (exporter, backend, model) is the likely cause of a difference, in words; empty if unclear.

    Args:
        verdicts: The verdicts on all outputs.
        exporters: The exporter of each ONNX file, by "ONNX of torch" and "ONNX of Keras".
    """
    groups, disagreeing = agreeing_groups(verdicts), _disagreeing_pairs(verdicts)
    if len(groups) < 2 or not _are_separate(groups, disagreeing):
        return ""
    smallest, largest = set(groups[-1]), set(groups[0])
    for group in (smallest, largest):
        if group in ({TORCH_ONNX}, {KERAS_ONNX}) and frozenset((TORCH, KERAS)) not in disagreeing:
            name = next(iter(group))
            return f"the models agree, so look at the exporter ({exporters.get(name, name)}) or at onnxruntime"
    as_sets = {frozenset(group) for group in groups}
    if frozenset({TORCH, TORCH_ONNX}) in as_sets and frozenset({KERAS, KERAS_ONNX}) in as_sets:
        return "each model agrees with its own export: the two models differ"
    if frozenset({TORCH, KERAS}) in as_sets:
        return "the two models agree: look at the exporters, or at onnxruntime"
    if smallest == {KERAS} and largest == {TORCH, TORCH_ONNX, KERAS_ONNX}:
        return "Keras' own export agrees with torch: look at the Keras backend"
    if smallest == {TORCH} and largest == {KERAS, TORCH_ONNX, KERAS_ONNX}:
        return "torch's own export agrees with Keras: look at how torch runs the module"
    return ""


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
