"""Layers and operations that move axes and values about."""

from collections.abc import Sequence
from math import prod

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import axes_of, dims, with_new, without
from keras3conv.builder.operations.reshaping import kept_order
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.graph import Shape, Size


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
    """Axes are moved only where the reshape mixes them; an image of one pixel is made as torch has images."""
    given, shape = call.tensor, call.node.outputs[0].shape
    if _is_indexed(call, given, shape):
        return
    order = kept_order(given, shape)
    if order is None:
        given, order = call.keras_order(given), identity(len(shape))
    if len(shape) > 3 and set(shape[1:-1]) == {1} and order == identity(len(shape)):
        order = channels_first(len(shape))
    call.returns(f"{{0}}.reshape({reshaped_sizes(call, [shape[axis] for axis in order])})", [given], order)


def _is_indexed(call: Call, given: Value, shape: Shape) -> bool:
    """Writes an index with None where the reshape does nothing but add axes of one place."""
    places = [axis for axis in given.order if given.shape[axis] != 1]
    index = _only_new_axes(given, shape)
    if places != sorted(places) or not index:
        return False
    order = channels_first(len(shape)) if len(shape) > 3 and shape[-1] != 1 else identity(len(shape))
    kept = [axis for axis in order if index[axis] == ":"]
    if kept != sorted(kept):
        return False
    call.returns(f"{{0}}[{', '.join(index[axis] for axis in order)}]", [call.keras_order(given)], order)
    return True


def reshaped_sizes(call: Call, sizes: Sequence[int | Size]) -> str:
    """Sizes for a reshape: one that cannot be told is -1."""
    unknown = [isinstance(size, Size) and "unknown" in size.symbols for size in sizes]
    if sum(unknown) != 1:
        return call.sizes(sizes)
    return ", ".join("-1" if one else call.size(size) for one, size in zip(unknown, sizes, strict=True))


@handles("keras.ops.ravel")
def _ravel(call: Call) -> None:
    call.returns("{0}.flatten()", [call.keras_order(call.tensor)])


@handles("keras.layers.Permute")
def _permute(call: Call) -> None:
    _transposed(call, (0, *call.get("dims")))


@handles("keras.ops.transpose")
def _transpose(call: Call) -> None:
    rank = call.tensor.rank
    _transposed(call, tuple(call.get("axes") or reversed(range(rank))))


@handles("keras.ops.swapaxes")
def _swapaxes(call: Call) -> None:
    axes = list(range(call.tensor.rank))
    first, second = call["axis1"] % len(axes), call["axis2"] % len(axes)
    axes[first], axes[second] = axes[second], axes[first]
    _transposed(call, tuple(axes))


@handles("keras.ops.moveaxis")
def _moveaxis(call: Call) -> None:
    rank = call.tensor.rank
    sources, targets = axes_of(call["source"], rank), axes_of(call["destination"], rank)
    axes = [axis for axis in range(rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        axes.insert(target, source)
    _transposed(call, tuple(axes))


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


@handles("keras.ops.expand_dims")
def _expand_dims(call: Call) -> None:
    given, rank = call.tensor, len(call.node.outputs[0].shape)
    template, order = "{0}", given.order
    for axis in sorted(axes_of(call["axis"], rank)):
        order, place = with_new(order, axis)
        template = f"{template}.unsqueeze({place})"
    call.returns(template, [given], order)


@handles("keras.ops.squeeze")
def _squeeze(call: Call) -> None:
    given, axis = call.tensor, call["axis"]
    single = tuple(place for place, size in enumerate(given.shape) if size == 1)
    axes = single if axis is None else axes_of(axis, given.rank)
    if not axes:
        call.passes(given)
        return
    call.returns(f"{{0}}.squeeze({dims(given, axes)})", [given], without(given.order, axes))


def _in_front(order: Order, count: int) -> Order:
    """The order with new axes in front."""
    return (*range(count), *(axis + count for axis in order))


@handles("keras.ops.broadcast_to")
def _broadcast_to(call: Call) -> None:
    given, shape = call.tensor, call.node.outputs[0].shape
    order = _in_front(given.order, len(shape) - given.rank)
    call.returns(f"{{0}}.expand({call.sizes([shape[axis] for axis in order])})", [given], order)


@handles("keras.ops.tile")
def _tile(call: Call) -> None:
    given, repeats = call.tensor, call["repeats"]
    repeats = [repeats] if isinstance(repeats, int) else list(repeats)
    repeats = [1] * (given.rank - len(repeats)) + repeats
    order = _in_front(given.order, len(repeats) - given.rank)
    call.returns(f"{{0}}.repeat({call.sizes([repeats[axis] for axis in order])})", [given], order)


@handles("keras.ops.repeat")
def _repeat(call: Call) -> None:
    given, repeats, axis = call.tensor, call["repeats"], call["axis"]
    if axis is None:
        given = call.step("{0}.flatten()", [call.keras_order(given)], shape=(0,), order=(0,))
        axis = 0
    place = given.place(axis)
    if isinstance(repeats, int | Size):
        count = call.size(repeats)
    elif isinstance(repeats, tuple | list) and all(isinstance(one, int) for one in repeats):
        count = str(repeats[0])
        if len(repeats) > 1:
            count = f"torch.tensor([{', '.join(map(str, repeats))}], device={{0}}.device)"
    else:
        raise call.refuse("how often each value is repeated must be known: the size of what is returned depends on it")
    call.returns(f"{{0}}.repeat_interleave({count}, dim={place})", [given], given.order)


@handles("keras.ops.flip")
def _flip(call: Call) -> None:
    given = call.tensor
    call.returns(f"{{0}}.flip({dims(given, axes_of(call['axis'], given.rank))})", [given], given.order)


@handles("keras.ops.fliplr", "keras.ops.flipud")
def _flip_one(call: Call) -> None:
    given = call.tensor
    call.returns(f"{{0}}.flip({given.place(1 if call.node.kind.endswith('lr') else 0)})", [given], given.order)


@handles("keras.ops.roll")
def _roll(call: Call) -> None:
    given, shift, axis = call.tensor, call["shift"], call["axis"]
    if axis is None:
        given = call.keras_order(given)
        call.returns(f"{{0}}.roll({shift})", [given])
        return
    axes = axes_of(axis, given.rank)
    places = ", ".join(str(given.place(one)) for one in axes)
    shifts = ", ".join(map(call.size, shift if isinstance(shift, tuple | list) else [shift] * len(axes)))
    shown = f"{shifts}, {places}" if len(axes) == 1 else f"({shifts}), ({places})"
    call.returns(f"{{0}}.roll({shown})", [given], given.order)


@handles("keras.ops.rot90")
def _rot90(call: Call) -> None:
    given = call.tensor
    pair = ", ".join(str(given.place(axis)) for axis in call["axes"])
    call.returns(f"torch.rot90({{0}}, {call['k']}, ({pair}))", [given], given.order)
