"""Permute a value to another axis order."""

from dataclasses import replace

from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.to_keras.call import Writer, ops
from keras3conv.builder.to_keras.sizes import moves_only_ones, written


def ordered(writer: Writer, known: dict[object, Value], value: Value, order: Order) -> Value:
    """Return a value in another axis order; an earlier permutation of the value to this order is used again.

    If only axes of size one move, a reshape is enough. If the axis that moves is the one along which tensors were
    stacked, they are stacked along its new position instead.

    Args:
        writer: The program under construction.
        known: The permuted values by the key (name, permutation); a new one is added.
        value: The value.
        order: The axis order.
    """
    if value.order == order:
        return value
    moved = tuple(value.order.index(axis) for axis in order)
    key = value.name, moved
    if key not in known:
        made = writer.new(value.shape, order, value.dtype)
        sizes = written(made.target_shape) if moves_only_ones(value.target_shape, moved) else None
        parts = writer.parts.get(value.name)
        if sizes is not None:
            writer.write(ops.reshape(value, sizes), [made])
        elif parts is not None and _moves_only(parts.place, moved):
            writer.write(ops.stack(list(parts.values), axis=moved.index(parts.place)), [made])
        else:
            writer.write(ops.transpose(value, moved), [made])
        known[key] = made
    return replace(known[key], shape=value.shape, order=order)


def _moves_only(place: int, moved: tuple[int, ...]) -> bool:
    """Return whether the permutation `moved` moves only the axis `place`: (0, 2, 3, 1) moves only the axis 1."""
    others = [axis for axis in moved if axis != place]
    return others == sorted(others)
