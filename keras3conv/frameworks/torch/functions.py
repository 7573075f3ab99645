"""Functions that torch does not have, and that what is generated may carry: each needs torch and its `F` alone."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch itself uses


def pad_same(
    x: torch.Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...], value: float = 0.0
) -> torch.Tensor:
    """Pads the last axes as "same" of Keras does for windows with a stride: the larger part behind.

    How much that is depends on the sizes of what is given.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    pads: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel_size, stride, strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)


__all__ = ["pad_same"]
