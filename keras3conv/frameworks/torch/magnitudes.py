"""Run a torch module with its weights scaled so that the outputs of its layers have a requested magnitude.

One run is enough: after each layer call the magnitude of the output is measured, and the layer's first weight is scaled
before the next layer runs. The recording of this run is that of the module with the scaled weights.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, log2, sqrt
from typing import Any

import torch
from torch import nn

from keras3conv.frameworks.shared.bounds import Bound
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.observing import Arguments, forward_calls
from keras3conv.frameworks.torch.tensors import named_modules, named_tensors, tensors_in
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class ScaledRun:
    """A run of a module in which the weights of the layers were scaled.

    Attributes:
        factors: The factors, powers of two, by path of the tensor, under each of its names; tensors that are not scaled
            are left out.
        recording: The recording of the run; None if submodules ran more than once, so that it would have too many
            calls: another run with the scaled weights is then needed.
    """

    factors: Mapping[str, float]
    recording: Recording | None


def scaled_run(
    module: nn.Module,
    inputs: object,
    tensors: Mapping[str, Array],
    size: float,
    *,
    fixed: Collection[str],
    record: Callable[[str], bool] | None = None,
    bounds: list[Bound] | None = None,
) -> ScaledRun:
    """Run a module in float64 with weights that give the outputs of layers the requested magnitude.

    A layer is a module that has parameters and no submodules with tensors. Its first parameter is scaled; scaling other
    parameters, such as biases, is up to the caller.

    Args:
        module: The module; it is unchanged afterwards.
        inputs: The inputs of the module.
        tensors: Values that replace the module's tensors in this run, by path.
        size: The requested root mean square of the outputs.
        fixed: The paths of the tensors that must not be scaled.
        record: Selects by path the layers whose input and output arrays are recorded; None for no layer.
        bounds: The list in which an observer collects the bounds of operations (limits of a clip) during this run. The
            bounds of a call are removed if the layer is called again with the scaled weight. None without an observer.

    Returns:
        The factors by which tensors were scaled, and the recording of the run with the scaled weights.

    Raises:
        ModelError: The module raised.
    """
    names: dict[int, list[str]] = {}
    for path, tensor in named_tensors(module):
        names.setdefault(id(tensor), []).append(path)
    free = {key for key, paths in names.items() if any(path in tensors for path in paths)}
    free -= {key for key, paths in names.items() if any(path in fixed for path in paths)}
    found: dict[int, float] = {}
    observed: list[Bound] = [] if bounds is None else bounds
    scalings = {
        path: _Scaling(child, size, free, found, observed) for path, child in named_modules(module) if _is_layer(child)
    }

    def before(path: str, arguments: Arguments) -> None:
        if path in scalings:
            scalings[path].begin()

    def after(path: str, arguments: Arguments, output: Any) -> Any:
        return scalings[path](arguments, output) if path in scalings else None

    with forward_calls(module, before=before, after=after):
        run = torch_side.run(module, inputs, record=record, tensors=tensors, float64=True, watch=record is not None)
    is_clean = not run.changed and not any(scaling.has_repeated_parts for scaling in scalings.values())
    factors = {path: factor for key, factor in found.items() for path in names[key]}
    return ScaledRun(factors=factors, recording=run if is_clean else None)


def _is_layer(module: nn.Module) -> bool:
    """Return True if a module has parameters, and its submodules have no tensors."""
    inner = (child for path, child in named_modules(module) if path)
    return bool(_parameters(module)) and not any(map(_owns_tensors, inner))


def _owns_tensors(module: nn.Module) -> bool:
    return any(tensor is not None for members in (module._parameters, module._buffers) for tensor in members.values())


def _parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in module._parameters.items() if tensor is not None}


_LEAST = 2.0**-30
"""The fraction of the requested magnitude below which an output is attributed to rounding, and is not scaled."""


_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""The layers whose output, without the bias, is exactly proportional to a weight that is scaled by a power of two."""


class _Scaling:
    """Scales the first parameter of a layer after the layer's first call, and calls the layer again.

    The replacement of the layer's parameter for this run is scaled; the parameter itself keeps its values. The factor
    is stored.

    Attributes:
        has_repeated_parts: Whether submodules of the layer ran again, which a recording would show as further calls.
    """

    def __init__(
        self, layer: nn.Module, size: float, free: Collection[int], factors: dict[int, float], bounds: list[Bound]
    ) -> None:
        self._layer = layer
        self._own = {name: id(tensor) for name, tensor in _parameters(layer).items()}
        self._size = size
        self._waits = all(key in free for key in self._own.values())
        self._found = factors
        self._bounds, self._seen = bounds, 0
        self.has_repeated_parts = False

    def begin(self) -> None:
        """Record the number of bounds (limits of a clip) that were observed before the layer is called."""
        self._seen = len(self._bounds)

    def __call__(self, arguments: Arguments, output: Any) -> Any:
        """Scale the weight of the layer after its first call, and call the layer again.

        Return the new output, which replaces the given one; None if the weight is not scaled.
        """
        first = next(iter(self._own))
        if not self._waits or self._own[first] in self._found:
            return None
        self._waits = False
        own = self._bounds[self._seen :]
        again = self._scaled(arguments, output)
        if again is None:
            self._bounds[self._seen :] = own
        return again

    def _scaled(self, arguments: Arguments, output: Any) -> Any:
        """Scale a layer's weight in place and return the layer's new output; None if the weight keeps its values."""
        layer, (args, kwargs) = self._layer, arguments
        weight, *others = _parameters(layer).values()
        is_product = not others and type(layer) in _PRODUCTS and "forward" not in vars(layer)
        self.has_repeated_parts = bool(layer._modules) and not is_product
        with _without(others):
            alone = _size_of(layer.forward(*args, **kwargs)) if others else _size_of(output)
        if alone < _LEAST * self._size:
            return None
        factor = 2.0 ** round(log2(self._size / alone))
        weight.mul_(factor)
        if not is_product:
            del self._bounds[self._seen :]  # those of the calls with other weights
        again = output * factor if is_product else layer.forward(*args, **kwargs)
        if _distance(_size_of(again), self._size) > _distance(_size_of(output), self._size):
            weight.div_(factor)  # the output is not proportional to this weight
            return None
        self._found[next(iter(self._own.values()))] = factor
        return again


@contextmanager
def _without(tensors: list[torch.Tensor]) -> Iterator[None]:
    """Run the `with` block with some tensors set to zero; then restore their values."""
    before = [tensor.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.zero_()
    try:
        yield
    finally:
        for tensor, values in zip(tensors, before, strict=True):
            tensor.copy_(values)


def _size_of(output: object) -> float:
    """Return the root mean square of the first tensor in a layer's output.

    Zero if there is none, or it is not finite.
    """
    tensor = next(iter(tensors_in(output)), None)
    if tensor is None or not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    size = float(torch.linalg.vector_norm(tensor)) / sqrt(tensor.numel())
    return size if isfinite(size) else 0.0


def _distance(first: float, second: float) -> float:
    """Return the distance of two magnitudes as a number of powers of two: 3 for 1.0 and 8.0."""
    return abs(log2(first / second)) if first else float("inf")
