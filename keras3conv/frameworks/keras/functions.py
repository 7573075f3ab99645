"""Define functions that Keras lacks; their source is copied into generated models, so they need only Keras."""

import itertools
import math
from collections.abc import Callable

from keras import KerasTensor, ops


def pixel_position(position: KerasTensor, size: int, *, align_corners: bool) -> KerasTensor:
    """Convert positions from -1 to 1 along an axis of an image to pixels, from 0 to size - 1."""
    if align_corners:
        return (position + 1) * ((size - 1) / 2)
    return (position + 1) * (size / 2) - 0.5


def to_border(position: KerasTensor, size: int, *, align_corners: bool) -> KerasTensor:
    """Move positions outside of an image to its border; `align_corners` makes no difference."""
    del align_corners
    return ops.clip(ops.nan_to_num(position), 0, size - 1)


def reflected(position: KerasTensor, size: int, *, align_corners: bool) -> KerasTensor:
    """Reflect positions outside of an image at its border, again and again until they are inside."""
    first, length = (0.0, size - 1) if align_corners else (-0.5, size)
    distance = ops.mod(ops.abs(position - first), max(2 * length, 1))
    position = ops.minimum(distance, 2 * length - distance) + first
    return ops.clip(ops.nan_to_num(position), 0, size - 1)


def weighted_pixels(images: KerasTensor, taps: list[list[tuple[KerasTensor, ...]]]) -> KerasTensor:
    """Return weighted sums of the pixels of images; a pixel outside of an image is zero.

    `taps` has a list for each spatial axis. An element of the list is a position in pixels and its weight.
    """
    channels = images.shape[-1]
    sizes = [size + 2 for size in images.shape[1:-1]]  # with a border of zeros
    pads = [(0, 0), *[(1, 1)] * len(sizes), (0, 0)]
    pixels = ops.reshape(ops.pad(images, pads), (-1, math.prod(sizes), channels))
    shape = taps[0][0][0].shape[1:]
    total = 0
    for corner in itertools.product(*taps):
        place, weight = 0, 1
        for size, (position, share) in zip(sizes, corner, strict=True):
            index = ops.cast(ops.minimum(position + 1, size - 1), "int32")
            place = place * size + ops.maximum(index, 0)
            weight = weight * share
        picked = ops.take_along_axis(pixels, ops.reshape(place, (-1, math.prod(shape), 1)), axis=1)
        total = total + ops.reshape(picked, (-1, *shape, channels)) * ops.expand_dims(weight, -1)
    return total


def grid_sample(
    images: KerasTensor,
    grid: KerasTensor,
    padding: Callable[..., KerasTensor] | None = None,
    *,
    align_corners: bool = False,
) -> KerasTensor:
    """Sample images between their pixels, linearly, as `torch.nn.functional.grid_sample` does.

    Args:
        images: The images, channels last: (batch, height, width, channels), or with a depth.
        grid: The positions: x, y (and z) on the last axis; -1 and 1 are the edges of an image.
        padding: A function that moves positions into the images; without, pixels outside are zero.
        align_corners: Whether -1 and 1 are the centers of the outermost pixels, not their edges.
    """
    taps = []
    for axis, size in enumerate(images.shape[-2:0:-1]):  # x is the position along the last axis
        position = pixel_position(grid[..., axis], size, align_corners=align_corners)
        if padding:
            position = padding(position, size, align_corners=align_corners)
        start = ops.floor(position)
        share = position - start
        taps.append([(start, 1 - share), (start + 1, share)])
    return weighted_pixels(images, taps[::-1])


