"""Permute the operands of an elementwise operation to one axis order, so that Keras broadcasts them as torch does."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import Operation, operator
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.call import Call, ops
from keras3conv.builder.to_keras.forms import Constant, Held
from keras3conv.builder.to_keras.operations_axes import for_each_example
from keras3conv.model.graph import Shape, Size

_BROADCAST = ("add", "mul", "cat")
"""Operators for which a tensor that is equal for all samples may be stored once."""

_FUNCTIONS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "**": "power"}


def aligned(call: Call, operands: Sequence[Any]) -> tuple[list[Any], Order]:
    """Return the operands of an elementwise operator, permuted to one common axis order, and this axis order.

    The common order is that of the first operand that has the shape of the result and another order than torch's. So
    images stay channels-last. A constant of one element becomes a number.

    Args:
        call: The call of an elementwise operator.
        operands: The operands: values, constants, parameters or numbers.
    """
    rank = len(call.shape)
    plain = [_as_number(one) for one in operands]
    full = [one for one in plain if isinstance(one, Value) and one.rank == rank]
    whole = [one.order for one in full if one.shape == call.shape]
    orders = whole or [one.order for one in full]
    moved = [found for found in orders if found != identity(rank)]
    # If all values are broadcast (a mask and a table of positions), none of them is an image.
    order = moved[0] if moved and (whole or len(moved) == len(orders)) else identity(rank)
    fitted = [_fitted(call, one, order) if isinstance(one, Value | Constant | Held) else one for one in plain]
    return fitted, order


def elementwise(call: Call, operands: Sequence[Any], expression: Any) -> Value:
    """Add a step (a statement of the program) that computes an elementwise operation, and return its result.

    Args:
        call: The call.
        operands: The operands: values, constants, parameters or numbers.
        expression: Returns the Keras expression for the operands, after these have been permuted to one axis order.
    """
    if len(operands) == 1 and isinstance(operands[0], Value):
        (value,) = operands
        made = call.writer.new(call.shape, value.order, call.dtype, value.flattened)
        call.writer.write(expression(value), [made])
        return made
    values, order = aligned(call, operands)
    shapes = [one.shape for one in values if isinstance(one, Value)]
    own = [
        1 if all(len(one) < place or one[-place] == 1 for one in shapes) else 2
        for place in range(len(call.shape), 0, -1)
    ]
    return repeated(call, call.step(expression(*values), stored(call, call.shape, own), order), call.shape)


def stored(call: Call, shape: Shape, own: Sequence[int | Size]) -> Shape:
    """Return the shape with which Keras stores a tensor: the batch axis has size one if it is equal for all samples.

    Args:
        call: The call.
        shape: The shape in torch.
        own: The sizes of the axes in Keras; only a size of one counts.
    """
    once = [axis for axis, size in enumerate(own) if size == 1 and isinstance(shape[axis], Size)]
    batch = call.writer.example_ones().shape[0] if once else None
    return tuple(1 if axis in once and size == batch else size for axis, size in enumerate(shape))


def repeated(call: Call, value: Value, shape: Shape) -> Value:
    """Return a value repeated for each sample if it is stored once, unless all users of the call broadcast it.

    Args:
        call: The call that computes the value.
        value: The value.
        shape: The shape of the value in torch.
    """
    users = call.writer.users(call.node.outputs[0].name)
    if value.shape == shape or (users and all(user.kind.split(".")[1] in _BROADCAST for user in users)):
        return value
    once = [axis for axis, (own, size) in enumerate(zip(value.shape, shape, strict=True)) if own != size]
    return for_each_example(call, value, once, shape[once[0]])


def sign(call: Call, symbol: str, left: Any, right: Any) -> Operation:
    """Return the expression of a binary operation: with a Python operator, or with a function of `keras.ops`.

    The function is used if the left operand is a constant: numpy would try to compute `array + value` itself, and fail.

    Args:
        call: The call.
        symbol: The operator: "+", "-", "*" or "/".
        left: The left operand.
        right: The right operand.
    """
    if isinstance(left, Value) and call.writer.is_constant(left):
        return ops.named(_FUNCTIONS[symbol])(left, right)
    return operator(symbol, left, right)


def _as_number(tensor: Any) -> Any:
    if isinstance(tensor, Constant) and tensor.array.size == 1 and all(isinstance(size, int) for size in tensor.shape):
        return tensor.array.item()
    return tensor


def _fitted(call: Call, tensor: Value | Constant | Held, order: Order) -> Value:
    """Return an operand in the axis order of the result, with axes of size one for the axes that it lacks.

    Args:
        call: The call.
        tensor: The operand.
        order: The axis order of the result. An operand with fewer axes lacks the first ones, as in broadcasting.
    """
    rank = len(order)
    shape: Shape = tensor.array.shape if isinstance(tensor, Constant) else tensor.shape
    missing = rank - len(shape)
    own = tuple(axis - missing for axis in order if axis >= missing)
    value = call.ordered(tensor, own)
    if missing == 0:
        return value
    places = [place for place, axis in enumerate(order) if axis >= missing]
    if not places or places == list(range(places[0], rank)):  # Keras adds axes at the front, too
        return value
    if isinstance(tensor, Constant):
        sizes = tuple(1 if axis < missing else shape[axis - missing] for axis in order)
        array = np.reshape(tensor.array.transpose(own), [size for size in sizes if isinstance(size, int)])
        return call.writer.value(Constant(name=f"{tensor.name} {sizes}", array=array, shape=sizes))
    index = tuple(None if axis < missing else slice(None) for axis in order[places[0] :])
    sizes = tuple(1 if axis < missing else shape[axis - missing] for axis in order[places[0] :])
    return call.step(value[index], sizes, dtype=value.dtype)
