"""Define functions that torch lacks; their source is copied into generated modules, so they need only torch."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch itself uses


def activated(name: str, x: torch.Tensor) -> torch.Tensor:
    """Apply the activation with a name in `torch.nn.functional`; "linear" returns the input unchanged."""
    if name == "hard_sigmoid_of_keras_2":
        return (0.2 * x + 0.5).clamp(0, 1)
    result: torch.Tensor = x if name == "linear" else getattr(torch.nn.functional, name)(x)
    return result


def masked_softmax(scores: torch.Tensor, key_mask: torch.Tensor | None, is_causal: bool) -> torch.Tensor:
    """Return the weights of an attention from its scores of shape (batch, queries, keys), as Keras computes them.

    Keys with False in `key_mask`, of shape (batch, keys), are masked out; with `is_causal`, later ones than the query.
    """
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask = mask.tril() if is_causal else mask
    mask = mask if key_mask is None else mask & key_mask[:, None, :].bool()
    far = 65504.0 if scores.dtype == torch.float16 else 1e9
    return torch.where(mask, scores, scores - far).softmax(-1)


def pad_same(
    x: torch.Tensor,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
    value: float = 0.0,
) -> torch.Tensor:
    """Pad the last axes like padding="same" in Keras: an odd number pads one more element at the end.

    With a stride the padding depends on the size of the input.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    pads: list[int] = []
    gaps = dilation or (1,) * len(stride)
    for size, width, step, gap in zip(x.shape[2:], kernel_size, stride, gaps, strict=True):
        total = max((-(-size // step) - 1) * step + gap * (width - 1) + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)


def rgb_to_hsv(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Convert colours from 0 to 1 to hue, saturation and value, as Keras does; `dim` is the axis of the colours."""
    x = torch.where(x.abs() < torch.finfo(x.dtype).eps, 0.0, x)
    red, green, blue = x.unbind(dim)
    value = x.amax(dim)
    spread = value - x.amin(dim)
    saturation = torch.where(value > 0, spread / torch.where(value > 0, value, 1.0), 0.0)
    unit = 1 / (6 * torch.where(spread > 0, spread, 1.0))
    hue = torch.where(value == green, unit * (blue - red) + 2 / 6, unit * (red - green) + 4 / 6)
    hue = torch.where(value == red, unit * (green - blue), hue)
    hue = torch.where(spread > 0, hue, 0.0) + (hue < 0)
    return torch.stack([hue, saturation, value], dim)


__all__ = ["activated", "masked_softmax", "pad_same", "rgb_to_hsv"]
