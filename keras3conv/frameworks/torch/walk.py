"""The modules and the tensors in a torch module, by path.

torch has walks of its own. Theirs hand every path up through a generator for each level, and a walk takes a hundredth
of what a model takes for a small input: what asks for several is felt.
"""

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


def named_tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Every parameter and buffer, under all of its names; the parameters first."""
    modules = named_modules(module)
    return [*_members(modules, "_parameters"), *_members(modules, "_buffers")]


def named_buffers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Every buffer, under all of its names."""
    return _members(named_modules(module), "_buffers")


def _members(modules: list[tuple[str, nn.Module]], kind: str) -> list[tuple[str, torch.Tensor]]:
    found = []
    for path, child in modules:
        if members := getattr(child, kind):
            start = f"{path}." if path else ""
            found += [(start + name, tensor) for name, tensor in members.items() if tensor is not None]
    return found


__all__ = ["named_buffers", "named_modules", "named_tensors"]
