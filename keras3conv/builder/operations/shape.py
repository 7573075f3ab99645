"""Convert layers and operations that reshape, permute or repeat tensors."""

from collections.abc import Sequence
from math import prod
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import axes_of, device_of, dims, in_front, torch, with_new, without
from keras3conv.builder.operations.indexing import ALL
from keras3conv.builder.operations.reshaping import kept_order
from keras3conv.builder.program.operation import Expression
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.graph import Shape, Size


@handles("keras.layers.Flatten")
def _flatten(call: Call) -> None:
    given = call.tensor
    if call.get("data_format") == "channels_first":
        raise call.refuse(
            "Flatten with data_format='channels_first' is not supported: use channels_last, with a Permute before it"
        )
    if given.rank == 2:
        call.passes(given)
        return
    if given.order == identity(given.rank) or not all(isinstance(size, int) for size in given.shape[1:]):
        call.returns(call.keras_order(given).method("flatten", 1))
        return
    sizes = tuple(size for size in given.target_shape[1:] if isinstance(size, int))
    if sizes[0] == 1 or prod(sizes[1:]) == 1:
        call.returns(given.method("flatten", 1))
    elif given.order[1] == given.rank - 1 and call.builder.only_dense_uses(call.node.outputs[0].name):
        comment = "Keras flattens channels-last; the columns of the next Linear are reordered instead."
        call.returns(given.method("flatten", 1), comment=comment, flattened=sizes)
    else:
        call.returns(call.keras_order(given).method("flatten", 1))


@handles("keras.layers.Reshape", "keras.ops.reshape")
def _reshape(call: Call) -> None:
    """Convert a reshape; the input is permuted only if the reshape mixes axes.

    If all axes between batch and channels have size 1, the result is treated as an image and gets channels-first order.
    """
    given, shape = call.tensor, call.shape
    if _is_indexed(call, given, shape):
        return
    order = kept_order(given, shape)
    if order is None:
        given, order = call.keras_order(given), identity(len(shape))
    if len(shape) > 3 and set(shape[1:-1]) == {1} and order == identity(len(shape)):
        order = channels_first(len(shape))
    call.returns(given.method("reshape", *_reshaped_sizes(call, [shape[axis] for axis in order])), order)


def _is_indexed(call: Call, tensor: Value, shape: Shape) -> bool:
    """Convert a reshape to an index such as `x[:, None]`, if it only adds axes of size 1; else do nothing.

    Returns:
        True if the reshape was converted.
    """
    axes = [axis for axis in tensor.order if tensor.shape[axis] != 1]
    index = _only_new_axes(tensor, shape)
    if axes != sorted(axes) or not index:
        return False
    order = channels_first(len(shape)) if len(shape) > 3 and shape[-1] != 1 else identity(len(shape))
    kept = [axis for axis in order if index[axis] is not None]
    if kept != sorted(kept):
        return False
    call.returns(call.keras_order(tensor)[tuple(index[axis] for axis in order)], order)
    return True


def _only_new_axes(tensor: Value, shape: Shape) -> list[Any]:
    """Return the index, such as `[:, None]`, that turns a value into the given shape by new axes of size 1.

    The index is empty if the shapes differ by more than new axes of size 1.
    """
    left = list(tensor.shape)
    index: list[Any] = []
    for size in shape:
        if left and size == left[0]:
            index.append(ALL)
            left.pop(0)
        elif size == 1:
            index.append(None)
        else:
            return []
    return index if not left and None in index else []


def _reshaped_sizes(call: Call, sizes: Sequence[int | Size]) -> tuple[int | Size, ...]:
    """Return the sizes for torch's reshape; one size that cannot be computed from the input sizes becomes -1.

    Raises:
        RuleError: Several sizes cannot be computed from the sizes of the inputs.
    """
    unknown = [isinstance(size, Size) and "unknown" in size.symbols for size in sizes]
    if sum(unknown) != 1:
        return call.sizes(sizes)
    return tuple(-1 if one else call.size(size) for one, size in zip(unknown, sizes, strict=True))


