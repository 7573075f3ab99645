"""Cases of operators on images for the conversion to Keras: padding, pooling, resizing, sampling."""

from typing import Any

import torch
from torch.nn import functional

from tests.support.torch_spectra import TEXT

IMAGE = (2, 3, 6, 8)


def _halves(x: torch.Tensor) -> torch.Tensor:
    return functional.fold(functional.unfold(x, (3, 2), padding=1, stride=2) * 2, (6, 8), (3, 2), padding=1, stride=2)


_OUTSIDE = tuple((padding, corners) for padding in ("zeros", "border", "reflection") for corners in (False, True))
"""What is outside of an image, and whether its edges are the centres of its first and last pixels."""

_OUTSIDE_ONCE = (("zeros", True), ("border", False), ("reflection", False), ("reflection", True))
"""The same with each of both once, and all for a reflection, whose axes depend on where the edges are."""


def _sampled(mode: str, outside: tuple[tuple[str, bool], ...] = _OUTSIDE) -> Any:
    """Return a function that samples images at positions inside, far outside, and exactly between pixels."""

    def sample(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        near = 1.3 * torch.tanh(x[:, :2].permute(0, 2, 3, 1))
        grid = torch.cat([near, 40 * near, torch.round(8 * near) / 8, 0 * near + torch.tensor([-1.0, 1.0])], 1)
        return tuple(
            functional.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align_corners)
            for padding, align_corners in outside
        )

    return sample


def _volumes(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    volumes, grid = x[:, :, None] * torch.arange(1.0, 5).view(4, 1, 1), 1.5 * x.permute(0, 2, 3, 1)[:, :, None]
    return tuple(
        functional.grid_sample(volumes, grid, mode=mode, padding_mode=padding, align_corners=align_corners)
        for mode, padding, align_corners in (
            ("bilinear", "zeros", False),
            ("bilinear", "reflection", True),
            ("nearest", "border", False),
        )
    )


def _sampled_constants(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Sample constant images, images at constant positions, and images of one pixel."""
    grid = x[:, :2].permute(0, 2, 3, 1)
    image = torch.arange(60.0).view(1, 3, 4, 5).expand(x.shape[0], 3, 4, 5)
    places = torch.linspace(-1.2, 1.2, 24).view(1, 3, 4, 2).expand(x.shape[0], 3, 4, 2)
    return (
        functional.grid_sample(image, grid, align_corners=False),
        functional.grid_sample(x, places, align_corners=True),
        functional.grid_sample(x[:, :, :1, :1], grid, padding_mode="reflection", align_corners=True),
    )


def _unpooled(x: torch.Tensor, size: Any, more: float = 0) -> torch.Tensor:
    pooled, indices = functional.max_pool2d(x, size, return_indices=True)
    return functional.max_unpool2d(pooled * 2 + more, indices, size, output_size=x.shape[2:])


IMAGES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "unpooling": (lambda x: _unpooled(x, 2) + _unpooled(x, 2, more=1.5), IMAGE),
    "unpooling of a size that windows do not divide": (lambda x: _unpooled(x, (4, 3)), IMAGE),
    "sampling between pixels": (_sampled("bilinear"), IMAGE),
    "sampling of the nearest pixel": (_sampled("nearest"), IMAGE),
    "bicubic sampling": (_sampled("bicubic", _OUTSIDE_ONCE), IMAGE),
    "sampling of volumes": (_volumes, IMAGE),
    "sampling of constants": (_sampled_constants, IMAGE),
    "an affine grid": (
        lambda x: functional.grid_sample(
            x, functional.affine_grid(x[:, 0, :2, :3] * 0.3, [2, 3, 6, 8], align_corners=False), align_corners=False
        ),
        IMAGE,
    ),
    "padding": (lambda x: functional.pad(x, (1, 2, 0, 1)) + functional.pad(x, (1, 2, 0, 1), mode="reflect"), IMAGE),
    "pooling": (
        lambda x: functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2) + functional.adaptive_avg_pool2d(x, (3, 4)),
        IMAGE,
    ),
    "pooling with a last window in part": (lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True), IMAGE),
    "resizing": (
        lambda x: functional.interpolate(x, scale_factor=2) + functional.interpolate(x, size=(12, 16), mode="bilinear"),
        IMAGE,
    ),
    "shuffled pixels": (lambda x: functional.pixel_shuffle(torch.cat([x] * 4, 1), 2), IMAGE),
    "resizing to any size": (
        lambda x: (
            functional.interpolate(x, size=(5, 11), mode="bilinear", align_corners=True)
            + functional.interpolate(x, size=(5, 11), mode="bicubic")
            + functional.interpolate(x, size=(5, 11))
            + functional.interpolate(x, size=(5, 11), mode="nearest-exact")
        ),
        IMAGE,
    ),
    "resizing to a smaller size without aliases": (
        lambda x: functional.interpolate(x, size=(4, 5), mode="bilinear", antialias=True),
        IMAGE,
    ),
    "resizing by a factor that is no whole number": (
        lambda x: functional.interpolate(x, scale_factor=1.3, mode="bilinear"),
        IMAGE,
    ),
    "resizing of a sequence": (lambda x: functional.interpolate(x, size=7, mode="linear"), TEXT),
    "borders": (
        lambda x: (
            functional.pad(x, (1, 2, 3, 0), mode="replicate")
            + functional.pad(x, (1, 2, 3, 0), mode="circular")
            + functional.pad(x, (1, 2, 3, 0), value=0.5)
        ),
        IMAGE,
    ),
    "a border that is cut": (lambda x: functional.pad(x, (1, -2, -1, 3)), IMAGE),
    "windows as columns": (lambda x: functional.unfold(x, (3, 2), padding=(0, 1), dilation=(1, 2), stride=2), IMAGE),
    "columns as windows": (_halves, IMAGE),
    "unshuffled pixels": (lambda x: functional.pixel_unshuffle(x, 2), IMAGE),
    "average with windows in part": (
        lambda x: functional.avg_pool2d(x, (3, 2), (2, 1), (1, 0), ceil_mode=True, count_include_pad=False),
        IMAGE,
    ),
    "convolution with a computed weight": (
        lambda x: functional.conv2d(
            x, torch.arange(54.0).view(6, 1, 3, 3).sin(), groups=3, stride=2, dilation=2, padding=3
        ),
        IMAGE,
    ),
    "reflection along three axes": (
        lambda x: functional.pad(
            x[:, :, None] * torch.arange(1.0, 4).view(1, 1, 3, 1, 1), (1, 2, 0, 1, 2, 1), mode="reflect"
        ),
        IMAGE,
    ),
}
