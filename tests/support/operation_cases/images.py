"""Cases of operations on images."""

import numpy as np
from keras import layers, ops

from keras3conv.transforms import Array
from tests.support.operations import IMAGE, SEQUENCE, VECTOR, Case, Given, case, named

_PADS = (
    (((0, 0), (1, 2), (0, 3), (0, 0)), "constant"),
    (((1, 0), (0, 0), (0, 0), (1, 2)), "constant"),
    (((0, 0), (1, 2), (0, 3), (0, 0)), "reflect"),
    (((0, 0), (1, 1), (0, 1), (0, 0)), "symmetric"),
    (((0, 0), (2, 1), (0, 0), (1, 2)), "reflect"),
    (((0, 0), (1, 1), (2, 2), (1, 1)), "reflect"),
)
_CHANNELS = ((0, 0), (0, 0), (0, 0), (1, 2))


def _enlarged(images: Array, *factors: int) -> Array:
    """Enlarge channels-last images with the cubic kernel of TensorFlow and JAX, whose parameter is -0.5."""
    dtype = images.dtype
    for axis, factor in enumerate(factors, 1):
        size = images.shape[axis]
        places = (np.arange(size * factor) + 0.5) / factor - 0.5
        far = np.abs(places[:, None] - np.arange(size))
        near = (1.5 * far - 2.5) * far**2 + 1
        weights = np.where(far < 1, near, np.where(far < 2, ((2.5 - 0.5 * far) * far - 4) * far + 2, 0))
        weights /= weights.sum(1, keepdims=True)
        images = np.moveaxis(np.tensordot(weights, images, (1, axis)), 0, axis)
    return images.astype(dtype)


CASES: dict[str, list[Case]] = {
    "pad": [
        *(case(named("pad", pad_width=width, mode=mode), IMAGE) for width, mode in _PADS),
        case(lambda x: ops.pad(x, _CHANNELS, "reflect"), IMAGE, by_numpy=lambda x: np.pad(x, _CHANNELS, "reflect")),
        case(named("pad", pad_width=((0, 0), (1, 0), (0, 0)), constant_values=-1.5), SEQUENCE),
        case(named("pad", pad_width=((0, 0), (0, 0), (1, 2)), mode="reflect"), SEQUENCE),
        case(named("pad", pad_width=((0, 0), (3, 0), (0, 0)), mode="reflect"), SEQUENCE),
        case(named("pad", pad_width=((0, 0), (1, 2)), mode="reflect"), VECTOR),
        case(named("pad", pad_width=((0, 0), (0, 0))), VECTOR),
    ],
    "image.resize": [
        *(
            case(named("image.resize", size=size, interpolation=mode), IMAGE)
            for size in ((3, 2), (12, 10), (7, 11), (1, 1))
            for mode in ("bilinear", "nearest")
        ),
        *(
            case(named("image.resize", size=size, interpolation=mode, antialias=True), IMAGE)
            for size in ((3, 2), (7, 11), (4, 10))
            for mode in ("bilinear", "bicubic", "nearest")
        ),
        case(
            named("image.resize", size=(12, 20), interpolation="bicubic"),
            IMAGE,
            by_numpy=lambda x: _enlarged(x, 2, 4),
        ),
        case(named("image.resize", size=(4, 8), crop_to_aspect_ratio=True), IMAGE),
        case(named("image.resize", size=(4, 8), pad_to_aspect_ratio=True, fill_value=0.5), IMAGE),
        case(named("image.resize", size=(4, 8), data_format="channels_first"), IMAGE),
    ],
    "image.extract_patches": [
        *(
            case(named("image.extract_patches", **settings), IMAGE)
            for settings in (
                {"size": 2},
                {"size": (2, 3), "strides": 1},
                {"size": 3, "strides": 2, "padding": "same"},
                {"size": 2, "strides": 1, "dilation_rate": 2},
            )
        ),
        case(named("image.extract_patches", size=2), (6, 5, 1)),
    ],
    "image.pad_images": [
        case(lambda x: ops.image.pad_images(x, 1, 2, 3, 4), IMAGE),
        case(
            named("image.pad_images", top_padding=1, left_padding=2, target_height=10, target_width=9),
            IMAGE,
        ),
    ],
    "image.crop_images": [
        case(lambda x: ops.image.crop_images(x, 1, 2, 1, 0), IMAGE),
        case(
            named("image.crop_images", bottom_cropping=1, right_cropping=2, target_height=3, target_width=2),
            IMAGE,
        ),
    ],
    "image.rgb_to_grayscale": [
        case(named("image.rgb_to_grayscale"), (6, 5, 3)),
        case(named("image.rgb_to_grayscale", data_format="channels_first"), (3, 6, 5)),
    ],
    "image.rgb_to_hsv": [
        case(named("image.rgb_to_hsv"), Given((6, 5, 3), low=0.0, high=1.0)),
        case(named("image.rgb_to_hsv", data_format="channels_first"), Given((3, 6, 5), low=0.0, high=1.0)),
        case(lambda x: ops.image.rgb_to_hsv(ops.round(x * 2) / 2), Given((6, 5, 3), low=0.0, high=1.0)),
    ],
    "depth_to_space": [
        case(named("depth_to_space", block_size=2), (3, 5, 8)),
        case(named("depth_to_space", block_size=2, data_format="channels_first"), (8, 3, 5)),
    ],
    "space_to_depth": [
        case(named("space_to_depth", block_size=2), (6, 4, 3)),
        case(named("space_to_depth", block_size=2, data_format="channels_first"), (3, 6, 4)),
    ],
    "unfold": [case(named("unfold", kernel_size=2, stride=2, padding=1), (3, 6, 4))],
    "fold": [case(named("fold", output_size=(6, 4), kernel_size=2, stride=2), (12, 6))],
}

LAYERS = {
    "Resizing": case(layers.Resizing(4, 8), IMAGE),
    "Resizing cut": case(layers.Resizing(4, 8, crop_to_aspect_ratio=True), IMAGE),
    "CenterCrop": case(layers.CenterCrop(3, 2), IMAGE),
    "UpSampling2D": case(layers.UpSampling2D(2, interpolation="bicubic"), IMAGE, by_numpy=lambda x: _enlarged(x, 2, 2)),
    "ConvLSTM2D with strides": case(
        layers.ConvLSTM2D(3, 3, padding="same", strides=(2, 1), return_sequences=True), (4, 6, 5, 2)
    ),
}
"""Layers that consist of an image operation."""
