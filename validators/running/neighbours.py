"""Recognise layer differences that a neighbouring layer compensates.

Layers are compared by their outputs. If one layer of a framework corresponds to two layers of the other (a transposed
convolution and a cropping, a layer and its activation), the outputs of the pair differ although the models compute the
same function.
"""

from collections.abc import Sequence

from keras3conv.numerics.difference import FLOAT64_LIMIT, Diff, compare
from keras3conv.validators.running.call_pairs import CallPair, probe_calls
from keras3conv.validators.running.isolated import nearest_input
from keras3conv.validators.running.output_pairs import output_pairs
from keras3conv.validators.running.subject import Subject

_CLEAR = 1e-6
"""The smallest relative difference of a compensated layer; a smaller difference counts as an error."""

NOTE = "no mistake: the next layer makes up for the difference, and the layers after it agree"


def compensated_pairs(subject: Subject) -> frozenset[tuple[str, str]]:
    """Return the layer pairs whose float64 outputs differ although later layers and the models' outputs agree.

    The result is empty unless every output of the models is floating point and agrees. A pair that differs is included
    if it is the last pair, if the next pair agrees, or if the next pair has the same input on both sides.
    """
    if not outputs_agree(subject):
        return frozenset()
    calls = probe_calls(subject)
    agree = [agrees_in_float64(call) for call in calls]
    compensated = set()
    for index, call in enumerate(calls):
        if agree[index] or not _differs_clearly(call):
            continue
        is_last = index + 1 == len(calls)
        if is_last or agree[index + 1] or _has_same_input(calls[index + 1]):
            compensated.add(call.key)
    return frozenset(compensated)


def outputs_agree(subject: Subject) -> bool:
    """Return whether all model outputs agree in float64.

    The result is False if an output is not floating point, because rounding to integers may hide a change.
    """
    pairs = output_pairs(subject.torch_probe, subject.keras_probe)
    return all(pair.keras_output.dtype.kind == "f" and agrees(pair.diff) for pair in pairs)


def agrees_in_float64(call: CallPair) -> bool:
    """Return whether both layers of a pair returned the same values, up to float64 rounding."""
    return agrees(call.diff)


def agrees(diff: Diff | None) -> bool:
    """Return whether a difference that was computed in float64 is within rounding; False if there is none to judge."""
    return diff is not None and diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0


def _differs_clearly(call: CallPair) -> bool:
    return call.diff is None or call.diff.max_rel > _CLEAR or call.diff.nonfinite > 0


def would_agree_in_isolation(calls: Sequence[CallPair]) -> bool:
    """Return whether, in the run of the whole models, all outputs agree and every Keras layer got torch's inputs.

    A run of every Keras layer on torch's inputs (in isolation) would then give the same values up to float64 rounding,
    and is not needed. An input that torch did not record is computed from outputs that agree.
    """
    return all(agrees_in_float64(call) and _had_torch_inputs(call) for call in calls)


def _had_torch_inputs(call: CallPair) -> bool:
    if call.torch_call is None or call.keras_call is None:
        return False
    for array in call.keras_call.inputs:
        torch_input = nearest_input(call.torch_call, array, call.order)
        if torch_input is not None and array.size and not agrees(compare(array, torch_input)):
            return False
    return True


def _has_same_input(call: CallPair) -> bool:
    if call.torch_call is None or call.keras_call is None or not call.keras_call.inputs:
        return False
    keras_input = call.keras_call.inputs[0]
    torch_input = nearest_input(call.torch_call, keras_input, call.order)
    if torch_input is None or keras_input.size == 0:
        return False
    return compare(keras_input, torch_input).max_rel <= FLOAT64_LIMIT
