"""Make a constant output depend on an input, because Keras requires this of each output of a functional model."""

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Writer, ops
from keras3conv.model.graph import Shape, Size


def dependent(writer: Writer, value: Value, shape: Shape) -> Value:
    """Return a value that has the elements of a constant and depends on an input of the model.

    Args:
        writer: The program under construction.
        value: The constant; it has one row if the rows of all samples are equal.
        shape: The shape of the result, whose first axis may be the batch.
    """
    ones = writer.example_ones()
    is_batch = bool(shape) and isinstance(shape[0], Size)
    sizes = tuple(-1 if axis == 0 and is_batch else 1 for axis in value.order)
    product = ops.multiply(value, ops.reshape(ones if is_batch else ones[0], sizes))
    made = writer.new(shape, value.order, value.dtype)
    writer.write(product if value.dtype.startswith("float") else ops.cast(product, Dtype(value.dtype)), [made])
    return made


__all__ = ["dependent"]
