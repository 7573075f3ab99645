"""Store a parameter that no layer owns as the kernel of an `EinsumDense`, which returns it when called with ones."""

from dataclasses import replace

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.call import Placed, Writer, ops
from keras3conv.builder.to_keras.forms import Complex, Held
from keras3conv.transforms import Axes, Chain, ComplexParts, Transform

_LETTERS = "cdefghijk"


def layer_of(writer: Writer, parameter: Held, order: Order, ones: Value, *, for_each_example: bool) -> Value:
    """Add an `EinsumDense` whose kernel is a parameter, and return its output, which equals the parameter.

    Args:
        writer: The program under construction.
        parameter: The parameter.
        order: The axis order of the result.
        ones: The input of the layer: ones of shape (1, 1), or (batch, 1).
        for_each_example: Whether the leading axis of size one is repeated for each sample, to become the batch axis.
    """
    shape, rank = parameter.shape, len(parameter.shape)
    sizes = tuple(shape[axis] for axis in order)
    leads = for_each_example or (rank > 1 and order[0] == 0 and shape[0] == 1)
    inner = sizes[1:] if leads else sizes or (1,)
    letters = _LETTERS[: len(inner)]
    config = {"equation": f"ab,b{letters}->a{letters}", "output_shape": inner}
    axes = _LETTERS[:rank]
    pattern = f"{' '.join(axes)} -> {'' if leads else '1 '}{' '.join(axes[axis] for axis in order) or '1'}"
    batch = ones.shape[0]
    result = writer.new((batch, *inner), identity(len(inner) + 1), "float32")
    transform: Transform = Axes(pattern)
    if parameter.is_complex:
        transform = Chain(ComplexParts(), transform)
    placed = Placed(role="kernel", held=parameter, transform=transform)
    writer.layer("keras.layers.EinsumDense", config, ones, [placed], parameter.path, result)
    if leads:
        return replace(result, shape=(batch, *shape[1:]), order=order)
    made = writer.new(shape, order, "float32")
    writer.write(ops.squeeze(result, 0) if rank else ops.reshape(result, ()), [made])
    return made


def complex_of(writer: Writer, parameter: Held) -> Complex:
    """Return the real and the imaginary part of a parameter of complex numbers."""
    pairs = writer.value(parameter)
    parts = [writer.new(pairs.shape[:-1], identity(pairs.rank - 1), pairs.dtype) for _ in range(2)]
    for index, part in enumerate(parts):
        writer.write(pairs[..., index], [part])
    return Complex(real=parts[0], imaginary=parts[1])
