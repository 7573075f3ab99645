"""Test cases of torch operators for the conversion to Keras, each with the shape of its input."""

from typing import Any

import torch
from torch.nn import functional

IMAGE = (2, 3, 6, 8)
TEXT = (2, 5, 4)

CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "arithmetic of a constant and a tensor": (lambda x: 2 - torch.arange(4.0) / (x**2 + 1), TEXT),
    "channels of an image scaled by constants": (lambda x: x * torch.arange(1.0, 4).view(3, 1, 1), IMAGE),
    "rows of an image scaled by constants": (lambda x: x + torch.arange(6.0).view(6, 1), IMAGE),
    "activations": (
        lambda x: (
            functional.silu(x)
            + functional.gelu(x)
            + functional.leaky_relu(x)
            + functional.elu(x)
            + functional.hardswish(x)
        ),
        TEXT,
    ),
    "approximate GELU": (lambda x: functional.gelu(x, approximate="tanh"), TEXT),
    "limits": (
        lambda x: x.clamp(min=-0.5) + x.clamp(-1, 1) + functional.relu6(x) + functional.hardtanh(x, -0.3, 0.2),
        TEXT,
    ),
    "functions": (
        lambda x: torch.exp(x) + torch.sin(x) + torch.erf(x) + torch.rsqrt(x.abs() + 1) - x.reciprocal(),
        TEXT,
    ),
    "comparison and choice": (lambda x: torch.where(x > 0, x, 0.1) + x.masked_fill(x < -1, 3.0), TEXT),
    "mask of integers": (lambda x: (x > 0).to(torch.float32) + x.ge(0.2).int(), TEXT),
    "an in-place operator": (lambda x: (x + 1).relu_().mul_(2), TEXT),
    "writing into a slice": (lambda x: _written(x) * 1, TEXT),
    "flatten of an image": (lambda x: torch.flatten(x, 1), IMAGE),
    "rows as a sequence": (lambda x: x.flatten(2).transpose(1, 2), IMAGE),
    "groups of channels": (lambda x: x.view(2, 1, 3, 6, 8).sum(1), IMAGE),
    "heads": (lambda x: x.view(-1, 5, 2, 2).transpose(1, 2).softmax(-1).transpose(1, 2).reshape(-1, 5, 4), TEXT),
    "permutation": (lambda x: x.permute(0, 2, 3, 1) * 2, IMAGE),
    "one axis more and less": (lambda x: x.unsqueeze(1).squeeze(1).unsqueeze(-1), TEXT),
    "join of images": (lambda x: torch.cat([x, x * 2], 1) + torch.stack([x, x], 1).flatten(1, 2), IMAGE),
    "slices": (lambda x: x[:, 1:, ::2].sum(-1) + x[:, :-1, 0] + x[:, 0, :1], TEXT),
    "split": (lambda x: sum(part * i for i, part in enumerate(x.chunk(2, -1))) + x.split([2, 2], -1)[1], TEXT),
    "unbind": (lambda x: x.unbind(1)[1] - x.unbind(1)[3], TEXT),
    "expansion": (lambda x: x[:, :1].expand(-1, 5, -1) * x, TEXT),
    "repetition": (lambda x: x.repeat(1, 2, 1) + x.repeat_interleave(2, dim=1), TEXT),
    "flip and roll": (lambda x: x.flip([1]) + x.roll(2, 1), TEXT),
    "constant index": (lambda x: x[:, torch.tensor([3, 0, 1])], TEXT),
    "elements of a constant row": (lambda x: torch.arange(6.0).expand(x.shape[0], 6).gather(1, x.argmax(-1)), TEXT),
    "zeros in a slice": (lambda x: _with_zeros(x) * 1, TEXT),
    "means": (lambda x: x.mean((2, 3)) + x.amax((2, 3)) + x.sum((2, 3), keepdim=True).flatten(1), IMAGE),
    "variance": (lambda x: x.var(-1) + x.std(-1, correction=0) + x.norm(dim=-1) + x.cumsum(1)[..., 0], TEXT),
    "softmax of channels": (lambda x: x.softmax(1) + functional.log_softmax(x, 1), IMAGE),
    "largest values": (lambda x: (x.max(1).values, x.argmax(-1)), TEXT),
    "product with a vector": (lambda x: x @ torch.arange(4.0) + x[:, 0] @ torch.ones(4, 5), TEXT),
    "softplus with a factor and a threshold": (
        lambda x: functional.softplus(x, 2.0, 1.0) + functional.softplus(x, 0.5) - functional.softplus(x),
        TEXT,
    ),
    "product of tensors": (lambda x: x @ x.transpose(1, 2), TEXT),
    "einsum": (lambda x: torch.einsum("btc,bsc->bts", x, x), TEXT),
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
    "gated linear unit": (lambda x: functional.glu(x, -1), TEXT),
    "a dict of outputs": (lambda x: {"first": x + 1, "second": x.mean(-1)}, TEXT),
}


def _with_zeros(x: torch.Tensor) -> torch.Tensor:
    made = x.clone()
    made[:, 1:3].zero_()
    return made


def _written(x: torch.Tensor) -> torch.Tensor:
    made = x + 1
    made[:, 1:3] = 0.0
    made[:, 0, 1] = made[:, 0, 2]
    return made


def _halves(x: torch.Tensor) -> torch.Tensor:
    return functional.fold(functional.unfold(x, (3, 2), padding=1, stride=2) * 2, (6, 8), (3, 2), padding=1, stride=2)


CASES |= {
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
    "one row of each example": (lambda x: x[torch.arange(x.shape[0]), x.argmax(1)[:, 0]], TEXT),
    "rows repeated for each example": (lambda x: torch.arange(12.0).view(3, 4).repeat(x.shape[0], 1), TEXT),
    "joined heads after a product": (
        lambda x: (
            (x[:, None] @ x[:, None].transpose(2, 3) @ x.view(-1, 5, 2, 2).transpose(1, 2)).transpose(1, 2).flatten(2)
        ),
        TEXT,
    ),
    "joins of joins": (lambda x: torch.cat([x, x * 2, torch.cat([x, x * 2], 2).tanh(), x * 3], 2), TEXT),
    "aliases": (lambda x: torch.multiply(x, 2).subtract(1).true_divide(3), TEXT),
}

__all__ = ["CASES", "IMAGE", "TEXT"]
