"""Represent a call of a module by one operator, so that `torch.export` does not trace into the module.

This is done for modules that a rule of the user converts, and for modules that cannot be captured: the rest of the
model then can. The operator represents one call: its results have the shapes that the call returned in a run of the
module, with a dynamic batch size.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch.module import call_error
from keras3conv.frameworks.torch.observing import Arguments, forward_calls
from keras3conv.frameworks.torch.tensors import dtype_name, named_modules
from keras3conv.model.graph import MODULE_CALL
from keras3conv.model.views import LayerView, ModelView
from keras3conv.rules.library import lookup
from keras3conv.rules.registry import is_users_own

KIND = MODULE_CALL
"""The name of the operator that represents a module call in a call graph.

The arguments of the operator are `inputs`, `path` and `results`.
"""

_BATCH = "batch"


@dataclass
class ModuleCall:
    """One call of a module.

    Attributes:
        path: The path of the module.
        arguments: Its positional and keyword arguments.
        caller: The path of the module that calls it.
        output: Its return value.
    """

    path: str
    arguments: Arguments
    caller: str
    output: Any = None


@dataclass
class Calls:
    """The calls of all modules in one run, in the order in which they began."""

    calls: list[ModuleCall] = field(default_factory=list)

    def of(self, path: str) -> list[ModuleCall]:
        """Return the calls of the module with this path."""
        return [call for call in self.calls if call.path == path]

    def inside(self, path: str) -> Iterator[ModuleCall]:
        """Yield the first call of each module that a given module calls directly."""
        seen: set[str] = set()
        for call in self.calls:
            if call.caller == path and call.path not in seen:
                seen.add(call.path)
                yield call


def recorded_calls(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Calls:
    """Run a module in its present mode and return the calls of its submodules.

    Raises:
        ModelError: The module raised.
    """
    found, running, unfinished = Calls(), list[str](), list[ModuleCall]()

    def before(path: str, arguments: Arguments) -> None:
        unfinished.append(ModuleCall(path=path, arguments=arguments, caller=running[-1] if running else "-"))
        found.calls.append(unfinished[-1])

    def after(path: str, arguments: Arguments, output: Any) -> None:
        unfinished.pop().output = output

    with torch.no_grad(), forward_calls(module, before=before, after=after, running=running):
        try:
            module(*args, **kwargs)
        except RAISED_BY_MODELS as error:
            raise call_error(module, running, (tuple(args), dict(kwargs)), error) from error
    return found


def registered_modules(described: ModelView) -> dict[str, LayerView]:
    """Return the layers whose class has a rule that the user registered, by path.

    Args:
        described: The view of the module, with configurations.
    """
    layers = (layer for layer in described.layers if layer.path)
    return {
        layer.path: layer
        for layer in layers
        if any(is_users_own(rule) and rule.may_apply(layer) for rule in lookup(layer.kinds, ()))
    }


@contextmanager
def standing_in(module: nn.Module, calls: Calls, paths: Collection[str]) -> Iterator[None]:
    """Replace the calls of some modules by calls of one operator each, inside the `with` block.

    Args:
        module: The whole module.
        calls: The recorded calls of its submodules, which determine the shapes of the operator's results.
        paths: The paths of the modules to replace.
    """
    children = [(child, calls.of(path)) for path, child in named_modules(module) if path in paths and calls.of(path)]
    before = [(child, vars(child).get("forward")) for child, _ in children]
    try:
        for child, own in children:
            vars(child)["forward"] = _operator_calls(own)
        yield
    finally:
        for child, forward in before:
            vars(child).pop("forward", None)
            if forward is not None:
                vars(child)["forward"] = forward


def _operator_calls(calls: Sequence[ModuleCall]) -> Any:
    """Return a function to call in place of a module: it calls one operator, with results of the recorded shapes.

    Args:
        calls: The recorded calls of the module; each call of the function takes the next one.
    """
    number = 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal number
        call = calls[number % len(calls)]
        number += 1
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        example = [leaf for leaf in pytree.tree_leaves(call.arguments) if isinstance(leaf, torch.Tensor)]
        leaves, structure = pytree.tree_flatten(call.output)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        batch = example[0].shape[0] if example and example[0].ndim else None
        results = "; ".join(_described(tensor, batch) for tensor in tensors)
        made = iter(torch.ops.keras3conv.module(given, call.path, results))
        filled = [next(made) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        return pytree.tree_unflatten(filled, structure)

    return forward


def _described(tensor: torch.Tensor, batch: int | None) -> str:
    sizes = [_BATCH if axis == 0 and size == batch else str(size) for axis, size in enumerate(tensor.shape)]
    return " ".join([dtype_name(tensor.dtype), *sizes])


def _empty(inputs: list[torch.Tensor], path: str, results: str) -> list[torch.Tensor]:
    """Return tensors of the dtypes and shapes that `results` describes, with values that mean nothing.

    This function implements the operator that replaces the call of a module; the values are never read.

    Args:
        inputs: The tensors with which the module is called; the first one has the batch size.
        path: The path of the module.
        results: The dtype and the sizes of each result, as text.
    """
    made = []
    for result in results.split("; "):
        dtype, *sizes = result.split()
        shape = [inputs[0].shape[0] if size == _BATCH else int(size) for size in sizes]
        made.append(inputs[0].new_empty(shape, dtype=getattr(torch, dtype)))
    return made


_LIBRARY: Any = vars(torch.library)["Library"]("keras3conv", "FRAGMENT")
_LIBRARY.define("module(Tensor[] inputs, str path, str results) -> Tensor[]")
_LIBRARY.impl("module", _empty, "CompositeExplicitAutograd")
