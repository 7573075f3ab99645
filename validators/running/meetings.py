"""The outputs of the layers of a pair, side by side, in one layout; and where two runs first part."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.frameworks.shared.layout import channels_last, output_of
from keras3conv.frameworks.shared.recording import Call, Recording
from keras3conv.rules.library import find
from keras3conv.transforms import Array, Shape
from keras3conv.validators.running.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """One call of a pair of layers: what each side computed, in Keras' layout.

    Attributes:
        pair: The pair.
        torch: What the torch layer returned.
        keras: What the Keras layer returned, or what went into its own activation.
        torch_call: The call on the torch side, in torch's layout.
        keras_call: The call on the Keras side.
        odd: Why there is nothing to compare, in words; empty if there is.
    """

    pair: Pair
    torch: Array | None = None
    keras: Array | None = None
    torch_call: Call | None = None
    keras_call: Call | None = None
    odd: str = ""


def meetings(subject: Subject, torch: Recording, keras: Recording) -> Iterator[Meeting]:
    """Every call of every pair of layers that runs, in the order in which torch calls them."""
    for pair in subject.pairs_in_order:
        first, second = torch.of(pair.torch), keras.of(pair.keras)
        if not second and _is_distributed(subject, pair.keras):
            continue
        if len(first) != len(second):
            odd = f"runs {len(first)} times in torch and {len(second)} times in Keras"
            yield Meeting(pair=pair, odd=odd)
            continue
        for torch_call, keras_call in zip(first, second, strict=True):
            yield _meeting(subject, pair, torch_call, keras_call)


def _is_distributed(subject: Subject, path: str) -> bool:
    """Whether a Keras layer is in a TimeDistributed, which calls it so that nobody sees it: its own output tells."""
    whole = subject.keras_layers.get(path.rpartition("/")[0])
    return whole is not None and whole.kind == "keras.layers.TimeDistributed"


def in_keras_layout(subject: Subject, pair: Pair, torch_call: Call, keras_shape: Shape) -> Array:
    """What the torch layer of a pair returned, as the Keras layer returns it."""
    torch_config, keras_config = subject.torch_layers[pair.torch].config, subject.keras_layers[pair.keras].config
    found = output_of(torch_call.outputs, find(pair.rule), torch_config, keras_config, keras_shape)
    # A class that is made from torch's own may move the channels before and after what that one does.
    fits = found.shape == keras_shape or channels_last(found).shape != keras_shape
    return _for_every_sample(found if fits else channels_last(found), keras_shape)


def _meeting(subject: Subject, pair: Pair, torch_call: Call, keras_call: Call) -> Meeting:
    theirs = keras_call.outputs[0] if keras_call.before_activation is None else keras_call.before_activation
    theirs = _part(subject, pair, theirs)
    ours = _nearest(_as_split(in_keras_layout(subject, pair, torch_call, theirs.shape), theirs.shape), theirs)
    theirs = _for_every_sample(theirs, ours.shape)
    odd = ""
    if ours.shape != theirs.shape:
        odd = f"returns {torch_call.outputs[0].shape} in torch and {theirs.shape} in Keras"
    return Meeting(pair=pair, torch=ours, keras=theirs, torch_call=torch_call, keras_call=keras_call, odd=odd)


def _as_split(ours: Array, shape: Shape) -> Array:
    """A layer's output with the axes between the batch and the channels split or merged as the other side has them.

    One side has the places of an image in a row, the other in rows and columns.
    """
    between = ours.ndim > 1 and len(shape) > 1 and (ours.shape[0], ours.shape[-1]) == (shape[0], shape[-1])
    return ours.reshape(shape) if between and ours.size == np.prod(shape) else ours


def _for_every_sample(array: Array, shape: Shape) -> Array:
    """What one side has once (a table of places), for every sample of the batch, where the other side has it so."""
    rest = array.shape[1:] if array.shape[:1] == (1,) else array.shape
    once = len(shape) > 1 and array.shape != shape and rest == shape[1:]
    return np.broadcast_to(array, shape) if once else array


def _nearest(ours: Array, theirs: Array) -> Array:
    """A layer's output, with the channels moved where that is nearer to the other side's and the sizes do not tell."""
    other = channels_last(ours)
    if ours.ndim < 3 or not ours.shape == other.shape == theirs.shape:
        return ours
    first, second = (float(np.nanmax(np.abs(array.astype(np.float64) - theirs))) for array in (ours, other))
    return other if second < first else ours


def _part(subject: Subject, pair: Pair, keras_output: Array) -> Array:
    """What the Keras layer of a pair returned, without what a layer after it cuts off."""
    part = find(pair.rule).part
    if part is None:
        return keras_output
    torch_config, keras_config = subject.torch_layers[pair.torch].config, subject.keras_layers[pair.keras].config
    return part(keras_output, torch_config or {}, keras_config or {})
