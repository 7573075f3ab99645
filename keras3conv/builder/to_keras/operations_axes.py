"""Convert torch's permute and reshape to Keras.

A permutation only relabels the axes of a value and moves no data. A reshape moves data only where the axes that it
merges are not adjacent in Keras.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.call import Call, Result, Writer, handles, ops
from keras3conv.builder.to_keras.forms import Constant, Parts
from keras3conv.builder.to_keras.sizes import common_factors, divided, order_after_reshape, written
from keras3conv.builder.to_keras.uses import is_flattened_for_dense
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size

RESHAPES = (
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as",
)  # fmt: skip
"""Operators that change the shape of a tensor and keep its elements in order."""

_SPLITTING = frozenset({"view", "reshape", "_unsafe_view", "unflatten"})
"""The operators among them that may split an axis."""


def permuted(value: Value, dims: Sequence[int]) -> Value:
    """Return a value permuted like `torch.permute(value, dims)`: its recorded axis order changes, no data moves."""
    dims = [dim % value.rank for dim in dims]
    place = {dim: axis for axis, dim in enumerate(dims)}
    shape = tuple(value.shape[dim] for dim in dims)
    return replace(value, shape=shape, order=tuple(place[axis] for axis in value.order))


def renamed(call: Call, value: Value, dims: Sequence[int]) -> Value:
    """Return a value permuted like `torch.permute`; if a reshape computed the value, record which axes it had merged.

    With this record, a later reshape that splits the merged axes again can start from the value before both.
    """
    made = permuted(value, dims)
    before = call.writer.before_reshape.get(value)
    found = None if before is None else common_factors(before.shape, value.shape)
    if before is None or found is None:
        return made
    factors, _, groups = found
    if order_after_reshape(before.shape, tuple(factors), before.order) is not None:
        parts = reshaped(call, before, tuple(factors))
        moved = [factor for dim in dims for factor in groups[dim]]
        call.writer.before_reshape[made] = permuted(parts, moved)
    return made


@handles("permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "movedim")
def _permute(call: Call) -> Result:
    value = call.value("self")
    return renamed(call, value, dims_of(call, value.rank))


def dims_of(call: Call, rank: int) -> list[int]:
    """Return the permutation of a call, such as `movedim` of `rank` axes, as the argument `dims` of torch.permute."""
    if call.name == "permute":
        return [dim % rank for dim in call.arguments["dims"]]
    dims = list(range(rank))
    if call.name == "movedim":
        ends = (call.arguments["source"], call.arguments["destination"])
        source, destination = ([dim % rank for dim in ([end] if isinstance(end, int) else end)] for end in ends)
        dims = [dim for dim in dims if dim not in source]
        for target, dim in sorted(zip(destination, source, strict=True)):
            dims.insert(target, dim)
    elif rank > 1:
        first, second = call.get("dim0", call.get("axis0", -2)), call.get("dim1", call.get("axis1", -1))
        dims[first], dims[second] = dims[second], dims[first]
    return dims


def reshaped(call: Call, value: Value, shape: Shape) -> Value:
    """Return a value in another shape, by a new step, and by a permutation if Keras needs one."""
    if (made := reshaped_in_place(call, value, shape)) is not None:
        return made
    moved, order = _moved_for_reshape(call, value, shape)
    return reshaped_to(call, moved, shape, order, value)


def reshaped_in_place(call: Call, value: Value, shape: Shape) -> Value | None:
    """Return a value in another shape, by a new step; None if Keras needs a permutation for it."""
    if value.shape == tuple(shape):
        return value
    before = call.writer.before_reshape.get(value)
    if before is not None and order_after_reshape(before.shape, shape, before.order) is not None:
        return reshaped(call, before, shape)
    order = order_after_reshape(value.shape, shape, value.order, splits=call.name in _SPLITTING)
    if order is None and is_flattened_for_dense(call, value, shape):
        made = call.writer.new(shape, (0, 1), value.dtype, _sizes(value.shape[1:]))
        call.writer.write(ops.reshape(value, _written(shape)), [made])
        return made
    return None if order is None else reshaped_to(call, value, shape, order)


def reshaped_to(call: Call, value: Value, shape: Shape, order: Order, origin: Value | None = None) -> Value:
    """Add the step that reshapes a value without a permutation, and return the result.

    Args:
        call: The call.
        value: The value.
        shape: The new shape in torch's axis order.
        order: The axis order of the result.
        origin: The value before it was permuted for this reshape, from which a later reshape can start; by default
            `value`.
    """
    target = tuple(shape[axis] for axis in order)
    if value.target_shape == target:
        return replace(value, shape=tuple(shape), order=order, flattened=())
    made = reshape_step(call.writer, value, shape, order, call.node.path)
    call.writer.before_reshape[made] = origin or value
    return made


def reshape_step(writer: Writer, value: Value, shape: Shape, order: Order, path: str = "") -> Value:
    """Add the step that reshapes a value, and return the result.

    If a size besides the batch is dynamic, the step calls a Reshape layer, which needs no batch size.

    Args:
        writer: The program under construction.
        value: The value.
        shape: The new shape in torch's axis order.
        order: The axis order of the result.
        path: The path of the torch layer, for the name of a Reshape layer.
    """
    target = tuple(shape[axis] for axis in order)
    made = writer.new(shape, order, value.dtype)
    if written(target) is None and (index := _index_of_ones(value.target_shape, target)) is not None:
        writer.write(value[index], [made])
    elif written(target) is not None or target[0] != value.target_shape[0] or (inner := written(target[1:])) is None:
        writer.write(ops.reshape(value, _written(target)), [made])
        parts = writer.parts.get(value.name)
        if parts is not None and _numbers_parts(value.target_shape, target, parts):
            writer.parts[made.name] = parts
    else:
        writer.layer("keras.layers.Reshape", {"target_shape": inner}, value, (), f"{path}.reshape", made)
    return made


def _numbers_parts(old: Shape, new: Shape, parts: Parts) -> bool:
    """Return whether a reshape undoes a concatenation: it splits the joined axis into (number of tensors, their size).

    Three tensors of shape (2, 4), concatenated to (2, 12), are reshaped to (2, 3, 4).

    Args:
        old: The shape of the concatenated tensors, in the axis order of Keras.
        new: The shape after the reshape.
        parts: The tensors.
    """
    size = parts.values[0].target_shape[parts.place]
    return new == (*old[: parts.place], len(parts.values), size, *old[parts.place + 1 :])


def _index_of_ones(old: Shape, new: Shape) -> tuple[Any, ...] | None:
    """Return the index, such as [:, 0, None], that removes and adds axes of size one to turn one shape into another.

    The result is None if the shapes also differ in other axes.
    """
    index: list[Any] = []
    rest = list(new)
    for size in old:
        while rest and rest[0] == 1 and size != 1:
            index.append(None)
            rest.pop(0)
        if rest and rest[0] == size:
            index.append(slice(None))
            rest.pop(0)
        elif size == 1:
            index.append(0)
        else:
            return None
    return (*index, *(None for _ in rest)) if all(size == 1 for size in rest) else None


def _moved_for_reshape(call: Call, value: Value, shape: Shape) -> tuple[Value, Order]:
    """Return a value permuted so that Keras can reshape it like torch, and the axis order of the reshaped value.

    A channels-last image stays channels-last.
    """
    is_image = len(shape) > 3 and value.order[-1] != value.rank - 1
    order = call.writer.image_order(len(shape)) if is_image else identity(len(shape))
    found = common_factors(value.shape, shape)
    if found is not None and order_after_reshape(value.shape, tuple(found[0]), value.order) is not None:
        parts = reshaped(call, value, tuple(found[0]))
        return call.ordered(parts, tuple(factor for axis in order for factor in found[2][axis])), order
    return call.ordered(value, identity(value.rank)), identity(len(shape))


def unmerged(call: Call, value: Value) -> Value:
    """Return a matrix with its first axis split again into the axes that a reshape has merged into it.

    The value is returned unchanged if no reshape computed it, or if splitting would need a permutation.
    """
    before = call.writer.before_reshape.get(value)
    found = None if before is None or value.rank != 2 else common_factors(before.shape, value.shape)
    if before is None or found is None:
        return value
    factors, _, groups = found
    shape = (*(factors[factor] for factor in groups[0]), value.shape[1])
    needs_permutation = order_after_reshape(before.shape, shape, before.order) is None
    return value if needs_permutation else reshaped(call, before, shape)


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(size for size in shape if isinstance(size, int))


def _written(shape: Shape) -> tuple[int, ...]:
    found = written(shape)
    if found is None:
        raise RuleError(
            f"a reshape to ({', '.join(map(str, shape))}) is not supported: Keras can infer only one dynamic size of "
            "a shape"
        )
    return found


@handles(*RESHAPES)
def _reshape(call: Call) -> Result:
    value, given = call.value("self"), call.arguments["self"]
    if isinstance(given, Constant):
        sizes = zip(given.array.shape, given.shape, strict=True)
        once = [axis for axis, (stored, size) in enumerate(sizes) if stored == 1 and isinstance(size, Size)]
        if once and given.shape[once[0]] not in call.shape:  # merged with another axis, so that it cannot be broadcast
            value = for_each_example(call, value, once, given.shape[once[0]])
    return reshaped(call, value, call.shape)


def for_each_example(call: Call, value: Value, axes: list[int], size: int | Size | None = None) -> Value:
    """Return a value repeated along an axis to the batch size, or to a multiple of it, by a product with ones.

    Args:
        call: The call.
        value: The value; it is returned unchanged if `axes` is empty.
        axes: The axis to repeat along, in a list; its size is one.
        size: The new size of the axis; by default that of the call's result.

    Raises:
        RuleError: There are several axes to repeat along, or the new size is no multiple of the batch size.
    """
    if not axes:
        return value
    size = call.shape[axes[0]] if size is None else size
    if len(axes) > 1 or isinstance(size, int):
        raise RuleError(
            "an expansion along several axes of dynamic size is not supported: only the batch axis can be expanded "
            "to a dynamic size"
        )
    batch = call.writer.example_ones().shape[0]
    times = divided(size, batch)
    if not isinstance(times, int):
        raise RuleError(
            f"an expansion to the dynamic size {size} is not supported: expand only to the batch size or a multiple"
        )
    ones = call.writer.example_ones()
    if times > 1:
        ones = call.step(ops.tile(ones, (1, times)), (batch, times), (0, 1), ones.dtype)
    sizes = tuple(-1 if axis == axes[0] else 1 for axis in value.order)
    repeated = ops.reshape(ones, sizes)
    shape = tuple(size if axis == axes[0] else one for axis, one in enumerate(value.shape))
    if value.dtype.startswith("float"):
        made = repeated * value if call.writer.is_constant(value) else value * repeated
    elif value.dtype == "bool":
        made = ops.logical_and(value, ops.cast(repeated, Dtype("bool")))
    else:
        made = ops.multiply(value, ops.cast(repeated, Dtype(value.dtype)))
    return call.step(made, shape, value.order, value.dtype)
