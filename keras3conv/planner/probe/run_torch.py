"""Run a PyTorch module once, in float64, with random weights, for the probe, and record every layer call."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.errors import RAISED_BY_MODELS, ModelError, Problem
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.recording import Call, Recording, traced
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.derived import derived_tensors, planned_in_parts
from keras3conv.frameworks.torch.float64 import Float64, Float64Kernels
from keras3conv.frameworks.torch.observing import Arguments, computed_weights, forward_calls, held, substituted
from keras3conv.frameworks.torch.tensors import double_precision, named_tensors, tensors_in
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView
from keras3conv.numerics.fingerprint import EXACT, Fingerprint, fingerprint_of, has_nan
from keras3conv.planner.probe.dependencies import DependencyTracker, Float32Functions
from keras3conv.planner.probe.record import ROUNDED, TorchCall, TorchRun
from keras3conv.transforms import Array


def run(
    module: nn.Module, view: ModelView, inputs: object, weights: Mapping[str, Array], records: Callable[[str], bool]
) -> TorchRun:
    """Run a module once, in float64, in evaluation mode and without gradients. The module is unchanged afterwards.

    Args:
        module: The module.
        view: The layers of the module.
        inputs: A tensor or array, a tuple of positional arguments, or a dict of keyword arguments.
        weights: Values for tensors of the module, by path; all other tensors are cast to float64.
        records: Returns for a layer path whether to record the inputs and outputs of the layer.

    Raises:
        ModelError: The module raised, or returned a value that is not finite; the message names the layer.
    """
    args, kwargs = torch_side.call_arguments(module, inputs, float64=True)
    substitutes, bits = _substitutes(module, weights)
    derived = derived_tensors(module, planned_in_parts(module, view))
    computed = computed_weights(derived, weights, float64=True)
    log = _Log.for_tensors(records, {**substitutes, **computed}, bits)
    modes = Float64Kernels(), log.tracker, Float64(module)
    with ExitStack() as contexts:
        for context in (_restored(module), held(derived, computed), _recorded(module, log), *modes):
            contexts.enter_context(context)
        try:
            with substituted(module, substitutes):
                outputs = module(*args, **kwargs)
        except RAISED_BY_MODELS as error:
            raise torch_side.call_error(module, log.stack, (args, kwargs), error) from error
    flat = dict(flatten(outputs, torch.is_tensor))
    _require_finite(module, log)
    return TorchRun(
        view=traced(view, Recording(calls=tuple(sorted(log.shapes, key=lambda call: call.place)))),
        weights=weights,
        calls=_by_path(log.calls),
        outputs={name: torch_side.to_numpy(tensor) for name, tensor in flat.items()},
        output_dependencies=log.tracker.dependencies(flat.values()),
        tensor_bits=bits,
        limit=log.limit(flat.values()),
        float32_functions=tuple(log.tracker.float32.used),
        integers=frozenset(_integers(module)),
    )


def _integers(module: nn.Module) -> Iterator[int]:
    """Yield the integers in the attributes of all modules, and in the attributes of their `config` objects."""
    for part in module.modules():
        for holder in (part, part.__dict__.get("config")):
            values = getattr(holder, "__dict__", {}).values()
            yield from (value for value in values if isinstance(value, int) and not isinstance(value, bool))


@dataclass
class _Log:
    """The record of all layer calls, which the hooks on the modules write.

    Attributes:
        records: Returns for a layer path whether to record the inputs and outputs of the layer.
        tracker: Tracks the tensors that each value was computed from.
        stack: The paths of the running layers, outermost first.
        calls: The recorded calls.
        shapes: The path and the input shapes of every layer call, also of calls whose arrays are not recorded.
        nan_path: The first layer that returned NaN.
        nan_is_given: Whether an input of that layer had NaN already.
    """

    records: Callable[[str], bool]
    tracker: DependencyTracker
    stack: list[str]
    calls: list[TorchCall] = field(default_factory=list)
    shapes: list[Call] = field(default_factory=list)
    nan_path: str = ""
    nan_is_given: bool = False

    @classmethod
    def for_tensors(
        cls, records: Callable[[str], bool], tensors: Mapping[str, torch.Tensor], bits: dict[str, int]
    ) -> "_Log":
        """Return an empty log of layer calls, and assign a bit (a power of two) to every tensor that has none yet.

        Args:
            records: Returns for a layer path whether to record the inputs and outputs of the layer.
            tensors: The tensors of the module, by path.
            bits: The bit of each tensor, by path; the new bits are added to this dict.
        """
        for path in tensors:
            if path not in bits:
                bits[path] = 2 * max(bits.values(), default=1)
        stack: list[str] = []
        float32 = Float32Functions(bit=2 * max(bits.values(), default=1))
        tracker = DependencyTracker(lambda: stack[-1] if stack else "", float32)
        for path, tensor in tensors.items():
            tracker.sources[tensor] = bits[path]
        return cls(records=records, tracker=tracker, stack=stack)

    def limit(self, tensors: Iterable[torch.Tensor]) -> float:
        """Return the largest relative error at which these tensors count as equal to the same tensors in Keras.

        The error is larger if a function from which the tensors were computed ran in float32.
        """
        return ROUNDED if self.tracker.dependencies(tensors) & self.tracker.float32.bit else EXACT


def _substitutes(module: nn.Module, weights: Mapping[str, Array]) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Return the float64 tensors with which the torch module runs, and the bit of each tensor, both by path.

    All names of a tied tensor share one tensor and one bit.

    Args:
        module: The module.
        weights: New values of some tensors, by path; the others have the module's values.
    """
    by_id: dict[int, torch.Tensor] = {}
    bit_of: dict[int, int] = {}
    substitutes, bits = {}, {}
    for path, tensor in named_tensors(module):
        if id(tensor) not in by_id:
            given = torch_side.to_torch(np.asarray(weights[path], order="C")) if path in weights else tensor.detach()
            dtype = double_precision(tensor.dtype)
            # A module writes into its buffers, so they are copied; it only reads its parameters.
            own = not (path in weights and isinstance(tensor, nn.Parameter))
            by_id[id(tensor)] = given.to(tensor.device, dtype, copy=own)
            bit_of[id(tensor)] = 1 << len(bit_of)
        substitutes[path], bits[path] = by_id[id(tensor)], bit_of[id(tensor)]
    return substitutes, bits


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Context manager that sets evaluation mode, float64 and no gradients, and restores all settings at the end.

    Fused kernels of `nn.MultiheadAttention`, which compute without calling the submodules, are disabled.
    """
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


def _recorded(module: nn.Module, log: _Log) -> AbstractContextManager[list[str]]:
    """Return a context manager in which every call of every submodule is recorded in the log.

    The context manager yields the list of the paths of the running modules, the innermost last.
    """
    indices = count()
    open_calls: dict[str, list[tuple[TorchCall, Call]]] = {}

    def before(path: str, arguments: Arguments) -> None:
        tensors = tensors_in(arguments)
        index = next(indices)
        flattened = log.tracker.flattened.shape(tensors[0]) if tensors else None
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        fingerprints = tuple(map(_fingerprint, tensors)) if log.records(path) else ()
        dependencies = log.tracker.dependencies(tensors)
        call = TorchCall(path=path, index=index, inputs=fingerprints, dependencies=dependencies)
        entry = call, Call(path=path, place=index, shapes=shapes, flattened=flattened)
        open_calls.setdefault(path, []).append(entry)

    def after(path: str, arguments: Arguments, output: Any) -> None:
        call, shapes = open_calls[path].pop()
        log.shapes.append(shapes)
        if log.records(path):
            returned = tensors_in(output)
            arrays = tuple(np.array(torch_side.to_numpy(tensor)) for tensor in returned)
            log.calls.append(replace(call, outputs=arrays, limit=log.limit(returned)))
            if not log.nan_path and any(map(has_nan, arrays)):
                log.nan_path = path
                log.nan_is_given = any(arguments.has_nan for arguments in call.inputs)

    return forward_calls(module, before=before, after=after, running=log.stack)


def _fingerprint(tensor: torch.Tensor) -> Fingerprint:
    return fingerprint_of(torch_side.to_numpy(tensor))


def _require_finite(module: nn.Module, log: _Log) -> None:
    if log.nan_path:
        fact = "this module returned NaN for these inputs, although all weights are finite"
        if log.nan_is_given:
            fact = "an input of this module has NaN: an operation before it computed NaN from finite inputs and weights"
        problem = Problem(torch=log.nan_path, fact=fact)
        raise ModelError(
            lay_out(
                f"{type(module).__name__} (torch) returned NaN, so its layers cannot be compared with those of Keras",
                [problem],
            )
        )


def _by_path(calls: list[TorchCall]) -> dict[str, tuple[TorchCall, ...]]:
    found: dict[str, list[TorchCall]] = {}
    for call in sorted(calls, key=lambda call: call.index):
        found.setdefault(call.path, []).append(call)
    return {path: tuple(entries) for path, entries in found.items()}
