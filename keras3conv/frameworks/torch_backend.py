"""What Keras on the torch backend needs of torch itself."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from keras3conv.frameworks import torch_side
from keras3conv.transforms import Array


def gradients(loss: Callable[[], Any], tensors: Sequence[torch.Tensor]) -> list[Array]:
    """The gradients of what a function returns with respect to some tensors; zero where it does not depend on one."""
    flags = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_()
        with torch.enable_grad(), torch_side.precise():
            found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(loss(), list(tensors), allow_unused=True)
    finally:
        for tensor, flag in zip(tensors, flags, strict=True):
            tensor.requires_grad_(flag)
    pairs = zip(tensors, found, strict=True)
    return [torch_side.to_numpy(torch.zeros_like(old) if new is None else new) for old, new in pairs]
