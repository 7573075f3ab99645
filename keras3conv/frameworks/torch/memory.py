"""Write tensors in place, in another memory layout, or as views of the memory of other tensors."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from keras3conv.frameworks.torch.tensors import copy_from_array, to_numpy, to_torch
from keras3conv.numerics.copying import own_copy
from keras3conv.transforms import Array


def overwrite(tensor: torch.Tensor, value: Array, order: tuple[int, ...] | None = None) -> None:
    """Copy a value into a tensor; the tensor then shares no memory with the value.

    Args:
        tensor: A parameter or a buffer; it stays the same object.
        value: The value, of the tensor's shape and dtype.
        order: The order of the axes in the tensor's memory, slowest first. The tensor gets new memory unless it has
            this order already. None keeps the memory.
    """
    value = np.asarray(value)  # arithmetic of numpy returns scalars for arrays without axes
    with torch.no_grad():
        has_order = order is None or tensor.permute(order).is_contiguous()
        if has_order and not _shares_memory(tensor, value):
            copy_from_array(tensor, value)
            return
        order = tuple(range(tensor.ndim)) if order is None else order
        memory = torch.empty([tensor.shape[axis] for axis in order], dtype=tensor.dtype, device=tensor.device)
        fresh = memory.permute([order.index(axis) for axis in range(tensor.ndim)])
        copy_from_array(fresh, value)
        tensor.data = fresh


def _shares_memory(tensor: torch.Tensor, value: Array) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() > 0 and np.may_share_memory(to_numpy(tensor), value)


def view_of(source: torch.Tensor, value: Array) -> torch.Tensor | None:
    """Return a view of a tensor that has the elements of an array, if the array shares the tensor's memory.

    Args:
        source: The tensor whose memory the array may have.
        value: The array, which was made from the source.

    Returns:
        The view; None if the array has its own memory, another dtype, or negative strides.
    """
    if source.device.type != "cpu" or source.numel() == 0:
        return None
    own = to_numpy(source)
    begin, size = own.__array_interface__["data"][0], own.itemsize
    offset = value.__array_interface__["data"][0] - begin
    steps = [step for step, length in zip(value.strides, value.shape, strict=True) if length > 1]
    if own.dtype != value.dtype or not np.may_share_memory(own, value) or offset < 0 or min(steps, default=0) < 0:
        return None
    strides = [max(step, 0) // size for step in value.strides]
    return torch.as_strided(source.detach(), value.shape, strides, source.storage_offset() + offset // size)


def share(
    sources: Mapping[str, torch.Tensor],
    targets: Mapping[str, torch.Tensor],
    values: Iterable[tuple[str, Array, tuple[str, ...]]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make target tensors use the memory of source tensors; after any exception all targets have their old memory.

    Args:
        sources: The tensors to read by path.
        targets: The tensors to write by path; each stays the same object.
        values: For each target its path, its new value, and the paths of the sources that the value was made from.

    Returns:
        The paths of the targets that share memory, and of those that got a copy because their value is not a view.
    """
    namesakes: dict[tuple[int, tuple[int, ...]], list[torch.Tensor]] = {}
    for tensor in {id(tensor): tensor for tensor in targets.values()}.values():
        namesakes.setdefault((tensor.data_ptr(), tensor.stride()), []).append(tensor)
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    shared: list[str] = []
    copied: list[str] = []
    try:
        for path, value, names in values:
            known = (view_of(sources[name], value) for name in names if name in sources)
            view = next((view for view in known if view is not None), None)
            (copied if view is None else shared).append(path)
            fresh = to_torch(own_copy(value)).to(targets[path].device) if view is None else view
            own = targets[path]
            tied = namesakes[own.data_ptr(), own.stride()] if own.numel() else [own]
            for tensor in tied:
                before.append((tensor, tensor.data))
                tensor.data = fresh
    except BaseException:  # also KeyboardInterrupt
        for tensor, old in before:
            tensor.data = old
        raise
    return tuple(shared), tuple(copied)
