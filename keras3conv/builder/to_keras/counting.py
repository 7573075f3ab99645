"""Compute `arange(size)` for a dynamic size, because a functional Keras model has no such operation."""

from collections.abc import Sequence
from dataclasses import replace

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Writer, ops
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size


def numbers_up_to(writer: Writer, size: Size, inputs: Sequence[Value]) -> Value:
    """Return the numbers 0 ... size - 1 as a value, computed as a cumulative sum of ones along an input axis.

    Args:
        writer: The program under construction.
        size: The dynamic size.
        inputs: The inputs of the model; one of them has an axis of this size, or of a size of which it is a multiple.
    """
    base = replace(size, factor=1)
    found = ((one, axis) for one in inputs for axis, other in enumerate(one.shape) if other in (size, base))
    given, axis = next(found, (None, 0))
    if given is None:
        raise RuleError(
            f"a range from 0 to the dynamic size {size} is supported only if that is a multiple of the size of an "
            "axis of an input"
        )
    index = tuple(slice(None) if one == axis else 0 for one in given.order)
    made = writer.new((size,), (0,), "int32")
    ones = ops.ones_like(given[index], dtype=Dtype("int32"))
    if given.shape[axis] != size:
        ones = ops.repeat(ones, size.factor, axis=0)
    writer.write(ops.cumsum(ones, axis=0) - 1, [made])
    if axis == 0:
        writer.example_numbers.add(made.name)
    return made
