"""Find out why the outputs of a layer pair, or of the two models, differ: name the cause.

Torch is rerun up to the first layer that differs, with one change after another (another epsilon, another gate order,
no activation). A change is the cause only if torch then computes Keras' values up to rounding. The limit for rounding
is that of the proof that failed: a fixed one in float64, the measured rounding error in the models' own dtype.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.layout import channels_last, like_keras, output_like_keras
from keras3conv.frameworks.shared.recording import Call
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.numerics.rows import in_row_order
from keras3conv.rules.library import find
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.causes import Explanation, find_cause
from keras3conv.validators.diagnosis.divergence import Divergence, largest_difference, runs_within_limit
from keras3conv.validators.diagnosis.facts import case_of
from keras3conv.validators.diagnosis.lines import lines_in_keras, lines_in_torch
from keras3conv.validators.running.call_pairs import CallPair
from keras3conv.validators.running.determinism import nondeterminism
from keras3conv.validators.running.layouts import in_keras_layout
from keras3conv.validators.running.output_pairs import OutputPair
from keras3conv.validators.running.rounded_constants import LARGEST, float32_constants
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.transferred import is_transferred

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.calls import Operation
    from keras3conv.frameworks.torch.replay import Replayed, Stage, Target

_SIMILAR = 0.1
"""Two arrays are similar if they differ by less than this fraction of the largest value."""

_CLEAR = 100
"""How many times larger than rounded constants a difference is that has another cause."""

INPUT_DIFFERS = "its input already differs"
"""The start of the cause if the difference arises between two layers."""

_SAME_INPUT = 1e-3
"""Largest difference between two inputs that count as equal, relative to the difference of the outputs."""


def explain_layer(
    subject: Subject, call: CallPair, weights: Mapping[str, Array] | None, *, briefly: bool = False
) -> Explanation | None:
    """Return why the outputs of a layer pair differ; None if no suspect (known kind of mistake) explains it.

    Args:
        subject: The two models.
        call: The call of the layer pair.
        weights: Torch's tensors in this run, by path; None for the module's own, in its own dtype.
        briefly: Whether to search only the operations since the last layer that agreed, for a single cause.
    """
    torch_call, keras_call = call.torch_call, call.keras_call
    if torch_call is None or keras_call is None or not torch_call.inputs or not keras_call.inputs:
        return None
    assert call.torch_output is not None
    assert call.keras_output is not None
    keras_shape = call.keras_output.shape
    pair, rule = call.pair, find(call.pair.rule)
    configs = subject.torch_layers[pair.torch].config or {}, subject.keras_layers[pair.keras].config or {}
    keras_input = keras_call.inputs[0]

    def input_like_keras(array: Array) -> Array:
        array = _flattened_like_keras(like_keras(array, rule, *configs), torch_call, keras_call)
        if call.order is not None:
            array = in_row_order(array, call.order, keras_input.shape)
        return _with_channels_last(_with_axes_of(array, keras_input), keras_input)

    def replayed_input(replayed: "Replayed") -> Array:
        return input_like_keras(replayed.inputs[0])

    def replayed_output(replayed: "Replayed") -> Array:
        replayed_call = Call(path=pair.torch, place=0, inputs=replayed.inputs, outputs=replayed.outputs)
        return call.in_same_layout(in_keras_layout(subject, pair, replayed_call, keras_shape))

    torch_input = input_like_keras(torch_call.inputs[0])
    output_difference = largest_difference(call.torch_output, call.keras_output)
    in_layer = (
        torch_input.dtype.kind in "iu"  # shifted indices are a mistake of the embedding layer
        or torch_input.shape != keras_input.shape
        or largest_difference(torch_input, keras_input) <= _SAME_INPUT * output_difference
    )
    torch_value, keras_value = (call.torch_output, call.keras_output) if in_layer else (torch_input, keras_input)
    divergence = Divergence(
        stage=_stage(subject, weights),
        target=_target(subject, torch_call, deployed=weights is None),
        torch_value=torch_value,
        keras_value=keras_value,
        extract=replayed_output if in_layer else replayed_input,
        float64=weights is not None,
        flattened=torch_call.flattened,
        limit=_limit(subject, torch_value, keras_value),
    )
    explanation = _search(subject, divergence, pair.torch, pair.keras, in_layer=in_layer, briefly=briefly)
    if explanation is None and in_layer and torch_input.size != keras_input.size:
        # One side pads inside the layer, so the inputs cannot be compared: they may differ already.
        explanation = _search(subject, divergence, pair.torch, pair.keras, in_layer=False, briefly=briefly)
    if explanation is None:
        return _other_weights(subject, pair, weights) if in_layer else _earlier_cause(pair)
    return explanation


def _other_weights(subject: Subject, pair: Pair, weights: Mapping[str, Array] | None) -> Explanation | None:
    """Return the explanation that the layers of a pair have different weights of their own; None if they do not."""
    if weights is not None or is_transferred(subject, pair):
        return None
    return Explanation(cause="it has other weights in Keras: see roundtrip", is_found=False)


def _earlier_cause(pair: Pair) -> Explanation:
    cause = (
        f"{INPUT_DIFFERS}: the cause is an earlier layer or operation without weights "
        f"(an activation, a pooling, a padding, an addition); compare the inputs of {pair.torch} in torch and of "
        f"{pair.keras} in Keras"
    )
    return Explanation(cause=cause, is_found=False)


def explain_output(subject: Subject, pair: OutputPair, weights: Mapping[str, Array] | None) -> Explanation | None:
    """Return why a model output differs although all layers agree; None if no suspect explains it.

    Args:
        subject: The two models.
        pair: The output.
        weights: Torch's tensors in this run, by path; None for the module's own, in its own dtype.
    """
    from keras3conv.frameworks.torch.replay import Target

    run = subject.torch_run if weights is None else subject.torch_probe
    index = list(run.outputs).index(pair.keys[0])
    divergence = Divergence(
        stage=_stage(subject, weights),
        target=Target(),
        torch_value=pair.torch_output,
        keras_value=pair.keras_output,
        extract=lambda replayed: output_like_keras(replayed.outputs[index], pair.keras_output.shape)[0],
        float64=weights is not None,
        limit=_limit(subject, pair.torch_output, pair.keras_output),
    )
    return _search(subject, divergence, "", "", in_layer=False)


def _limit(subject: Subject, torch_value: Array, keras_value: Array) -> float:
    """Return the relative difference in float64 that may remain after a cause is removed.

    It is larger if one side rounds constants to float32: they remain different in a rerun of torch, and are no cause of
    a difference that is far larger.
    """
    if torch_value.shape != keras_value.shape or torch_value.dtype.kind != "f" or not torch_value.size:
        return FLOAT64_LIMIT
    is_clear = compare(keras_value, torch_value).max_rel > _CLEAR * LARGEST
    return LARGEST if is_clear and float32_constants(subject) else FLOAT64_LIMIT


def _flattened_like_keras(array: Array, torch_call: Call, keras_call: Call) -> Array:
    """Return values that torch flattened in the order in which Keras flattens them: channels last.

    The values are unchanged if a call does not record the shape before its flatten.
    """
    torch_shape, keras_shape = torch_call.flattened, keras_call.flattened
    if not torch_shape or not keras_shape or array.ndim != 2 or (*torch_shape[1:], torch_shape[0]) != keras_shape:
        return array
    return np.moveaxis(array.reshape(-1, *torch_shape), 1, -1).reshape(array.shape)


def _with_channels_last(array: Array, like: Array) -> Array:
    """Return torch's `array` with channels last if only then it has the shape of Keras' `like`; else unchanged."""
    if array.ndim <= 2 or array.shape == like.shape:
        return array
    moved = channels_last(array)
    return moved if moved.shape == like.shape else array


def _with_axes_of(array: Array, like: Array) -> Array:
    """Return torch's `array` in the shape of Keras' `like` (heads split, axes merged), if the values are similar."""
    if array.shape == like.shape or array.size != like.size or array.dtype.kind not in "fiu":
        return array
    reshaped = array.reshape(like.shape)
    is_similar = largest_difference(reshaped, like) <= _SIMILAR * float(np.max(np.abs(like), initial=0.0))
    return reshaped if is_similar else array


def _stage(subject: Subject, weights: Mapping[str, Array] | None) -> "Stage":
    from keras3conv.frameworks.torch.replay import Stage

    return Stage(module=subject.torch, inputs=subject.required_inputs.torch, tensors=weights)


def _target(subject: Subject, call: Call, *, deployed: bool) -> "Target":
    from keras3conv.frameworks.torch.replay import Target

    run = subject.torch_run if deployed else subject.torch_probe
    places = [other.place for other in run.of(call.path)]
    return Target(path=call.path, call=places.index(call.place))


def _search(
    subject: Subject, divergence: Divergence, torch_path: str, keras_path: str, *, in_layer: bool, briefly: bool = False
) -> Explanation | None:
    """Return the cause of a difference; None if no suspect (known kind of mistake) explains it.

    The operations of torch since the last layer that agreed are searched first, then all operations before the
    difference.

    Args:
        subject: The two models.
        divergence: The point where they differ.
        torch_path: The path of the torch layer there; empty at the end of the model.
        keras_path: The path of the Keras layer.
        in_layer: Whether the layer itself differs; False if its input already differs.
        briefly: Whether to search only the first of these groups of operations, for a single cause.
    """
    from keras3conv.validators.diagnosis.suspects.base import Point

    if any(nondeterminism(subject)):
        return None  # a cause that explains these values would not explain those of the next call
    try:
        replayed = divergence.stage.replay(divergence.target, float64=divergence.float64, listing=True)
    except ModelError:
        return None
    point = Point(torch_path=torch_path, keras_path=keras_path, in_layer=in_layer)
    divergence = replace(divergence, runs=runs_within_limit(replayed.operations))
    before = tuple(operation for operation in replayed.operations if operation.place < replayed.began)
    for operations, upstream in _windows(subject, replayed, before, in_layer=in_layer, at_end=not torch_path):
        case = case_of(subject, divergence, point, before, operations, upstream)
        explanation = find_cause(divergence, case, single=briefly)
        if explanation is not None or briefly:
            return None if explanation is None else _for_models(subject, explanation)
    return None


def _for_models(subject: Subject, explanation: Explanation) -> Explanation:
    """Return an explanation with the lines to paste for the two models, and the side that a transfer wrote."""
    return replace(
        explanation,
        fix=lines_in_torch(subject, explanation.fix),
        keras=lines_in_keras(subject, explanation.keras),
        port=subject.port,
    )


def _windows(
    subject: Subject, replayed: "Replayed", before: "tuple[Operation, ...]", *, in_layer: bool, at_end: bool
) -> "Iterator[tuple[tuple[Operation, ...], tuple[Operation, ...]]]":
    """Yield the groups of torch operations in which to search a cause, with the operation before each group.

    If the layer itself differs, its own operations are the only group. Otherwise, the first group starts after the last
    paired layer, which agrees, and the second group has all operations before the layer. At the end of the model, there
    is only one group.

    Args:
        subject: The two models.
        replayed: The torch operations up to the difference, with the positions at which layers begin and end.
        before: The operations before the layer.
        in_layer: Whether the layer itself differs.
        at_end: Whether the difference is at the end of the model.
    """
    if in_layer:
        yield tuple(operation for operation in replayed.operations if operation.place >= replayed.began), ()
        return
    ends = [replayed.ended[pair.torch] for pair in subject.plan.pairs if pair.torch in replayed.ended]
    last_agreeing = max((place for place in ends if place <= replayed.began), default=0)
    recent = tuple(operation for operation in before if operation.place >= last_agreeing)
    earlier = [operation for operation in before if operation.place < last_agreeing and operation.result is not None]
    yield recent, (*earlier[-1:], *recent)
    if len(recent) < len(before) and not at_end:
        yield before, before
