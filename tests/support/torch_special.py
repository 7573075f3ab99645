"""Cases of special functions, losses and cumulative functions for the conversion to Keras, each with an input shape."""

import math
from typing import Any

import torch
from torch import special
from torch.nn import functional

from tests.support.torch_images import IMAGE
from tests.support.torch_spectra import TEXT


def _modulated(x: torch.Tensor, *, strides: tuple[int, int] = (1, 1), transposed: bool = False) -> torch.Tensor:
    """Convolve each image with a kernel that depends on it, as one convolution with a group for each image."""
    batch, channels, height, width = x.shape
    kernel = (torch.arange(72.0).view(4, 3, 3, 2).sin() * x[:, None, :, 1:2, 3:4]).reshape(batch * 4, 3, 3, 2)
    rows = x.reshape(1, batch * channels, height, width)
    if transposed:
        kernel = kernel.view(batch, 4, 3, 3, 2).transpose(1, 2).reshape(batch * 3, 4, 3, 2)
        made = functional.conv_transpose2d(rows, kernel, stride=strides, padding=1, output_padding=(0, 1), groups=batch)
    else:
        shift = x[:, :1, :4, 0].reshape(-1)
        made = functional.conv2d(rows, kernel, shift, stride=strides, padding=2, dilation=(1, 2), groups=batch)
    return made.view(batch, 4, *made.shape[2:])


def _depthwise_of_each(x: torch.Tensor) -> torch.Tensor:
    """Convolve each channel of each sequence with a kernel of its own."""
    kernel = x[:, :, :3].reshape(-1, 1, 3)
    return functional.conv1d(x.reshape(1, -1, 4), kernel, padding=1, groups=x.shape[0] * 5).view(-1, 5, 4)


def _special(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    large = 3 * x.abs() + 0.1
    return (
        special.entr(large) + special.xlogy(large, large) + special.xlog1py(large, large),
        special.ndtr(3 * x) + special.erfcx(3 * x.abs() - 1),
        special.log_ndtr(3 * x),
        special.expit(x) + special.logit(special.expit(x)) + special.sinc(x),
    )


def _losses(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    labels, logits = (x[:, :, 0] > 0).long() * 2, x.mT[:, :4]
    return (
        functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1),
        functional.nll_loss(functional.log_softmax(logits, 1), labels, torch.arange(4.0), reduction="none"),
        functional.cross_entropy(x, x.softmax(1), reduction="none"),
    )


def _similarities(rows: torch.Tensor) -> torch.Tensor:
    return rows @ rows.T.softmax(0) + math.pi


SPECIAL: dict[str, tuple[Any, tuple[int, ...]]] = {
    "a kernel for each image": (lambda x: (_modulated(x), _modulated(x, strides=(2, 1))), IMAGE),
    "a transposed kernel for each image": (lambda x: _modulated(x, strides=(2, 3), transposed=True), IMAGE),
    "a kernel for each channel of each sequence": (_depthwise_of_each, TEXT),
    "logarithm of the gamma function": (
        lambda x: (
            torch.lgamma(4 * x),
            torch.lgamma(x.abs() + 0.01),
            torch.lgamma(torch.exp(3 * x)),
            torch.mvlgamma(x.abs() + 2, 3),
        ),
        TEXT,
    ),
    "derivative of the logarithm of the gamma function": (lambda x: torch.digamma(x.abs() + 0.01), TEXT),
    "special functions": (_special, TEXT),
    "extremes up to each position": (
        lambda x: (*torch.cummax(x, 1), *torch.cummin((4 * x).round(), -1), torch.cummax((4 * x).int(), 1)[0]),
        TEXT,
    ),
    "extremes up to each row of an image": (lambda x: x.cummax(1)[0] + x.cummin(2)[0], IMAGE),
    "logarithm of a cumulative sum": (lambda x: torch.logcumsumexp(40 * x, 1), TEXT),
    "most frequent elements": (lambda x: (x.round().mode(1)[0], (2 * x).long().mode(-1, keepdim=True)[0]), TEXT),
    "losses of each sample": (_losses, TEXT),
    "orthogonal and triangular matrices": (
        lambda x: (*torch.linalg.qr(x), *torch.linalg.qr(x.mT, mode="complete"), torch.linalg.qr(x, mode="r")[1]),
        TEXT,
    ),
    "a function mapped over samples": (
        torch.vmap(_similarities),
        TEXT,
    ),
    "normalization over the channels and pixels of an image": (
        lambda x: functional.layer_norm(x, (3, 6, 8)) + functional.rms_norm(x, (3, 6, 8)),
        IMAGE,
    ),
}
