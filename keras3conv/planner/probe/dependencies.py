"""Intercept torch functions to record which weights each tensor was computed from.

A function without a float64 kernel runs in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from keras3conv.frameworks.shared.recording import Flattened
from keras3conv.frameworks.torch.observing import MIXES_FEATURES

_HALF = (torch.float16, torch.bfloat16)
_WIDER: dict[Any, Any] = dict.fromkeys((torch.Tensor.half, torch.Tensor.bfloat16), torch.Tensor.double)


@dataclass
class Float32Functions:
    """The functions that ran in float32, because torch has no float64 kernel for them.

    Attributes:
        bit: The bit that is set in a tensor's dependencies if the tensor depends on such a function.
        used: The names of the functions, each with the path of the layer that called it; a dict as an ordered set.
    """

    bit: int
    used: dict[tuple[str, str], None] = field(default_factory=dict)


class DependencyTracker(TorchFunctionMode):
    """Tracks the weights that each tensor was computed from, and replaces half precision by float64.

    Args:
        running_layer: Returns the path of the innermost running layer.
        float32: Collects the functions that ran in float32.
    """

    def __init__(self, running_layer: Callable[[], str], float32: Float32Functions) -> None:
        super().__init__()
        self.sources: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.flattened = Flattened()
        self.float32 = float32
        self._running_layer = running_layer

    def dependencies(self, values: Any) -> int:
        """Return the set of weights from which these tensors were computed, as an integer with one bit per weight."""
        bits = 0
        for value in values:
            if isinstance(value, torch.Tensor):
                bits |= self._bits_of(value)
            elif isinstance(value, list | tuple):
                bits |= self.dependencies(value)
        return bits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, in float64 if possible, and record the dependencies of its result."""
        kwargs = {name: _wide(value) for name, value in (kwargs or {}).items()}
        result, float32_bit = self._call(_WIDER.get(func, func), tuple(map(_wide, args)), kwargs)
        if isinstance(result, torch.Tensor | list | tuple):
            self._note(result, self.dependencies(args) | self.dependencies(kwargs.values()) | float32_bit)
            self._note_flattening(getattr(func, "__name__", ""), args, result)
        elif getattr(func, "__name__", "") == "__setitem__":
            self._note(args[0], self.dependencies(args))
        return result

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, int]:
        """Return the result of a function, and the bit that marks float32 results if it ran in float32, else 0.

        If the call fails, it is repeated with float32 constants (tensors that do not belong to the module) cast to
        float64. If this fails too, it is repeated with all float64 arguments cast to float32. An in-place function is
        not repeated, because it cannot run on a copy of its argument.
        """
        try:
            return func(*args, **kwargs), 0
        except (RuntimeError, NotImplementedError):
            if _in_place(func, kwargs):
                raise
            wide = _converted((args, kwargs), torch.float32, torch.float64)
            if wide is not None and (result := _retried(func, wide)) is not None:
                return result, 0
            narrow = _converted((args, kwargs), torch.float64, torch.float32)
            result = None if narrow is None else _retried(func, narrow)
            if result is None:
                raise
            self.float32.used[getattr(func, "__name__", "a function"), self._running_layer()] = None
            return tree_map(_to(torch.float32, torch.float64), result), self.float32.bit

    def _bits_of(self, tensor: torch.Tensor) -> int:
        bits: int = self.sources.get(tensor, 0)  # type: ignore[no-untyped-call]
        return bits

    def _note_flattening(self, name: str, args: Any, result: Any) -> None:
        tensors = isinstance(result, torch.Tensor) and args and isinstance(args[0], torch.Tensor)
        if tensors and result.ndim == 2 and name not in MIXES_FEATURES:
            self.flattened.note(args[0], result)

    def _note(self, result: Any, bits: int) -> None:
        for value in result if isinstance(result, list | tuple) else (result,):
            if isinstance(value, torch.Tensor) and bits:
                self.sources[value] = bits | self._bits_of(value)


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _HALF else value


def _in_place(func: Any, kwargs: dict[str, Any]) -> bool:
    name = str(getattr(func, "__name__", ""))
    if name.startswith("__"):
        return name in ("__setitem__", "__set__") or (name.startswith("__i") and name != "__invert__")
    return name.endswith("_") or "out" in kwargs


def _converted(arguments: tuple[tuple[Any, ...], dict[str, Any]], of: torch.dtype, to: torch.dtype) -> Any:
    """Return the arguments of a call with all tensors of one dtype cast to another; None if there is no such tensor."""
    converted = tree_map(_to(of, to), arguments)
    changed = any(new is not old for new, old in zip(tree_leaves(converted), tree_leaves(arguments), strict=True))
    return converted if changed else None


def _retried(func: Any, arguments: Any) -> Any:
    """Call a torch function again with converted arguments; return its result, or None if it raises again.

    Args:
        func: The torch function.
        arguments: The converted arguments: the positional and the keyword arguments.
    """
    try:
        return func(*arguments[0], **arguments[1])
    except (RuntimeError, NotImplementedError):
        return None


def _to(source: torch.dtype, target: torch.dtype) -> Callable[[Any], Any]:
    return lambda value: value.to(target) if isinstance(value, torch.Tensor) and value.dtype == source else value
