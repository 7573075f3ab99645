"""PyTorch under the probe: one run in float64 with the probe's weights, of which everything is recorded."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.errors import RAISED_BY_MODELS, ModelError, Problem
from keras3conv.frameworks.shared.recording import Call, Recording, flatten, traced
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.derived import derived_tensors, held
from keras3conv.frameworks.torch.precision import Float64
from keras3conv.frameworks.torch.substitutes import computed_weights, substituted
from keras3conv.frameworks.torch.walk import named_tensors
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView
from keras3conv.numerics.fingerprint import EXACT, Print, has_nan, print_of
from keras3conv.planner.probe.dependencies import Follow, Narrowed
from keras3conv.planner.probe.record import ROUNDED, TorchCall, TorchRun
from keras3conv.transforms import Array


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
    derived = derived_tensors(module)
    computed = computed_weights(derived, weights, float64=True)
    log = _Log.for_tensors(wanted, {**substitutes, **computed}, bits)
    with _left_as_it_was(module), held(derived, computed), _watched(module, log), log.follow, Float64(module):
        try:
            with substituted(module, substitutes):
                outputs = module(*args, **kwargs)
        except RAISED_BY_MODELS as error:
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
        limit=log.limit(flat.values()),
        narrowed=tuple(log.follow.narrowed.where),
    )


@dataclass
class _Log:
    """What the hooks write down."""

    wanted: Callable[[str], bool]
    follow: Follow
    stack: list[str]
    calls: list[TorchCall] = field(default_factory=list)
    shapes: list[Call] = field(default_factory=list)
    bad: str = ""

    @classmethod
    def for_tensors(
        cls, wanted: Callable[[str], bool], tensors: Mapping[str, torch.Tensor], bits: dict[str, int]
    ) -> "_Log":
        """An empty log; `bits` gets a bit for every tensor that has none yet."""
        for path in tensors:
            bits.setdefault(path, 2 * max(bits.values(), default=1))
        stack: list[str] = []
        narrowed = Narrowed(bit=2 * max(bits.values(), default=1))
        follow = Follow(lambda: stack[-1] if stack else "", narrowed)
        for path, tensor in tensors.items():
            follow.sources[tensor] = bits[path]
        return cls(wanted=wanted, follow=follow, stack=stack)

    def limit(self, tensors: Iterable[torch.Tensor]) -> float:
        """How far another side's values may be from these: more, where float32 was on the way."""
        return ROUNDED if self.follow.known(tensors) & self.follow.narrowed.bit else EXACT


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
            dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
            # A module writes into its buffers; weights it only reads, so those of the probe need no copy.
            own = not (path in weights and isinstance(tensor, nn.Parameter))
            made[id(tensor)] = given.to(tensor.device, dtype, copy=own)
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
                made = [tensor for _, tensor in flatten(output, _is_tensor)]
                arrays = tuple(np.array(torch_side.to_numpy(tensor)) for tensor in made)
                log.calls.append(replace(call, outputs=arrays, limit=log.limit(made)))
                if not log.bad and any(map(has_nan, arrays)):
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
