"""Observe a torch module while it runs, with hooks and function modes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.recording import Flattened
from keras3conv.frameworks.torch.tensors import is_tensor, tensors_in

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
        if args and is_tensor(args[0]) and isinstance(result, torch.Tensor) and result.ndim == 2 and not mixes:
            flattened.note(args[0], result)
