"""Change what `torch.export` cannot follow: `take_along_dim`, and tests of the values of masks and parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributions import Distribution
from torch.nn.modules import transformer
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


def _taken(tensor: torch.Tensor, indices: torch.Tensor, dim: int) -> torch.Tensor:
    """Return `torch.take_along_dim` of tensors of equal rank; an axis of size one is repeated as often as needed."""
    axes = [axis for axis in range(tensor.ndim) if axis != dim % tensor.ndim]
    sizes, places = [-1] * tensor.ndim, [-1] * tensor.ndim
    for axis in axes:
        if _is_one(tensor.shape[axis]) and not _is_one(indices.shape[axis]):
            sizes[axis] = indices.shape[axis]
        if _is_one(indices.shape[axis]) and not _is_one(tensor.shape[axis]):
            places[axis] = tensor.shape[axis]
    return torch.gather(tensor.expand(sizes), dim, indices.expand(places))


def _is_one(size: Any) -> bool:
    """Return whether a size is the number one; a dynamic size is not, and is not compared."""
    return isinstance(size, int) and size == 1


_LIBRARY: Any = vars(torch.library)["Library"]("keras3conv", "FRAGMENT")
_LIBRARY.define("take_along_dim(Tensor self, Tensor indices, int dim) -> Tensor")
_LIBRARY.impl("take_along_dim", _taken, "CompositeExplicitAutograd")


@contextmanager
def causal_masks_unread() -> Iterator[None]:
    """Make `nn.TransformerEncoder` and `nn.TransformerDecoder` apply a mask without testing if it is causal.

    They compare a mask with the causal one, to choose a faster kernel. This branch depends on values, which
    `torch.export` cannot follow. Without the comparison the mask itself is applied, which gives the same values.
    """
    name = "_detect_is_causal_mask"
    original = getattr(transformer, name, None)
    if original is None:
        yield
        return

    def as_given(_mask: Any, is_causal: bool | None = None, _size: int | None = None) -> bool:
        return is_causal is True

    setattr(transformer, name, as_given)
    try:
        yield
    finally:
        setattr(transformer, name, original)


@contextmanager
def distributions_unchecked() -> Iterator[None]:
    """Make `torch.distributions` take parameters and values without testing them, unless the code asks for the tests.

    The tests only raise an exception, and depend on values, which `torch.export` cannot follow.
    """
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
