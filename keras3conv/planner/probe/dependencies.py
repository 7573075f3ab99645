"""What the probe sees of torch's functions: what each tensor was computed from, and which had no float64 kernel."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from keras3conv.frameworks.shared.recording import Flattened
from keras3conv.frameworks.torch.operations import MIXES_FEATURES

_HALF = (torch.float16, torch.bfloat16)
_WIDER: dict[Any, Any] = dict.fromkeys((torch.Tensor.half, torch.Tensor.bfloat16), torch.Tensor.double)


@dataclass
class Narrowed:
    """What was computed in float32, because torch has it in no other dtype.

    Attributes:
        bit: Marks, among the bits of what a tensor was computed from, that float32 was on the way.
        where: The functions by their names, each with the path of the layer that called it.
    """

    bit: int
    where: dict[tuple[str, str], None] = field(default_factory=dict)


class Follow(TorchFunctionMode):
    """Notes which tensors each tensor was computed from, and lets no function fall back to half precision.

    Args:
        owner: Says which layer is running.
        narrowed: Takes note of the functions that have no kernel for float64.
    """

    def __init__(self, owner: Callable[[], str], narrowed: Narrowed) -> None:
        super().__init__()
        self.sources: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.flattened = Flattened()
        self.narrowed = narrowed
        self._owner = owner

    def known(self, values: Any) -> int:
        """The bits of all that these tensors were computed from."""
        found = 0
        for value in values:
            if isinstance(value, torch.Tensor):
                found |= self._bits_of(value)
            elif isinstance(value, list | tuple):
                found |= self.known(value)
        return found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function, in float64 if it can be, and notes what its result was computed from."""
        kwargs = {name: _wide(value) for name, value in (kwargs or {}).items()}
        result, narrow = self._called(_WIDER.get(func, func), tuple(map(_wide, args)), kwargs)
        if isinstance(result, torch.Tensor | list | tuple):
            self._note(result, self.known(args) | self.known(kwargs.values()) | narrow)
            self._note_flattening(getattr(func, "__name__", ""), args, result)
        elif getattr(func, "__name__", "") == "__setitem__":
            self._note(args[0], self.known(args))
        return result

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, int]:
        """What a function returns, and the bit that says whether it was computed in float32.

        A constant of float32 that is no tensor of the module is widened; only what then has no kernel is narrowed.
        What is changed in place cannot be computed on a copy.
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
            self.narrowed.where[getattr(func, "__name__", "a function"), self._owner()] = None
            return tree_map(_to(torch.float32, torch.float64), result), self.narrowed.bit

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


def _converted(given: tuple[tuple[Any, ...], dict[str, Any]], of: torch.dtype, to: torch.dtype) -> Any:
    """The arguments with the tensors of one dtype in another; None if there are none of it."""
    made = tree_map(_to(of, to), given)
    changed = any(new is not old for new, old in zip(tree_leaves(made), tree_leaves(given), strict=True))
    return made if changed else None


def _retried(func: Any, given: Any) -> Any:
    """What a function returns for converted arguments; None if it raises for these as well."""
    try:
        return func(*given[0], **given[1])
    except (RuntimeError, NotImplementedError):
        return None


def _to(given: torch.dtype, wanted: torch.dtype) -> Callable[[Any], Any]:
    return lambda value: value.to(wanted) if isinstance(value, torch.Tensor) and value.dtype == given else value
