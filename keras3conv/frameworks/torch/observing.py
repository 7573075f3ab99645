"""Replace the tensors of a torch module while it runs, and observe its calls with hooks and function modes.

A tensor is replaced by a given value, by a float64 cast, or by a copy (of a buffer).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.recording import Flattened
from keras3conv.frameworks.torch.derived import Derived
from keras3conv.frameworks.torch.tensors import (
    double_precision,
    named_buffers,
    named_modules,
    named_tensors,
    tensors_in,
    to_torch,
)
from keras3conv.transforms import Array


def running_tensors(module: nn.Module, values: Mapping[str, Array], *, float64: bool) -> dict[str, torch.Tensor]:
    """Return the tensors that replace a module's own tensors in a run: given values, float64 casts, copies of buffers.

    A parameter that needs none of these is left out. A tied tensor with several names is one tensor in the result,
    under each of its names.
    """
    buffers = dict(named_buffers(module))
    given = _values_of(module, values)
    made: dict[int, torch.Tensor] = {}
    substitutes = {}
    for path, tensor in named_tensors(module) if float64 or values else buffers.items():
        own = given.get(id(tensor))
        casts = float64 and tensor.dtype != double_precision(tensor.dtype)
        if own is not None or casts or path in buffers:
            if id(tensor) not in made:
                made[id(tensor)] = _running(tensor, own, float64=float64)
            substitutes[path] = made[id(tensor)]
    return substitutes


def _running(tensor: torch.Tensor, own: Array | None, *, float64: bool) -> torch.Tensor:
    value = tensor.detach() if own is None else to_torch(np.array(own, order="C")).to(tensor.device)
    if float64:
        value = value.to(double_precision(value.dtype))
    # A module may write a state into its buffers, so it gets copies. Every run then starts from the same state.
    return value.clone() if own is None and value.dtype == tensor.dtype else value


@contextmanager
def substituted(module: nn.Module, substitutes: dict[str, torch.Tensor]) -> Iterator[None]:
    """Replace the tensors of a module, in all attributes that contain them, inside the `with` block.

    `torch.func.functional_call` is not used, because it does not restore a submodule that has two names.

    Args:
        module: The module; after the `with` block it has its own tensors again.
        substitutes: Tensors by path; for a tensor with several names its first name counts. If the module assigns a new
            tensor during the `with` block, this dict is updated.
    """
    names: dict[int, list[str]] = {}
    for path, tensor in named_tensors(module):
        if path in substitutes:
            names.setdefault(id(tensor), []).append(path)
    places = [place for place in _places(module) if id(place[2]) in names]
    try:
        for members, name, tensor in places:
            members[name] = substitutes[names[id(tensor)][0]]
        yield
    finally:
        for members, name, tensor in places:
            left = members.get(name)
            if isinstance(left, torch.Tensor):
                substitutes |= dict.fromkeys(names[id(tensor)], left)
            members[name] = tensor


def _places(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Yield, for every parameter and buffer once, the dict that contains it, its name and the tensor."""
    for child in {id(child): child for _, child in named_modules(module)}.values():
        for members in (child._parameters, child._buffers):
            yield from ((members, name, tensor) for name, tensor in members.items() if tensor is not None)


def before_running(
    module: nn.Module, substitutes: Mapping[str, torch.Tensor], values: Mapping[str, Array], *, float64: bool
) -> dict[str, torch.Tensor]:
    """Return the values of all buffers before a run, by path, to find the buffers that the run changes.

    Args:
        module: The module.
        substitutes: The tensors with which the module runs, by path.
        values: The given values of the run.
        float64: Whether the run is in float64.
    """
    buffers = dict(named_buffers(module))
    if not values and not float64:
        return buffers
    return {path: substitutes[path].clone() for path in buffers}


def _values_of(module: nn.Module, values: Mapping[str, Array]) -> dict[int, Array]:
    """Return the given values by the id of the tensor; for a tensor with several names, the value of the first name.

    Args:
        module: The module.
        values: Values by the path of the tensor.
    """
    if not values:
        return {}
    found: dict[int, Array] = {}
    for path, tensor in named_tensors(module):
        if path in values:
            found.setdefault(id(tensor), values[path])
    return found


