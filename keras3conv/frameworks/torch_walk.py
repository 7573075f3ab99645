"""The modules and the tensors in a torch module, by path.

torch has walks of its own. Theirs hand every path up through a generator for each level, and a walk takes a hundredth of
what a model takes for a small input: what asks for several is felt.
"""

from collections.abc import Iterator

import torch
from torch import nn


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The module and all in it, each under all of its names: a parent before what is in it."""
    found: list[tuple[str, nn.Module]] = []
    _collect(found, "", module)
    return found


def _collect(found: list[tuple[str, nn.Module]], path: str, module: nn.Module) -> None:
    found.append((path, module))
    start = f"{path}." if path else ""
    for name, child in module._modules.items():
        if child is not None:
            _collect(found, start + name, child)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and buffer, under all of its names; the parameters first."""
    modules = named_modules(module)
    yield from _members((path, child._parameters) for path, child in modules)
    yield from _members((path, child._buffers) for path, child in modules)


def named_buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every buffer, under all of its names."""
    yield from _members((path, child._buffers) for path, child in named_modules(module))


def _members(
    owned: Iterator[tuple[str, dict[str, nn.Parameter | None]]] | Iterator[tuple[str, dict[str, torch.Tensor | None]]],
) -> Iterator[tuple[str, torch.Tensor]]:
    for path, members in owned:
        start = f"{path}." if path else ""
        for name, tensor in members.items():
            if tensor is not None:
                yield start + name, tensor


__all__ = ["named_buffers", "named_modules", "named_tensors"]
