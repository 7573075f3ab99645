"""Make a constant output depend on an input, because Keras requires this of each output of a functional model."""

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Writer, ops
from keras3conv.model.graph import Shape, Size


def dependent(writer: Writer, value: Value, shape: Shape) -> Value:
    """Return a value that has the elements of a constant and depends on an input of the model.

    Args:
        writer: The program under construction.
        value: The constant; its axis of the batch has size one if it is equal for all samples.
        shape: The shape of the result, of which one axis may be the batch.
    """
    ones = writer.example_ones()
    is_batch = any(isinstance(size, Size) for size in shape)
    sizes = tuple(-1 if isinstance(shape[axis], Size) else 1 for axis in value.order)
    product = ops.multiply(value, ops.reshape(ones if is_batch else ones[0], sizes))
    made = writer.new(shape, value.order, value.dtype)
    writer.write(product if value.dtype.startswith("float") else ops.cast(product, Dtype(value.dtype)), [made])
    return made


__all__ = ["dependent"]