def computed_weights(
    derived: Mapping[str, Derived], values: Mapping[str, Array], *, float64: bool
) -> dict[str, torch.Tensor]:
    """Return the values of computed weights (weight norm) for a run: given ones; in a float64 run also current ones.

    The current values are fixed, because a weight that is computed in float64 would differ from the transferred weight.
    A weight is left out, so that the module computes it, if the tensors that it is computed from are given.

    Args:
        derived: The computed weights of the module, by path.
        values: Values that replace the module's tensors in the run, by path.
        float64: Whether the run is in float64.
    """
    found = {}
    for path, weight in derived.items():
        if path in values or (float64 and values.keys().isdisjoint(weight.parts)):
            own = weight.compute()
            value = to_torch(np.asarray(values[path], order="C")).to(own.device) if path in values else own
            found[path] = value.to(double_precision(value.dtype)) if float64 else value
    return found


Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a call."""

Before = Callable[[str, Arguments], Arguments | None]
"""A function that is called before a module runs, with its path and arguments; it returns new arguments or None."""

After = Callable[[str, Arguments, Any], Any]
"""A function that is called after a module ran, with its path, arguments and output; returns a new output or None."""


@contextmanager
def forward_calls(
    module: nn.Module, *, before: Before | None = None, after: After | None = None, running: list[str] | None = None
) -> Iterator[list[str]]:
    """Call functions before and after the forward pass of a module and of all its submodules inside the `with` block.

    Args:
        module: The module.
        before: Called with the path and the arguments of a module before its forward pass; returns other arguments for
            it, or None.
        after: Called with path, arguments and output after the forward pass; returns another output, or None.
        running: The list that is yielded; by default a new one.

    Yields:
        The paths of the modules that are running, the innermost last; after an exception, of those that were running.
    """
    running = [] if running is None else running
    handles: list[RemovableHandle] = []

    def register(path: str, child: nn.Module) -> None:
        def enter(_: nn.Module, args: Any, kwargs: Any) -> Arguments | None:
            changed = before(path, (args, kwargs)) if before else None
            running.append(path)
            return changed

        def leave(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            while running.pop() != path:  # drop modules that raised: torch calls no hook after an exception
                pass
            return after(path, (args, kwargs), output) if after else None

        handles.append(child.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(child.register_forward_hook(leave, with_kwargs=True))

    try:
        for path, child in module.named_modules():
            register(path, child)
        yield running
    finally:
        for handle in handles:
            handle.remove()


MIXES_FEATURES = frozenset({"linear", "matmul", "__matmul__", "mm", "addmm", "einsum", "bilinear", "cdist"})
"""The functions that mix features: after them, the order of a flattened image's values is lost."""


class OperationsFollowed(TorchFunctionMode):
    """Reports every tensor operation to a follower, which tracks the data flow, while the mode is active.

    Args:
        follower: Follows the data flow between layers.
        flattened: Follows flattened tensors; None if they need not be followed.
    """

    def __init__(self, follower: Follower, flattened: Flattened | None = None) -> None:
        super().__init__()
        self.follower, self.flattened = follower, flattened

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a torch function and report its inputs and outputs to the `Follower`, which tracks the data flow."""
        result = func(*args, **(kwargs or {}))
        self.follower.functions.add(getattr(func, "__name__", ""))
        outputs = tensors_in(result)
        if outputs or result is None:  # a function without a result changes its first argument: `x[0] = y`
            inputs = tensors_in((args, kwargs or {}))
            self.follower.operation(inputs, outputs or inputs[:1])
        if self.flattened is not None:
            self._note_flattening(self.flattened, func, args, result)
        return result

    def _note_flattening(self, flattened: Flattened, func: Any, args: Any, result: Any) -> None:
        """Record a tensor that a function reshaped to two axes, or computed elementwise from a reshaped tensor."""
        mixes = getattr(func, "__name__", "") in MIXES_FEATURES
        if args and torch.is_tensor(args[0]) and isinstance(result, torch.Tensor) and result.ndim == 2 and not mixes:
            flattened.note(args[0], result)


@contextmanager
def held(derived: Mapping[str, Derived], values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Make a module use given values in place of the weights that it computes, inside the `with` block.

    Args:
        derived: All computed weights of the module.
        values: The values by path.
    """
    try:
        with ExitStack() as contexts:
            for path, value in values.items():
                contexts.enter_context(derived[path].held(value))
            yield
    finally:
        for weight in derived.values():
            weight.refresh()
