"""Find the attributes of a module through which one call changes the result of the next call."""

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from keras3conv.frameworks.torch.modes import evaluating
from keras3conv.frameworks.torch.observing import Arguments


def remembered_attributes(module: nn.Module, arguments: Arguments) -> tuple[str, ...]:
    """Return the attributes through which a call of a module changes the result of the next call.

    The module is called twice with the same arguments, and is unchanged afterwards. If the results differ, all
    attributes that the calls changed are returned. If they are equal, none is: an attribute that is only kept for
    inspection, or a table that is computed once, does no harm.

    Args:
        module: The module.
        arguments: The positional and keyword arguments of the calls.
    """
    args, kwargs = arguments
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    results: list[Any] = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]), evaluating(module) as changed:
        for _ in range(2):
            torch.manual_seed(0)
            results.append(pytree.tree_leaves(module(*_copied(args), **_copied(kwargs))))
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
    return () if all(map(_same, *results)) else tuple(changed)


def _copied(value: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, value)


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return True
    return first.shape == second.shape and torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))
