"""Export `torch.take_along_dim` without fixing the batch size to that of the example."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FUNCTIONS = (torch.take_along_dim, torch.Tensor.take_along_dim)


class TakenAlongAnyBatch(TorchFunctionMode):
    """Replace `torch.take_along_dim` by an operator with the same arguments and values.

    To broadcast its two tensors, torch's own function compares their shapes, so `torch.export` fixes a dynamic size.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the operator in place of the function; any other function is called itself."""
        keywords = dict(kwargs or {})
        if func in _FUNCTIONS and "out" not in keywords:
            given = dict(zip(("input", "indices", "dim"), args, strict=False)) | keywords
            if given.get("dim") is not None and given["input"].ndim == given["indices"].ndim:
                return torch.ops.keras3conv.take_along_dim(given["input"], given["indices"], given["dim"])
        return func(*args, **keywords)


def _taken(given: torch.Tensor, indices: torch.Tensor, dim: int) -> torch.Tensor:
    """Return `torch.take_along_dim` of tensors of equal rank; an axis of size one is repeated to the size in the other.

    Args:
        given: The tensor with the elements.
        indices: The places of the elements along the axis.
        dim: The axis.
    """
    axes = [axis for axis in range(given.ndim) if axis != dim % given.ndim]
    sizes, places = [-1] * given.ndim, [-1] * given.ndim
    for axis in axes:
        if _is_one(given.shape[axis]) and not _is_one(indices.shape[axis]):
            sizes[axis] = indices.shape[axis]
        if _is_one(indices.shape[axis]) and not _is_one(given.shape[axis]):
            places[axis] = given.shape[axis]
    return torch.gather(given.expand(sizes), dim, indices.expand(places))


def _is_one(size: Any) -> bool:
    """Return whether a size is the number one; a dynamic size is not, and is not compared."""
    return isinstance(size, int) and size == 1


_LIBRARY: Any = vars(torch.library)["Library"]("keras3conv", "FRAGMENT")
_LIBRARY.define("take_along_dim(Tensor self, Tensor indices, int dim) -> Tensor")
_LIBRARY.impl("take_along_dim", _taken, "CompositeExplicitAutograd")
