"""Find modules whose own code computes something else in training mode (`if self.training:`), which is not converted.

Dropouts, normalizations and stochastic depth are converted and do not count: they are switched off here.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from keras3conv.errors import RAISED_BY_MODELS, first_of
from keras3conv.frameworks.torch.modes import attributes_restored
from keras3conv.frameworks.torch.observing import Arguments
from keras3conv.frameworks.torch.opaque import recorded_calls
from keras3conv.frameworks.torch.tensors import named_modules

_LISTED = 3

_SWITCHED = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    functional.batch_norm,
)
"""Functions with an argument `training`, which are converted together with what they do in training."""

_OF_TENSORS = (torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout)
"""The same functions as torch writes them itself, without names of arguments; they return their first argument here."""

_TOLERANCE = 1e-3
"""The relative difference above which two outputs are no rounding errors of one computation."""


def training_only(module: nn.Module, arguments: Arguments, converted: Collection[str]) -> tuple[str, ...]:
    """Return a sentence for each class of modules whose own code computes something else in training mode.

    Args:
        module: The module, in evaluation mode.
        arguments: The arguments of its call.
        converted: The paths of modules whose behaviour in training is converted, as stochastic depth is.
    """
    candidates = {
        path: child for path, child in named_modules(module) if path not in converted and _reads_the_mode(type(child))
    }
    if not candidates:
        return ()
    try:
        calls = recorded_calls(module, *arguments)
    except RAISED_BY_MODELS:  # the export raises the error with its place
        return ()
    found: dict[str, list[str]] = {}
    for path, child in candidates.items():
        if calls.of(path) and _differs(child, calls.of(path)[0].arguments):
            found.setdefault(type(child).__name__, []).append(path or type(module).__name__)
    return tuple(
        f"{first_of(paths, _LISTED)} ({kind}): its code computes something else in training mode, "
        "which is not converted"
        for kind, paths in found.items()
    )


def _reads_the_mode(kind: type[nn.Module]) -> bool:
    """Return whether the code of a module class, or of a class that it extends, reads an attribute `training`.

    The code of torch's own classes does not count.
    """
    own = [base for base in kind.__mro__ if issubclass(base, nn.Module) and not base.__module__.startswith("torch.")]
    functions = [member for base in own for member in vars(base).values() if isinstance(member, FunctionType)]
    return any("training" in code.co_names for function in functions for code in _codes(function))


def _codes(function: Callable[..., Any]) -> Iterator[CodeType]:
    """Yield the code of a function, of the functions inside it, and of the function that a decorator has wrapped."""
    waiting = [inspect.unwrap(function).__code__]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _differs(child: nn.Module, arguments: Arguments) -> bool:
    """Return whether the output of a module depends on its own mode, while all modules inside it stay evaluated."""
    expected = _output(child, arguments, training=False)
    if expected is None:
        return False
    found = _output(child, arguments, training=True)
    if found is None:
        return True
    one, other = pytree.tree_flatten(expected), pytree.tree_flatten(found)
    return one[1] != other[1] or any(map(_are_unequal, one[0], other[0]))


def _output(child: nn.Module, arguments: Arguments, *, training: bool) -> Any:
    """Return the output of a module in a mode of its own; None if it raises or returns nothing."""
    buffers = [(buffer, buffer.clone()) for buffer in child.buffers()]
    try:
        with ExitStack() as contexts:
            for context in (attributes_restored(named_modules(child)), torch.no_grad(), _WithoutConverted()):
                contexts.enter_context(context)
            contexts.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(0)
            child.training = training
            args, kwargs = deepcopy(arguments)  # a module may change them: a cache of keys and values
            return child(*args, **kwargs)
    except RAISED_BY_MODELS:
        return None
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _are_unequal(one: object, other: object) -> bool:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return type(one) is not type(other)
    if one.shape != other.shape:
        return True
    scale = float(one.abs().max()) if one.numel() and one.is_floating_point() else 0.0
    return not torch.allclose(one, other, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)


class _WithoutConverted(TorchFunctionMode):
    """Calls dropouts and batch normalizations as in evaluation mode, whatever their arguments say."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _OF_TENSORS:
            return args[0] if args else given["input"]
        if func in _SWITCHED:
            bound = inspect.signature(func).bind(*args, **given)
            has_statistics = bound.arguments.get("running_mean", True) is not None
            bound.arguments["training"] = bound.arguments.get("training", False) and not has_statistics
            return func(*bound.args, **bound.kwargs)
        if func is functional.scaled_dot_product_attention:
            args, given = (*args[:4], *([0.0] if len(args) > 4 else []), *args[5:]), {**given}
            given |= {"dropout_p": 0.0} if "dropout_p" in given else {}
        return func(*args, **given)
