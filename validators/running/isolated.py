"""Run every Keras layer on the inputs that torch recorded, so that differences of earlier layers have no effect."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.layout import channels_last, has_merged_axes
from keras3conv.frameworks.shared.recording import Call, Recording
from keras3conv.numerics.difference import FLOAT64_LIMIT
from keras3conv.numerics.rows import in_row_order
from keras3conv.transforms import Array, Arrays, Shape
from keras3conv.validators.running.call_pairs import order_of_rows, probe_calls
from keras3conv.validators.running.layouts import in_keras_layout
from keras3conv.validators.running.subject import Subject

if TYPE_CHECKING:
    from keras3conv.frameworks.keras.local import Exchange


def isolated_run(subject: Subject) -> Recording:
    """Run each Keras layer on the inputs that torch recorded, with the models' own dtype and weights."""
    from keras3conv.frameworks.keras import local as keras_local
    from keras3conv.frameworks.keras import model as keras_side

    exchanged = exchange(subject, subject.torch_run)
    with keras_side.precise():
        return keras_local.run_fed(subject.keras, subject.required_inputs.keras, exchanged)


def isolated_probe(subject: Subject, *, masked: bool = True) -> Recording:
    """Run each Keras layer on the inputs that torch recorded, in float64 with random weights.

    The layers get no masks if `masked` is False.
    """
    from keras3conv.frameworks.keras import local as keras_local
    from keras3conv.frameworks.keras import model as keras_side

    exchanged = replace(exchange(subject, subject.torch_probe), masked=masked)
    with keras_side.float64_weights(subject.keras, subject.keras_probe_weights):
        return keras_local.run_fed(subject.keras, subject.required_inputs.keras, exchanged)


def exchange(subject: Subject, recorded: Recording) -> "Exchange":
    """Return callbacks for a Keras run that replace inputs and outputs of paired layers by torch's `recorded` arrays.

    Outputs are replaced, too, because Keras layers without a pair receive them, such as a separate padding or
    activation layer, whose input torch did not record.

    The models run in float64, if they have not yet, so this function must not be called during another run.
    """
    from keras3conv.frameworks.keras.local import Exchange

    agreeing = _agreeing_calls(subject) if _outputs_are_near(subject) else None
    pairs: Mapping[str, Pair] = {pair.keras: pair for pair in subject.pairs_in_call_order}

    def torch_call(path: str, number: int) -> Call | None:
        calls = recorded.of(pairs[path].torch)
        return calls[number] if number < len(calls) else None

    @cache
    def order(path: str, number: int) -> Array | None:
        if agreeing is None or (path, number) in agreeing:
            return None
        return order_of_rows(subject, pairs[path], (number, number))

    def feed(path: str, number: int, keras_inputs: Arrays) -> tuple[Array | None, ...]:
        call = torch_call(path, number)
        if call is None:
            return (None,) * len(keras_inputs)
        return tuple(nearest_input(call, array, order(path, number)) for array in keras_inputs)

    def hand(path: str, number: int, keras_output: Array) -> Array | None:
        call = torch_call(path, number)
        if call is None:
            return None
        output = in_keras_layout(subject, pairs[path], call, keras_output.shape)
        rows = order(path, number)
        if rows is not None:
            output = in_row_order(output, rows, keras_output.shape)
        return output if output.shape == keras_output.shape else None

    return Exchange(paths=frozenset(pairs), feed=feed, hand=hand)


def _agreeing_calls(subject: Subject) -> frozenset[tuple[str, int]]:
    """Return the calls of Keras layers that agree in float64 with the same call in torch, row by row in the same order.

    Each is the path of the layer and the number of the call among those of this layer.
    """
    agreeing = set()
    for call in probe_calls(subject):
        if call.order is not None or call.diff is None or call.diff.max_rel > FLOAT64_LIMIT:
            continue
        calls = zip(subject.torch_probe.of(call.pair.torch), subject.keras_probe.of(call.pair.keras), strict=False)
        for number, (torch_call, keras_call) in enumerate(calls):
            if torch_call is call.torch_call and keras_call is call.keras_call:
                agreeing.add((call.pair.keras, number))
    return frozenset(agreeing)


def _outputs_are_near(subject: Subject) -> bool:
    """Return whether the outputs of the models are near in float64; False if a model cannot run in float64."""
    try:
        return subject.outputs_are_near
    except ModelError:
        return False


def nearest_input(call: Call, keras_input: Array, order: Array | None = None) -> Array | None:
    """Return the torch input that corresponds to a Keras input, in Keras' layout; None if no shape fits.

    The shape may fit several inputs (query, key and value) or layouts (a square image); the closest values are chosen.
    For integers the result is None: they have no rounding error, and indices may start at another number in Keras.

    Args:
        call: The call of the torch layer.
        keras_input: An input of the Keras layer.
        order: The order of the rows of torch's output in Keras (`row_order`), in which the rows of an input may be,
            too; None if it is the same.
    """
    if keras_input.dtype.kind in "biu":
        return None
    fitting = [
        array
        for array in _layouts(call, order, keras_input.shape)
        if array.shape == keras_input.shape and array.dtype.kind == keras_input.dtype.kind
    ]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    distances = [float(np.nanmax(np.abs(array.astype(np.float64) - keras_input), initial=0.0)) for array in fitting]
    return fitting[int(np.argmin(distances))]


def _layouts(call: Call, order: Array | None, keras_shape: Shape) -> Iterator[Array]:
    """Yield every torch input in the layouts that Keras' input may have.

    It is unchanged, with channels last, with time first, flattened in Keras' order, or with axes that torch merges and
    Keras does not (the heads of an attention), or the other way around.

    Args:
        call: The call of the torch layer.
        order: The order of the rows in Keras, in which every input is yielded, too; None if it is the same.
        keras_shape: The shape of the Keras input.
    """
    for array in call.inputs:
        yield array
        if order is not None:
            yield in_row_order(array, order, keras_shape)
        if array.ndim != len(keras_shape) and has_merged_axes(array.shape, keras_shape):
            yield array.reshape(keras_shape)
        if array.ndim > 2:
            yield channels_last(array)
            yield np.swapaxes(array, 0, 1)
        elif call.flattened and array.ndim == 2:
            image = channels_last(array.reshape(len(array), *call.flattened))
            yield image.reshape(array.shape)
