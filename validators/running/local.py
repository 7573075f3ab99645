"""Every Keras layer alone: fed with what torch recorded, so that what differs is its own doing."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.frameworks.shared.layout import channels_last
from keras3conv.frameworks.shared.recording import Call, Recording
from keras3conv.transforms import Array, Arrays
from keras3conv.validators.running.meetings import in_keras_layout
from keras3conv.validators.running.subject import Subject

if TYPE_CHECKING:
    from keras3conv.frameworks.keras.local import Exchange


def local_run(subject: Subject) -> Recording:
    """What the Keras layers make, in their own dtype, of what torch recorded in its own."""
    from keras3conv.frameworks.keras import local as keras_local
    from keras3conv.frameworks.keras import model as keras_side

    with keras_side.precise():
        return keras_local.run_fed(subject.keras, subject.given.keras, exchange(subject, subject.torch_run))


def local_probe(subject: Subject) -> Recording:
    """The same in float64, under probe weights."""
    from keras3conv.frameworks.keras import local as keras_local
    from keras3conv.frameworks.keras import model as keras_side

    with keras_side.precise(), keras_side.float64_mode(subject.keras):
        keras_side.write(subject.keras, subject.keras_probe_weights)
        return keras_local.run_fed(subject.keras, subject.given.keras, exchange(subject, subject.torch_probe))


def exchange(subject: Subject, recorded: Recording) -> "Exchange":
    """Feeds every paired layer with torch's input, and hands torch's output on to the layers after it.

    What is handed on reaches the layers whose inputs torch does not have: behind a padding that Keras has as a layer
    of its own, behind an activation.
    """
    from keras3conv.frameworks.keras.local import Exchange

    pairs: Mapping[str, Pair] = {pair.keras: pair for pair in subject.pairs_in_order}

    def call_of(path: str, number: int) -> Call | None:
        calls = recorded.of(pairs[path].torch)
        return calls[number] if number < len(calls) else None

    def feed(path: str, number: int, given: Arrays) -> tuple[Array | None, ...]:
        call = call_of(path, number)
        return tuple(None if call is None else nearest_input(call, array) for array in given)

    def hand(path: str, number: int, made: Array) -> Array | None:
        call = call_of(path, number)
        if call is None:
            return None
        wanted = in_keras_layout(subject, pairs[path], call, made.shape)
        return wanted if wanted.shape == made.shape else None

    return Exchange(paths=frozenset(pairs), feed=feed, hand=hand)


def nearest_input(call: Call, given: Array) -> Array | None:
    """Of torch's inputs, in every layout that fits, the one that is nearest to what the Keras layer was given.

    Several fit where an image is square, or where query, key and value have one shape. Whole numbers stay what they
    are: no error travels with them, and a table of places may begin at another number on the other side.
    """
    if given.dtype.kind in "biu":
        return None
    fitting = [array for array in _layouts(call) if array.shape == given.shape and array.dtype.kind == given.dtype.kind]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    distances = [float(np.nanmax(np.abs(array.astype(np.float64) - given), initial=0.0)) for array in fitting]
    return fitting[int(np.argmin(distances))]


def _layouts(call: Call) -> Iterator[Array]:
    for array in call.inputs:
        yield array
        if array.ndim > 2:
            yield channels_last(array)
            yield np.swapaxes(array, 0, 1)
        elif call.flattened and array.ndim == 2:
            image = channels_last(array.reshape(len(array), *call.flattened))
            yield image.reshape(array.shape)