@handles("keras.ops.ravel")
def _ravel(call: Call) -> None:
    call.returns(call.keras_order(call.tensor).method("flatten"))


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
    """Convert a transpose by recording another axis order for the same tensor, without a statement.

    A permutation is added later, if an operation needs the axes in the order of Keras.
    """
    given = call.tensor
    axes = tuple(axis % given.rank for axis in axes)
    call.passes(given, tuple(axes.index(axis) for axis in given.order))


@handles("keras.ops.expand_dims")
def _expand_dims(call: Call) -> None:
    given, rank = call.tensor, len(call.shape)
    expanded: Expression = given
    order = given.order
    for axis in sorted(axes_of(call["axis"], rank)):
        order, position = with_new(order, axis)
        expanded = expanded.method("unsqueeze", position)
    call.returns(expanded, order)


@handles("keras.ops.squeeze")
def _squeeze(call: Call) -> None:
    given, axis = call.tensor, call["axis"]
    single = tuple(place for place, size in enumerate(given.shape) if size == 1)
    axes = single if axis is None else axes_of(axis, given.rank)
    if not axes:
        call.passes(given)
        return
    call.returns(given.method("squeeze", dims(given, axes)), without(given.order, axes))


@handles("keras.ops.broadcast_to")
def _broadcast_to(call: Call) -> None:
    given = call.tensor
    order = in_front(given.order, len(call.shape) - given.rank)
    call.returns(given.method("expand", *call.sizes([call.shape[axis] for axis in order])), order)


@handles("keras.ops.tile")
def _tile(call: Call) -> None:
    given, repeats = call.tensor, call["repeats"]
    repeats = [repeats] if isinstance(repeats, int) else list(repeats)
    repeats = [1] * (given.rank - len(repeats)) + repeats
    order: Order = in_front(given.order, len(repeats) - given.rank)
    call.returns(given.method("repeat", *call.sizes([repeats[axis] for axis in order])), order)


@handles("keras.ops.repeat")
def _repeat(call: Call) -> None:
    given, repeats, axis = call.tensor, call["repeats"], call["axis"]
    if axis is None:
        given, axis = call.flat(given), 0
    if isinstance(repeats, int | Size):
        count: Any = call.size(repeats)
    elif isinstance(repeats, tuple | list) and all(isinstance(one, int) for one in repeats):
        count = repeats[0] if len(repeats) == 1 else torch.tensor(list(repeats), device=device_of(given))
    else:
        raise call.refuse(
            "repeat with a tensor as repeats is not supported: the shape of the result depends on its values"
        )
    call.returns(given.method("repeat_interleave", count, dim=given.position(axis)), given.order)


@handles("keras.ops.flip")
def _flip(call: Call) -> None:
    given = call.tensor
    call.returns(given.method("flip", dims(given, axes_of(call["axis"], given.rank))), given.order)


@handles("keras.ops.fliplr", "keras.ops.flipud")
def _flip_one(call: Call) -> None:
    given = call.tensor
    call.returns(given.method("flip", given.position(1 if call.node.kind.endswith("lr") else 0)), given.order)


@handles("keras.ops.roll")
def _roll(call: Call) -> None:
    given, shift, axis = call.tensor, call["shift"], call["axis"]
    if axis is None:
        call.returns(call.keras_order(given).method("roll", shift))
        return
    axes = axes_of(axis, given.rank)
    positions = tuple(given.position(one) for one in axes)
    shifts = call.sizes(shift if isinstance(shift, tuple | list) else [shift] * len(axes))
    rolled = given.method("roll", *shifts, *positions) if len(axes) == 1 else given.method("roll", shifts, positions)
    call.returns(rolled, given.order)


@handles("keras.ops.rot90")
def _rot90(call: Call) -> None:
    given = call.tensor
    plane = tuple(given.position(axis) for axis in call["axes"])
    call.returns(torch.rot90(given, call["k"], plane), given.order)
