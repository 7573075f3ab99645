"""Implement the functions of tf.image and tf.nn for channels-last images, with `keras.ops`."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras3conv.frameworks.keras.keras2.on_torch import average_without_padding, enlarged_bicubic

_GREY = (0.2989, 0.587, 0.114)
"""The weights of red, green and blue in `tf.image.rgb_to_grayscale`."""


def resize(images: Any, size: Any, method: str = "bilinear", antialias: bool = False) -> Any:
    """Compute tf.image.resize; the result is float32, except that "nearest" keeps the dtype."""
    sizes = tuple(int(one) for one in size)
    found = images if method == "nearest" or _is_float(images) else ops.cast(images, "float32")
    if method == "bicubic" and not antialias:
        return enlarged_bicubic(found, sizes)
    return ops.image.resize(found, sizes, interpolation=method, antialias=bool(antialias), data_format="channels_last")


def rgb_to_grayscale(images: Any) -> Any:
    """Compute tf.image.rgb_to_grayscale, with the weights of TensorFlow."""
    _require_float("rgb_to_grayscale", images)
    return ops.sum(ops.multiply(images, np.asarray(_GREY, "float32")), axis=-1, keepdims=True)


def grayscale_to_rgb(images: Any) -> Any:
    """Compute tf.image.grayscale_to_rgb: three equal channels."""
    return ops.repeat(images, 3, axis=-1)


def per_image_standardization(image: Any) -> Any:
    """Compute tf.image.per_image_standardization: mean 0 and deviation 1, or at least 1 / sqrt(number of values)."""
    image = image if _is_float(image) else ops.cast(image, "float32")
    count = float(np.prod([int(size) for size in image.shape[-3:]]))
    mean = ops.mean(image, axis=(-3, -2, -1), keepdims=True)
    variance = ops.mean(ops.square(ops.subtract(image, mean)), axis=(-3, -2, -1), keepdims=True)
    return ops.divide(ops.subtract(image, mean), ops.maximum(ops.sqrt(variance), 1.0 / np.sqrt(count)))


def adjust_brightness(image: Any, delta: float) -> Any:
    """Compute tf.image.adjust_brightness of a float image: add a number."""
    _require_float("adjust_brightness", image)
    return ops.add(image, delta)


def adjust_contrast(images: Any, contrast_factor: float) -> Any:
    """Compute tf.image.adjust_contrast of a float image: scale the distance of every value to the mean of a channel."""
    _require_float("adjust_contrast", images)
    mean = ops.mean(images, axis=(-3, -2), keepdims=True)
    return ops.add(ops.multiply(ops.subtract(images, mean), contrast_factor), mean)


def convert_image_dtype(image: Any, dtype: str, saturate: bool = False) -> Any:
    """Compute tf.image.convert_image_dtype to a float dtype: integers are divided by the largest of their dtype."""
    if not dtype.startswith("float"):
        raise ValueError(f"tf.image.convert_image_dtype to {dtype} is not supported, only to a float dtype")
    if _is_float(image):
        return ops.cast(image, dtype)
    return ops.multiply(ops.cast(image, dtype), 1.0 / np.iinfo(image.dtype).max)


def central_crop(image: Any, central_fraction: float) -> Any:
    """Compute tf.image.central_crop: the centre with this fraction of each side."""
    if central_fraction == 1.0:
        return ops.copy(image)
    height, width = (int(size) for size in image.shape[-3:-1])
    top, left = (int((size - size * central_fraction) / 2) for size in (height, width))
    return image[..., top : height - top, left : width - left, :]


def crop_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    """Compute tf.image.crop_to_bounding_box."""
    return image[..., offset_height : offset_height + target_height, offset_width : offset_width + target_width, :]


def pad_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    """Compute tf.image.pad_to_bounding_box: zeros around an image."""
    height, width = (int(size) for size in image.shape[-3:-1])
    rows = (offset_height, target_height - offset_height - height)
    columns = (offset_width, target_width - offset_width - width)
    return ops.pad(image, (*[(0, 0)] * (len(image.shape) - 3), rows, columns, (0, 0)))


def resize_with_crop_or_pad(image: Any, target_height: int, target_width: int) -> Any:
    """Compute tf.image.resize_with_crop_or_pad: crop what is too large, and pad what is too small, at the centre."""
    for axis, target in ((-3, int(target_height)), (-2, int(target_width))):
        spare = int(image.shape[axis]) - target
        if spare > 0:
            image = ops.take(image, np.arange(spare // 2, spare // 2 + target), axis=axis)
        elif spare < 0:
            widths = [(0, 0)] * len(image.shape)
            widths[axis] = (-spare // 2, -spare - -spare // 2)
            image = ops.pad(image, tuple(widths))
    return image


def extract_patches(images: Any, sizes: Any, strides: Any, rates: Any, padding: str) -> Any:
    """Compute tf.image.extract_patches: the values of each window, channels last, as one axis."""
    return ops.image.extract_patches(
        images, _window(sizes), strides=_window(strides), dilation_rate=_window(rates), padding=padding.lower(),
        data_format="channels_last",
    )  # fmt: skip


def transpose_image(image: Any) -> Any:
    """Compute tf.image.transpose: swap rows and columns."""
    return ops.swapaxes(image, -3, -2)


def rot90(image: Any, k: int = 1) -> Any:
    """Compute tf.image.rot90: rotate counter-clockwise k times."""
    return ops.rot90(image, k=int(k), axes=(len(image.shape) - 3, len(image.shape) - 2))


def max_pool(inputs: Any, ksize: Any, strides: Any, padding: str) -> Any:
    """Compute tf.nn.max_pool of channels-last tensors, with the arguments of this function."""
    return ops.max_pool(inputs, _window(ksize), _window(strides), padding.lower(), data_format="channels_last")


def average_pool(inputs: Any, ksize: Any, strides: Any, padding: str) -> Any:
    """Compute tf.nn.avg_pool of channels-last tensors, with the arguments of this function."""
    window, steps = _window(ksize), _window(strides)
    if padding.upper() == "SAME":
        rank = len(inputs.shape) - 2
        return average_without_padding(inputs, _each(window, rank), _each(steps, rank))
    return ops.average_pool(inputs, window, steps, padding.lower(), data_format="channels_last")


def conv(inputs: Any, kernel: Any, strides: Any, padding: Any, dilations: Any = None) -> Any:
    """Compute tf.nn.conv1d and tf.nn.conv2d of channels-last tensors, with a constant kernel or a tensor."""
    return ops.conv(
        inputs, _kernel(kernel, inputs), _window(strides), _padding(padding), "channels_last", _window(dilations or 1)
    )


def depthwise_conv(inputs: Any, kernel: Any, strides: Any, padding: Any, dilations: Any = None) -> Any:
    """Compute tf.nn.depthwise_conv2d of channels-last images, with a constant kernel or a tensor."""
    return ops.depthwise_conv(
        inputs, _kernel(kernel, inputs), _window(strides), _padding(padding), "channels_last", _window(dilations or 1)
    )


def local_response_normalization(
    x: Any, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5
) -> Any:
    """Compute tf.nn.local_response_normalization: divide by a power of the sum of squares of neighbouring channels."""
    radius, channels = int(depth_radius), int(x.shape[-1])
    squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (radius, radius)))
    total = squares[..., :channels]
    for shift in range(1, 2 * radius + 1):
        total = ops.add(total, squares[..., shift : shift + channels])
    return ops.divide(x, ops.power(ops.add(ops.multiply(total, alpha), bias), beta))


def _kernel(kernel: Any, inputs: Any) -> Any:
    """Return a constant kernel in the dtype of the inputs, which may run in float64; return a tensor unchanged."""
    if not isinstance(kernel, list):
        return kernel
    return ops.convert_to_tensor(np.asarray(kernel, "float32"), dtype=keras.backend.standardize_dtype(inputs.dtype))


def _padding(padding: Any) -> str:
    if not isinstance(padding, str):
        raise ValueError(f"the padding {padding} is not supported, only SAME and VALID: use tf.pad before")
    return padding.lower()


def _window(size: Any) -> Any:
    """Return the sizes of a window or stride along the axes between batch and channels.

    Args:
        size: The argument of a TensorFlow function: one number, one for each of these axes, or one for each axis.
    """
    sizes = list(size) if isinstance(size, list | tuple) else [size]
    if len(sizes) == 1:
        return int(sizes[0])
    return tuple(int(one) for one in (sizes[1:-1] if len(sizes) > 2 else sizes))


def _each(size: Any, rank: int) -> tuple[int, ...]:
    return (size,) * rank if isinstance(size, int) else tuple(size)


def _is_float(image: Any) -> bool:
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(image.dtype)))


def _require_float(name: str, image: Any) -> None:
    if not _is_float(image):
        raise ValueError(f"tf.image.{name} rounds an image of integers, which is not supported: use a float image")


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        adjust_brightness, adjust_contrast, average_pool, central_crop, conv, convert_image_dtype,
        crop_to_bounding_box, depthwise_conv, extract_patches, grayscale_to_rgb, local_response_normalization, max_pool,
        pad_to_bounding_box, per_image_standardization, resize, resize_with_crop_or_pad, rgb_to_grayscale, rot90,
        transpose_image,
    )
}  # fmt: skip
"""The functions of this module, by the names that `keras3conv.formats.keras2.functions` uses."""