def grid_sample_nearest(
    images: KerasTensor,
    grid: KerasTensor,
    padding: Callable[..., KerasTensor] | None = None,
    *,
    align_corners: bool = False,
) -> KerasTensor:
    """Sample the nearest pixels of images, as `torch.nn.functional.grid_sample` does.

    Args:
        images: The images, channels last: (batch, height, width, channels), or with a depth.
        grid: The positions: x, y (and z) on the last axis; -1 and 1 are the edges of an image.
        padding: A function that moves positions into the images; without, pixels outside are zero.
        align_corners: Whether -1 and 1 are the centers of the outermost pixels, not their edges.
    """
    taps = []
    for axis, size in enumerate(images.shape[-2:0:-1]):  # x is the position along the last axis
        position = pixel_position(grid[..., axis], size, align_corners=align_corners)
        if padding:
            position = padding(position, size, align_corners=align_corners)
        taps.append([(ops.round(position), ops.ones_like(position))])
    return weighted_pixels(images, taps[::-1])


def grid_sample_bicubic(
    images: KerasTensor,
    grid: KerasTensor,
    padding: Callable[..., KerasTensor] | None = None,
    *,
    align_corners: bool = False,
) -> KerasTensor:
    """Sample images between their pixels, by cubic polynomials, as `torch.nn.functional.grid_sample` does.

    Args:
        images: The images, channels last: (batch, height, width, channels).
        grid: The positions: x and y on the last axis; -1 and 1 are the edges of an image.
        padding: A function that moves positions into the images; without, pixels outside are zero.
        align_corners: Whether -1 and 1 are the centers of the outermost pixels, not their edges.
    """
    taps = []
    for axis, size in enumerate(images.shape[-2:0:-1]):  # x is the position along the last axis
        position = pixel_position(grid[..., axis], size, align_corners=align_corners)
        start = ops.floor(position)
        row = []
        for offset in (-1, 0, 1, 2):
            tap = start + offset
            distance = ops.abs(position - start - offset)
            if offset in (0, 1):
                share = (1.25 * distance - 2.25) * distance**2 + 1
            else:
                share = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
            row.append((padding(tap, size, align_corners=align_corners) if padding else tap, share))
        taps.append(row)
    return weighted_pixels(images, taps[::-1])


def convolve_each(
    images: KerasTensor, kernels: KerasTensor, strides: tuple[int, ...], dilations: tuple[int, ...]
) -> KerasTensor:
    """Convolve each image of a batch with its own kernel, without padding.

    Args:
        images: The images, channels last: (batch, *space, channels).
        kernels: The kernels: (batch, *windows, channels, filters).
        strides: The step along each spatial axis.
        dilations: The distance of the elements of a window along each spatial axis.
    """
    windows, parts = kernels.shape[1:-2], []
    for place in itertools.product(*map(range, windows)):
        index = [slice(None)]
        for start, size, step, gap in zip(place, windows, strides, dilations, strict=True):
            index.append(slice(start * gap, (start + 1 - size) * gap or None, step))
        parts.append(images[tuple(index)])
    columns = ops.concatenate(parts, axis=-1)
    rows, filters = math.prod(columns.shape[1:-1]), kernels.shape[-1]
    matrices = ops.reshape(kernels, (-1, columns.shape[-1], filters))
    made = ops.matmul(ops.reshape(columns, (-1, rows, columns.shape[-1])), matrices)
    return ops.reshape(made, (-1, *columns.shape[1:-1], filters))


def cumulative(
    values: KerasTensor, function: Callable[[KerasTensor, KerasTensor], KerasTensor], axis: int
) -> KerasTensor:
    """Combine the values up to each position along an axis by an associative function, as a cumulative sum adds them.

    In each round, a value is combined with the one 1, 2, 4, ... positions before it.
    """
    size, step = values.shape[axis], 1
    while step < size:
        first, rest = ops.split(values, [step], axis=axis)
        before = ops.split(values, [size - step], axis=axis)[0]
        values = ops.concatenate([first, function(before, rest)], axis=axis)
        step = 2 * step
    return values


