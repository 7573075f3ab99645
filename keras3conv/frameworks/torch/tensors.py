"""List the modules and tensors in a torch module by path, convert tensors from and to numpy arrays, and write them.

`nn.Module.named_modules` and similar methods are slower, because they use a nested generator for each level. They need
1 % of the time of a run on a small input, and are called many times.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from keras3conv.errors import ModelError
from keras3conv.numerics.copying import copy_into, own_copy
from keras3conv.transforms import Array


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the module and all submodules with all of their paths, parents before children."""
    found: list[tuple[str, nn.Module]] = []
    _collect(found, "", module)
    return found


def _collect(modules: list[tuple[str, nn.Module]], path: str, module: nn.Module) -> None:
    modules.append((path, module))
    start = f"{path}." if path else ""
    for name, child in module._modules.items():
        if child is not None:
            _collect(modules, start + name, child)


def named_tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return all parameters, then all buffers, with their paths; a tied tensor is listed under each of its paths."""
    modules = named_modules(module)
    return [*_members(modules, "_parameters"), *_members(modules, "_buffers")]


def named_buffers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return all buffers with their paths; a tied buffer is listed under each of its paths."""
    return _members(named_modules(module), "_buffers")


def _members(modules: list[tuple[str, nn.Module]], attribute: str) -> list[tuple[str, torch.Tensor]]:
    found = []
    for path, child in modules:
        if members := getattr(child, attribute):
            start = f"{path}." if path else ""
            found += [(start + name, tensor) for name, tensor in members.items() if tensor is not None]
    return found


def double_precision(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a float64 run for a dtype: float64, complex128 for complex numbers, or the dtype itself."""
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype


def tensors_in(value: object) -> list[torch.Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    found: list[torch.Tensor] = []
    _collect_tensors(found, value)
    return found


def _collect_tensors(tensors: list[torch.Tensor], value: object) -> None:
    """Append the tensors in a nested structure to a list; there are no generators, because speed matters here.

    Args:
        tensors: The list that is extended.
        value: The structure: tuples, lists and dicts.
    """
    if isinstance(value, torch.Tensor):
        tensors.append(value)
    elif isinstance(value, tuple | list):
        for item in value:
            _collect_tensors(tensors, item)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect_tensors(tensors, item)


def version_of(tensor: torch.Tensor) -> int | None:
    """Return how often a tensor was overwritten in place; None if torch does not count this."""
    return None if tensor.is_inference() else tensor._version


_EXTENSION_DTYPES = {
    torch.bfloat16: ("bfloat16", torch.int16),
    torch.float8_e4m3fn: ("float8_e4m3fn", torch.int8),
    torch.float8_e5m2: ("float8_e5m2", torch.int8),
}
"""For each dtype that numpy lacks, the dtype of the package ml_dtypes, and an integer dtype of the same size."""


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array of the same dtype, sharing memory if possible.

    Raises:
        ModelError: The tensor is on the meta device.
    """
    if tensor.is_meta:
        raise ModelError(
            f"a tensor of shape {tuple(tensor.shape)} is on the meta device: it has no values; load the weights first"
        )
    if tensor.dtype in _EXTENSION_DTYPES:
        import ml_dtypes

        name, storage = _EXTENSION_DTYPES[tensor.dtype]
        bits: Array = tensor.detach().cpu().view(storage).numpy()
        return bits.view(getattr(ml_dtypes, name))
    array: Array = tensor.numpy(force=True)  # without the gradient, on the CPU, and conjugated or negated if due
    return array


def floating_tensors(module: nn.Module) -> dict[str, Array]:
    """Return the values of all floating-point parameters and buffers by path."""
    return {path: to_numpy(tensor) for path, tensor in named_tensors(module) if tensor.is_floating_point()}


@lru_cache(maxsize=64)
def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype as numpy writes it, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def to_torch(array: Array) -> torch.Tensor:
    """Return an array as a tensor of the same dtype, sharing memory if possible."""
    if not array.flags.writeable:
        array = array.copy()
    for dtype, (name, storage) in _EXTENSION_DTYPES.items():
        if array.dtype.name == name:
            integers = np.asarray(array, order="C").view(np.dtype(dtype_name(storage)))
            return torch.from_numpy(integers).view(dtype)
    return torch.from_numpy(array)


_LARGE = 1 << 15
"""The number of elements above which torch copies with several threads."""


def copy_from_array(target: torch.Tensor, value: Array) -> None:
    """Copy an array into a tensor; copy a large permuted array in tiles, because `Tensor.copy_` is slow for it."""
    on_cpu = target.device.type == "cpu" and not target.is_conj() and not target.is_neg()
    is_permuted = not (value.flags.c_contiguous and target.is_contiguous())
    if on_cpu and value.size > _LARGE and is_permuted and target.shape == value.shape:
        copy_into(to_numpy(target), value)
        torch.autograd.graph.increment_version(target)
    else:
        target.copy_(to_torch(value))


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
