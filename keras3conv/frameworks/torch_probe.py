"""PyTorch under the probe: one run in float64 with the probe's weights, of which everything is recorded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from keras3conv.errors import ModelError, Problem, lay_out
from keras3conv.frameworks import torch_side
from keras3conv.frameworks.record import Call, Flattened, Recording, flatten, traced
from keras3conv.frameworks.torch_operations import MIXES_FEATURES
from keras3conv.frameworks.torch_tree import named_tensors
from keras3conv.model import ModelView
from keras3conv.planner.probe_record import Print, TorchCall, TorchRun, print_of
from keras3conv.transforms import Array

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_WIDER: dict[Any, Any] = dict.fromkeys(
    (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16), torch.Tensor.double
)


def run(
    module: nn.Module, view: ModelView, inputs: object, weights: Mapping[str, Array], wanted: Callable[[str], bool]
) -> TorchRun:
    """Runs a module once, in float64, in evaluation mode and without gradients. The module is as before afterwards.

    Args:
        module: The module.
        view: Its names.
        inputs: What it is called with; see `torch_side.run`.
        weights: Values for its tensors, by path; the others are cast to float64.
        wanted: Of which layers what they return is kept.

    Raises:
        ModelError: The module raised, or returned a value that is not finite; the message names the layer.
    """
    device = next((tensor.device for _, tensor in named_tensors(module)), torch.device("cpu"))
    args, kwargs = torch_side.arguments(inputs, device, float64=True)
    substitutes, bits = _substitutes(module, weights)
    log = _Log(wanted=wanted)
    for path, tensor in substitutes.items():
        log.follow.sources[tensor] = bits[path]
    with _left_as_it_was(module), _watched(module, log), log.follow:
        try:
            outputs = torch.func.functional_call(module, substitutes, args, kwargs, tie_weights=True, strict=False)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            raise torch_side._call_error(module, log.stack, args, kwargs, error) from error
    flat = dict(flatten(outputs, _is_tensor))
    _require_finite(module, log)
    return TorchRun(
        view=traced(view, Recording(calls=tuple(sorted(log.shapes, key=lambda call: call.place)))),
        weights=weights,
        calls=_by_path(log.calls),
        outputs={name: torch_side.to_numpy(tensor) for name, tensor in flat.items()},
        depends=log.follow.known(flat.values()),
        bits=bits,
    )


class _Follow(TorchFunctionMode):
    """Notes which tensors each tensor was computed from, and lets no function fall back to a narrower dtype.

    A norm that computes in float32 whatever it is given would hide everything below 1e-7.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sources: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.flattened = Flattened()

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
        kwargs = kwargs or {}
        result = _in_float64(_WIDER.get(func, func), tuple(map(_wide, args)), {k: _wide(v) for k, v in kwargs.items()})
        if isinstance(result, torch.Tensor | list | tuple):
            self._note(result, self.known(args) | self.known(kwargs.values()))
            self._note_flattening(getattr(func, "__name__", ""), args, result)
        elif getattr(func, "__name__", "") == "__setitem__":
            self._note(args[0], self.known(args))
        return result

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


@dataclass
class _Log:
    """What the hooks write down."""

    wanted: Callable[[str], bool]
    calls: list[TorchCall] = field(default_factory=list)
    shapes: list[Call] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    follow: _Follow = field(default_factory=_Follow)
    bad: str = ""


def _in_float64(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a function; one that has no kernel for float64 is given float32, and its result is made float64 again."""
    try:
        return func(*args, **kwargs)
    except (RuntimeError, NotImplementedError):
        narrow = torch.utils._pytree.tree_map(_to(torch.float64, torch.float32), (args, kwargs))
        if not any(value is not given for value, given in zip(_leaves(narrow), _leaves((args, kwargs)), strict=True)):
            raise
        return torch.utils._pytree.tree_map(_to(torch.float32, torch.float64), func(*narrow[0], **narrow[1]))


def _to(given: torch.dtype, wanted: torch.dtype) -> Callable[[Any], Any]:
    return lambda value: value.to(wanted) if isinstance(value, torch.Tensor) and value.dtype == given else value


def _leaves(values: Any) -> list[Any]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(values)
    return leaves


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _substitutes(module: nn.Module, weights: Mapping[str, Array]) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Tensors to run with, one for all names of a tensor, and the bit of each name."""
    made: dict[int, torch.Tensor] = {}
    places: dict[int, int] = {}
    substitutes, bits = {}, {}
    for path, tensor in named_tensors(module):
        if id(tensor) not in made:
            given = torch_side.to_torch(np.asarray(weights[path], order="C")) if path in weights else tensor.detach()
            floating = tensor.is_floating_point()
            made[id(tensor)] = given.to(tensor.device, torch.float64 if floating else tensor.dtype, copy=True)
            places[id(tensor)] = 1 << len(places)
        substitutes[path], bits[path] = made[id(tensor)], places[id(tensor)]
    return substitutes, bits


@contextmanager
def _left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, float64 as the default, no fused paths around modules; all undone afterwards."""
    random_state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.set_default_dtype(torch.float64)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch_side.precise(), torch.no_grad(), torch_side.evaluating(module):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_rng_state(random_state)


@contextmanager
def _watched(module: nn.Module, log: _Log) -> Iterator[None]:
    handles = []
    counter = iter(range(1 << 62))

    def watch(path: str, child: nn.Module) -> None:
        open_calls: list[tuple[TorchCall, Call]] = []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            log.stack.append(path)
            tensors = [tensor for _, tensor in flatten((args, kwargs), _is_tensor)]
            place = next(counter)
            flat = log.follow.flattened.shape(tensors[0]) if tensors else None
            shapes = tuple(tuple(tensor.shape) for tensor in tensors)
            prints = tuple(map(_print, tensors)) if log.wanted(path) else ()
            call = TorchCall(path=path, place=place, prints=prints, depends=log.follow.known(tensors))
            open_calls.append((call, Call(path=path, place=place, shapes=shapes, flattened=flat)))

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
            log.stack.pop()
            call, shapes = open_calls.pop()
            log.shapes.append(shapes)
            if log.wanted(path):
                arrays = tuple(np.array(torch_side.to_numpy(tensor)) for _, tensor in flatten(output, _is_tensor))
                log.calls.append(replace(call, outputs=arrays))
                if not log.bad and any(array.dtype.kind == "f" and np.isnan(array).any() for array in arrays):
                    log.bad = path

        handles.append(child.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(child.register_forward_hook(after, with_kwargs=True))

    try:
        for path, child in module.named_modules():
            watch(path, child)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _print(tensor: torch.Tensor) -> Print:
    return print_of(torch_side.to_numpy(tensor))


def _require_finite(module: nn.Module, log: _Log) -> None:
    if log.bad:
        problem = Problem(torch=log.bad, fact="returned NaN for these inputs, under weights that are all finite")
        raise ModelError(lay_out(f"{type(module).__name__} (torch) cannot be compared", [problem]))


def _by_path(calls: list[TorchCall]) -> dict[str, tuple[TorchCall, ...]]:
    found: dict[str, list[TorchCall]] = {}
    for call in sorted(calls, key=lambda call: call.place):
        found.setdefault(call.path, []).append(call)
    return {path: tuple(entries) for path, entries in found.items()}
