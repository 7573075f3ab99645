"""Layers and operations that move axes and values about."""

from math import prod

from keras3conv.builder.call import Call, handles
from keras3conv.builder.program import Value, channels_first, identity
from keras3conv.graph import Shape


@handles("keras.layers.Flatten")
def _flatten(call: Call) -> None:
    given = call.tensor
    if call.get("data_format") == "channels_first":
        raise call.refuse("data_format='channels_first' is not supported")
    if given.rank == 2:
        call.passes(given)
        return
    in_order = given.order == identity(given.rank)
    channels, *rest = given.torch_shape[1:]
    if not in_order and all(isinstance(size, int) for size in given.shape[1:]):
        sizes = (channels, *rest)
        if channels == 1 or prod(rest) == 1:  # type: ignore[arg-type]
            call.returns("{0}.flatten(1)", [given])
            return
        if given.order[1] == given.rank - 1 and call.only_a_kernel_sees_it:
            comment = "Keras flattens with the channels last; the columns of the next Linear are in this order instead."
            call.returns("{0}.flatten(1)", [given], comment=comment, flattened=tuple(sizes))  # type: ignore[arg-type]
            return
    call.returns("{0}.flatten(1)", [call.keras_order(given)])


@handles("keras.layers.Reshape", "keras.ops.reshape")
def _reshape(call: Call) -> None:
    """Axes of one place may stand anywhere: nothing is moved for them, and an image of one pixel is made as torch's."""
    given, shape = call.tensor, call.node.outputs[0].shape
    places = [axis for axis in given.order if given.shape[axis] != 1]
    if places != sorted(places):
        given = call.keras_order(given)
    if index := _only_new_axes(given, shape):
        order = channels_first(len(shape)) if len(shape) > 3 and shape[-1] != 1 else identity(len(shape))
        marks = [index[axis] for axis in order]
        if [axis for axis in order if index[axis] == ":"] == [axis for axis in range(len(shape)) if index[axis] == ":"]:
            call.returns(f"{{0}}[{', '.join(marks)}]", [call.keras_order(given)], order)
            return
    one_pixel = len(shape) > 3 and set(shape[1:-1]) == {1}
    order = channels_first(len(shape)) if one_pixel else identity(len(shape))
    call.returns(f"{{0}}.reshape({call.sizes([shape[axis] for axis in order])})", [given], order)


@handles("keras.layers.Permute")
def _permute(call: Call) -> None:
    _transposed(call, (0, *call.get("dims")))


@handles("keras.ops.transpose")
def _transpose(call: Call) -> None:
    rank = call.tensor.rank
    _transposed(call, tuple(call.get("axes") or reversed(range(rank))))


def _transposed(call: Call, axes: tuple[int, ...]) -> None:
    """Nothing is moved: the axes get other names, and what needs them elsewhere moves them."""
    given = call.tensor
    axes = tuple(axis % given.rank for axis in axes)
    call.passes(given, tuple(axes.index(axis) for axis in given.order))


def _only_new_axes(given: Value, shape: Shape) -> list[str]:
    """What stands for each axis of a shape in an index, if it is the given one with axes of one place in between."""
    left = list(given.shape)
    marks = []
    for size in shape:
        if left and size == left[0]:
            marks.append(":")
            left.pop(0)
        elif size == 1:
            marks.append("None")
        else:
            return []
    return marks if not left and "None" in marks else []
