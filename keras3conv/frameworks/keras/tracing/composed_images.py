"""Compute functions of `keras.ops.image` with other functions of `keras.ops`, for a trace."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import product
from operator import mul
from typing import Any

import keras
import numpy as np
from keras import ops

from keras3conv.frameworks.keras.tracing.unsupported import UnsupportedCall


def _channel_axis(given: Mapping[str, Any]) -> int:
    return -3 if _is_first(given) else -1


def _is_first(given: Mapping[str, Any]) -> bool:
    return bool((given["data_format"] or keras.config.image_data_format()) == "channels_first")


def _channels(images: Any, axis: int) -> list[Any]:
    return [ops.squeeze(one, axis) for one in ops.split(images, 3, axis=axis)]


def _hsv_to_rgb(given: Mapping[str, Any]) -> Any:
    axis = _channel_axis(given)
    hue, saturation, value = _channels(given["images"], axis)
    turn = ops.mod(hue, 1.0) * 6.0
    parts = (ops.abs(turn - 3.0) - 1.0, 2.0 - ops.abs(turn - 2.0), 2.0 - ops.abs(turn - 4.0))
    colours = [value * (1.0 - saturation + saturation * ops.clip(part, 0.0, 1.0)) for part in parts]
    return ops.stack(colours, axis=axis)


def _filtered(images: Any, kernels: Sequence[Any], *, first: bool) -> Any:
    """Return images filtered by one or more kernels of odd size, channel by channel, with zeros around them.

    Args:
        images: The images, of rank 4.
        kernels: Matrices of the same size.
        first: Whether the channels are the second axis.
    """
    channels = images.shape[1 if first else -1]
    kernel = np.stack(kernels, axis=-1)[:, :, None, :].repeat(channels, axis=2)
    dtype = keras.backend.standardize_dtype(images.dtype)
    data_format = "channels_first" if first else "channels_last"
    # A tensor in the dtype of the images: in a float64 run its numbers are exact.
    return ops.depthwise_conv(images, ops.convert_to_tensor(kernel, dtype), padding="same", data_format=data_format)


def _gaussian_blur(given: Mapping[str, Any]) -> Any:
    images, is_single = given["images"], len(given["images"].shape) == 3
    sizes, sigmas = ([float(one) for one in given[name]] for name in ("kernel_size", "sigma"))
    if sizes[0] != sizes[1] or sizes[0] % 2 == 0:
        found, odd = tuple(map(int, sizes)), int(max(sizes)) | 1
        raise UnsupportedCall(
            "keras.ops.image.gaussian_blur",
            f"kernel_size={found}",
            "use a square kernel of odd size",
            f"kernel_size=({odd}, {odd})",
        )
    curves = []
    for size, sigma in zip(sizes, sigmas, strict=True):
        curve = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
        curves.append(curve / curve.sum())
    blurred = _filtered(images[None] if is_single else images, [np.outer(*curves[::-1])], first=_is_first(given))
    return blurred[0] if is_single else blurred


def _sobel_edges(given: Mapping[str, Any]) -> Any:
    images, first = given["images"], _is_first(given)
    across = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    edges = [_filtered(images, [kernel], first=first) for kernel in (across.T, across)]
    return ops.stack(edges, axis=-1)


def _nodes(coordinate: Any, order: int) -> list[tuple[Any, Any]]:
    """Return the indices of the elements that surround a coordinate, each with its weight."""
    if order == 0:
        is_whole = "int" in keras.backend.standardize_dtype(coordinate.dtype)
        return [(ops.cast(coordinate if is_whole else ops.round(coordinate), "int32"), 1.0)]
    lower = ops.floor(coordinate)
    weight, index = coordinate - lower, ops.cast(lower, "int32")
    return [(index, 1.0 - weight), (index + 1, weight)]


def _mirrored(index: Any, size: int) -> Any:
    return ops.abs(ops.mod(index + (size - 1), 2 * (size - 1)) - (size - 1))


_INSIDE: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda index, size: ops.clip(index, 0, size - 1),
    "nearest": lambda index, size: ops.clip(index, 0, size - 1),
    "wrap": ops.mod,
    "mirror": _mirrored,
    "reflect": lambda index, size: ops.floor_divide(_mirrored(2 * index + 1, 2 * size + 1) - 1, 2),
}
"""For each `fill_mode`: the function that returns the index that is used for one outside of an axis of some size."""


def _interpolated(
    coordinates: Sequence[Any], sizes: Sequence[int], read: Callable[[Sequence[Any]], Any], given: Mapping[str, Any]
) -> Any:
    """Return the sum of the elements around each coordinate, multiplied by their weights.

    Args:
        coordinates: The coordinates along each axis.
        sizes: The size of each axis.
        read: Returns the elements at indices along the axes, which are all inside.
        given: The arguments `order`, `fill_mode` and `fill_value`.
    """
    mode, nodes = given["fill_mode"], [_nodes(coordinate, given["order"]) for coordinate in coordinates]
    total: Any = 0.0
    for chosen in product(*nodes):
        indices, weights = zip(*chosen, strict=True)
        values = read([_INSIDE[mode](index, size) for index, size in zip(indices, sizes, strict=True)])
        if mode == "constant":
            inside = [ops.logical_and(index >= 0, index < size) for index, size in zip(indices, sizes, strict=True)]
            values = ops.where(reduce(ops.logical_and, inside), values, float(given["fill_value"]))
        total = total + values * reduce(mul, weights)
    return total


def _map_coordinates(given: Mapping[str, Any]) -> Any:
    inputs, sizes = given["inputs"], tuple(given["inputs"].shape)
    if "int" in keras.backend.standardize_dtype(inputs.dtype):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        found, supported = f"a tensor of {dtype}", 'use floating-point values: keras.ops.cast(inputs, "float32")'
        raise UnsupportedCall("keras.ops.image.map_coordinates", found, supported)
    strides = [int(np.prod(sizes[place + 1 :])) for place in range(len(sizes))]
    coordinates = given["coordinates"]
    parts = [coordinates[place] for place in range(len(sizes))]

    def read(indices: Sequence[Any]) -> Any:
        places = (index * stride if stride > 1 else index for index, stride in zip(indices, strides, strict=True))
        return ops.take(ops.reshape(inputs, (-1,)), sum(places))

    return _interpolated(parts, sizes, read, given)


def _affine_transform(given: Mapping[str, Any]) -> Any:
    """Compute `affine_transform`: x' = a0 x + a1 y + a2 and y' = b0 x + b1 y + b2; c0 and c1 must be zero."""
    images, transform, first = given["images"], given["transform"], _is_first(given)
    if len(images.shape) != 4:
        found = f"a tensor of {len(images.shape)} axes"
        supported = "use a batch of images: keras.ops.expand_dims(images, 0)"
        raise UnsupportedCall("keras.ops.image.affine_transform", found, supported)
    images = ops.transpose(images, (0, 2, 3, 1)) if first else images
    _, height, width, channels = images.shape
    dtype = keras.backend.standardize_dtype(images.dtype)
    transform = ops.cast(transform, dtype)
    rows, columns = (ops.convert_to_tensor(one, dtype) for one in np.mgrid[:height, :width].astype("float64"))
    factors = [ops.reshape(transform[..., place], (-1, 1, 1)) for place in range(6)]
    across = factors[0] * columns + factors[1] * rows + factors[2]
    down = factors[3] * columns + factors[4] * rows + factors[5]
    pixels = ops.reshape(images, (-1, height * width, channels))

    def read(indices: Sequence[Any]) -> Any:
        places = ops.reshape(indices[0] * width + indices[1], (-1, height * width, 1))
        return ops.reshape(ops.take_along_axis(pixels, places, axis=1), (-1, height, width, channels))

    orders = {"nearest": 0, "bilinear": 1}
    settings = {**given, "order": orders[given["interpolation"]]}
    coordinates = [ops.expand_dims(one, -1) for one in (down, across)]
    moved = _interpolated(coordinates, (height, width), read, settings)
    return ops.transpose(moved, (0, 3, 1, 2)) if first else moved


IMAGES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "affine_transform": _affine_transform,
    "gaussian_blur": _gaussian_blur,
    "hsv_to_rgb": _hsv_to_rgb,
    "map_coordinates": _map_coordinates,
    "sobel_edges": _sobel_edges,
}
"""The functions by their names in `keras.ops.image`."""
