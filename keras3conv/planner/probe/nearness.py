"""Rank candidate torch layers for a Keras layer by input match, call order and name similarity."""

from collections import Counter
from collections.abc import Mapping
from enum import IntEnum

from keras3conv.numerics.fingerprint import EXACT, Fingerprint, fingerprint_of
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.record import MANY, TorchRun
from keras3conv.planner.probe.trail import Trail
from keras3conv.transforms import Array

SAME_LIMIT = 1e-9
"""The largest relative difference between the fingerprints of two arrays that are equal up to rounding."""

CLOSE_LIMIT = 1e-4
"""The largest relative difference between fingerprints of outputs of layers that differ in a constant (epsilon)."""


class InputMatch(IntEnum):
    """The agreement of a Keras layer's input with the recorded input of a torch layer.

    SAME: equal up to rounding. CLOSE: equal up to a relative difference of `CLOSE_LIMIT`. OTHER: different.
    """

    SAME = 0
    CLOSE = 1
    OTHER = 2


def match_input(run: TorchRun, candidate: Candidate, fingerprint: Fingerprint | None) -> InputMatch:
    """Compare the fingerprint of a Keras layer's input with those of the inputs of a candidate's first torch layer.

    Return the best agreement; OTHER if the Keras layer has no input.

    Args:
        run: The recorded torch run.
        candidate: The candidate.
        fingerprint: The fingerprint of the Keras layer's first input; None if it has none.
    """
    if fingerprint is None:
        return InputMatch.OTHER
    recorded = [entry for call in run.calls_of(candidate.layers[0].path) for entry in call.inputs]
    if any(entry.agrees(fingerprint, SAME_LIMIT) for entry in recorded):
        return InputMatch.SAME
    return InputMatch.CLOSE if any(entry.agrees(fingerprint, CLOSE_LIMIT) for entry in recorded) else InputMatch.OTHER


def distance(
    run: TorchRun, trail: Trail, candidate: Candidate, fingerprint: Fingerprint | None
) -> tuple[InputMatch, bool, int]:
    """Return the sort key of a candidate for one Keras variable, by the torch module that owns the candidate's tensors.

    The most plausible candidate has the smallest key. The key has three items: the agreement of the Keras layer's input
    with the inputs of the module, True if the torch layer that was chosen last is outside of the module, and the
    negated depth of the module in the module tree.

    Args:
        run: The recorded torch run.
        trail: The choices so far, which show the torch layer that was chosen last.
        candidate: The candidate.
        fingerprint: The fingerprint of the Keras layer's first input; None if it has none.
    """
    if fingerprint is None:
        return InputMatch.OTHER, True, 0
    owner, match = candidate.owner, match_input(run, candidate, fingerprint)
    if len(candidate.layers) > 1:
        inside = [call for path in run.calls if path.startswith(f"{owner}.") for call in run.calls_of(path)]
        same = any(entry.agrees(fingerprint, SAME_LIMIT) for call in inside for entry in call.inputs)
        match, owner = InputMatch.SAME if same else InputMatch.OTHER, owner.rpartition(".")[0]
    return match, is_outside(trail, owner), -owner.count(".")


def is_outside(trail: Trail, owner: str) -> bool:
    """Return whether the torch layer of the latest choice lies outside the torch module with the path `owner`."""
    last = next((choice.candidate.owner for choice in reversed(trail.choices.values())), "")
    return bool(owner) and not f"{last}.".startswith(f"{owner}.")


def count_shared_words(torch: str, keras: str) -> int:
    """Return how many words of a torch path are also in a Keras path; numbers do not count as words."""
    first, second = (Counter(word for word in names.words(path) if not word.isdigit()) for path in (torch, keras))
    return (first & second).total()


def name_distance(torch: str, keras: str) -> tuple[bool, int]:
    """Return a sort key for the difference of two names; smaller keys are more similar.

    The key has two items: whether the names express different functions (query, key), and the negated number of words
    that both names have.
    """
    meanings = {names.meaning(torch), names.meaning(keras.rpartition("/")[0]), names.meaning(keras)} - {""}
    return len(meanings) > 1, -count_shared_words(torch, keras)


def uses_other_tensors(first: Candidate, second: Candidate) -> bool:
    """Return whether two candidates for a Keras layer use different torch tensors, or join them in another order."""
    if first.kind == "joined":
        return first.slices != second.slices
    return set(first.slices) != set(second.slices)


def find_recorded(run: TorchRun, array: Array) -> int | None:
    """Find a value recorded in torch that equals an array, and return the weights it depends on: one bit per weight.

    The recorded values are the outputs of the torch model and the inputs of its layers. Return None if no recorded
    value equals the array.
    """
    found = fingerprint_of(array)
    for output in run.outputs.values():
        if fingerprint_of(output).agrees(found, output_limit(run)):
            return run.output_dependencies
    for calls in run.calls.values():
        for call in calls[:MANY]:
            if any(entry.agrees(found, SAME_LIMIT) for entry in call.inputs):
                return call.dependencies
    return None


def outputs_are_swapped(run: TorchRun, outputs: Mapping[str, Array]) -> bool:
    """Return whether outputs of the two models are swapped: a Keras output equals a torch output of another name.

    Return False if the outputs of the two models have different names.

    Args:
        run: The recorded torch run.
        outputs: The Keras outputs by name; outputs in a tuple have no names, only positions.
    """
    if outputs.keys() != run.outputs.keys() or all(name.partition(".")[0].isdigit() for name in outputs):
        return False
    recorded = {name: fingerprint_of(array) for name, array in run.outputs.items()}
    for name, array in outputs.items():
        found = fingerprint_of(array)
        if not recorded[name].agrees(found, output_limit(run)):
            return any(other.agrees(found, output_limit(run)) for other in recorded.values())
    return False


def output_limit(run: TorchRun) -> float:
    """Return the largest relative error at which a Keras output counts as equal to the torch output of this run."""
    return SAME_LIMIT if run.limit == EXACT else run.limit
