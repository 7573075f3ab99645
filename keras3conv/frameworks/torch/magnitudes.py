"""PyTorch: how the weights of a module must be scaled for its layers to return values of a given size.

A run tells, layer by layer: what the first weight of a layer makes of its input is measured, and the weight is scaled
before the layers after it run. So every layer has its size whatever stands between them, a norm or an activation.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite, log2
from typing import Any

import torch
from torch import nn

from keras3conv.frameworks.shared.recording import flatten
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.walk import named_modules, named_tensors
from keras3conv.transforms import Array


def factors_for(
    module: nn.Module, inputs: object, tensors: Mapping[str, Array], size: float, *, fixed: Collection[str]
) -> dict[str, float]:
    """The factors, powers of two, that give the layers of a module outputs of a size; of the others there is none.

    A layer is a module with parameters, and without others that own tensors. Its first parameter is scaled: the others
    are what is added to it, and the caller gives them the size.

    Args:
        module: The module; it is as before afterwards.
        inputs: What it is called with.
        tensors: Values to run with in the place of its own, by path.
        size: The root of the mean square that the outputs are to have.
        fixed: The paths of the tensors that keep their values.

    Returns:
        The factors by the path of the tensor, under all of its names.

    Raises:
        ModelError: The module raised.
    """
    names: dict[int, list[str]] = {}
    for path, tensor in named_tensors(module):
        names.setdefault(id(tensor), []).append(path)
    free = {key for key, paths in names.items() if any(path in tensors for path in paths)}
    free -= {key for key, paths in names.items() if any(path in fixed for path in paths)}
    found: dict[int, float] = {}
    handles = [
        child.register_forward_hook(_Scaling(child, size, free, found), with_kwargs=True)
        for child in {id(child): child for _, child in named_modules(module)}.values()
        if _is_layer(child)
    ]
    try:
        torch_side.run(module, inputs, tensors=tensors, float64=True, watch=False)
    finally:
        for handle in handles:
            handle.remove()
    return {path: factor for key, factor in found.items() for path in names[key]}


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has parameters, and no module in it has any tensor."""
    inner = (child for path, child in named_modules(module) if path)
    return bool(_parameters(module)) and not any(map(_owns_tensors, inner))


def _owns_tensors(module: nn.Module) -> bool:
    return any(tensor is not None for members in (module._parameters, module._buffers) for tensor in members.values())


def _parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in module._parameters.items() if tensor is not None}


_LEAST = 2.0**-30
"""Of the size that is asked for: what is smaller is not made larger, as it is likely to be rounding."""


class _Scaling:
    """Scales the first parameter of a layer after the layer's first call, and calls it again.

    While the model runs, other tensors stand in the place of the layer's own: these are scaled, and the factor is
    noted under the layer's own.
    """

    def __init__(self, layer: nn.Module, size: float, free: Collection[int], found: dict[int, float]) -> None:
        self._own = {name: id(tensor) for name, tensor in _parameters(layer).items()}
        self._size = size
        self._waits = all(key in free for key in self._own.values())
        self._found = found

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """The forward hook: what the layer returns with the scaled weight, where it was scaled."""
        first = next(iter(self._own))
        if not self._waits or self._own[first] in self._found:
            return None
        self._waits = False
        weight, *others = _parameters(layer).values()
        with _without(others):
            alone = _size_of(layer.forward(*args, **kwargs)) if others else _size_of(output)
        if alone < _LEAST * self._size:
            return None
        factor = 2.0 ** round(log2(self._size / alone))
        weight.mul_(factor)
        again = layer.forward(*args, **kwargs)
        if _distance(_size_of(again), self._size) > _distance(_size_of(output), self._size):
            weight.div_(factor)  # not proportional to this weight
            return None
        self._found[self._own[first]] = factor
        return again


@contextmanager
def _without(tensors: list[torch.Tensor]) -> Iterator[None]:
    """Tensors are zeros for a while."""
    before = [tensor.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.zero_()
    try:
        yield
    finally:
        for tensor, values in zip(tensors, before, strict=True):
            tensor.copy_(values)


def _size_of(output: object) -> float:
    """The root of the mean square of the first tensor; zero where there is none, or not a finite one."""
    tensor = next((tensor for _, tensor in flatten(output, lambda value: isinstance(value, torch.Tensor))), None)
    if tensor is None or not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    size = float(tensor.square().mean().sqrt())
    return size if isfinite(size) else 0.0


def _distance(first: float, second: float) -> float:
    """How many powers of two are between two sizes."""
    return abs(log2(first / second)) if first else float("inf")


__all__ = ["factors_for"]
