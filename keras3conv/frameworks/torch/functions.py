"""Define functions that torch lacks; their source is copied into generated modules, so they need only torch."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch itself uses


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


__all__ = ["pad_same"]
