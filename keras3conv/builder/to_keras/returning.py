"""Make a constant output depend on an input, because Keras requires this of each output of a functional model."""

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Writer, ops
from keras3conv.model.graph import Shape, Size


def dependent(writer: Writer, value: Value, shape: Shape) -> Value:
    """Return a value that has the elements of a constant and depends on an input of the model.

    Args:
        writer: The program under construction.
        value: The constant; its batch axis has size one if it is equal for all samples.
        shape: The shape of the result, of which one axis may be the batch.
    """
    ones = writer.example_ones()
    is_batch = any(isinstance(size, Size) for size in shape)
    sizes = tuple(-1 if isinstance(shape[axis], Size) else 1 for axis in value.order)
    repeated = ops.reshape(ones if is_batch else ones[0], sizes)
    # Keras marks a product with an array as sparse, and a layer that it calls with it cannot be loaded on TensorFlow.
    is_float = value.dtype.startswith("float")
    expression = ops.divide(value, repeated) if is_float else ops.multiply(value, repeated)
    made = writer.new(shape, value.order, value.dtype)
    writer.write(expression if is_float else ops.cast(expression, Dtype(value.dtype)), [made])
    return made