def log_gamma(x: KerasTensor) -> KerasTensor:
    """Return the logarithm of the absolute value of the gamma function.

    It is Stirling's series at x + 10, less the logarithm of x (x + 1) ... (x + 9), with the large terms cancelled.
    """
    is_left = x < 0.5
    point = ops.where(is_left, 1 - x, x)
    above = point + 10
    product = math.exp(10.5) / math.sqrt(2 * math.pi)
    for number in range(10):
        product = product * ((point + number) / above)
    series = 0
    for divisor in (156, -360360 / 691, 1188, -1680, 1260, -360, 12):
        series = series / above**2 + 1 / divisor
    right = (point - 0.5) * (ops.log(above) - 1) - ops.log(product) + series / above
    sine = ops.abs(ops.sin(math.pi * (x - ops.round(x))))
    left = math.log(math.pi) - ops.log(ops.where(is_left, sine, 1)) - right
    return ops.where(ops.isinf(x), ops.abs(x), ops.where(is_left, left, right))


def digamma(x: KerasTensor) -> KerasTensor:
    """Return the derivative of `log_gamma`: its series at x + 10, less 1 / x, 1 / (x + 1), ... 1 / (x + 9)."""
    is_left = x < 0.5
    point = ops.where(is_left, 1 - x, x)
    above = point + 10
    series = 0
    for divisor in (12, -32760 / 691, 132, -240, 252, -120, 12):
        series = (series + 1 / divisor) / above**2
    right = ops.log(above) - 0.5 / above - series
    for number in range(10):
        right = right - 1 / (point + number)
    tangent = ops.tan(math.pi * ops.where(is_left, x - ops.round(x), 0.25))
    made = ops.where(is_left, right - math.pi / tangent, right)
    return ops.where(ops.logical_and(x < 0, ops.equal(x, ops.floor(x))), float("nan"), made)


def scaled_erfc(x: KerasTensor) -> KerasTensor:
    """Return exp(x²) erfc(x): as this product up to 4, and as a continued fraction above."""
    small, large = ops.minimum(x, 4), ops.maximum(x, 4)
    fraction = large
    for number in range(40, 0, -1):
        fraction = large + 0.5 * number / fraction
    return ops.where(x < 4, ops.exp(small**2) * ops.erfc(small), 1 / (math.sqrt(math.pi) * fraction))


def projected_lstm(
    x: KerasTensor,
    kernel: KerasTensor,
    recurrent_kernel: KerasTensor,
    projection: KerasTensor,
    bias: KerasTensor | None = None,
    state: list[KerasTensor] | None = None,
    *,
    reverse: bool = False,
) -> tuple[KerasTensor, ...]:
    """Return the outputs of an LSTM that projects its output in each step, the last output and the last cell state.

    Args:
        x: The sequences: (batch, steps, size).
        kernel: The kernel of the four gates, as torch stores it: (4 x units, size).
        recurrent_kernel: That of the output of the step before: (4 x units, projected units).
        projection: The kernel of the output: (projected units, units).
        bias: The bias of the four gates.
        state: The first output and cell state; without, they are zeros.
        reverse: Whether to go from the last step to the first.
    """
    inputs = ops.matmul(x, ops.transpose(kernel))
    inputs = inputs if bias is None else inputs + bias
    output, cell = state or (None, None)
    outputs = []
    for step in range(x.shape[1])[:: -1 if reverse else 1]:
        gates = inputs[:, step]
        if output is not None:
            gates = gates + ops.matmul(output, ops.transpose(recurrent_kernel))
        write, keep, new, read = ops.split(gates, 4, axis=-1)
        new = ops.sigmoid(write) * ops.tanh(new)
        cell = new if cell is None else ops.sigmoid(keep) * cell + new
        output = ops.matmul(ops.sigmoid(read) * ops.tanh(cell), ops.transpose(projection))
        outputs.append(output)
    return ops.stack(outputs[:: -1 if reverse else 1], axis=1), output, cell


__all__ = [
    "convolve_each",
    "cumulative",
    "digamma",
    "grid_sample",
    "grid_sample_bicubic",
    "grid_sample_nearest",
    "log_gamma",
    "pixel_position",
    "projected_lstm",
    "reflected",
    "scaled_erfc",
    "to_border",
    "weighted_pixels",
]
