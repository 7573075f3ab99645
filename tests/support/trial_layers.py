"""Create torch modules and Keras layers from the specifications of a rule."""

import copy
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import keras
import torch

from keras3conv.rules.rule import Config, LayerSpec
from tests.support import stand_ins

stand_ins.install()


class Joined(torch.nn.Sequential):
    """Layers that take the same input and whose outputs are concatenated along the last axis."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(*inputs) for part in self], -1)


class Attending(torch.nn.Sequential):
    """The projections of an attention layer, four or two of them, with the attention itself as code between them."""

    def __init__(self, keras: LayerSpec, *parts: torch.nn.Module) -> None:
        super().__init__(*parts)
        names = ("query", "key", "value")
        self.heads = [(heads, size) for _, heads, size in (keras.shapes[f"{name}_dense/kernel"] for name in names)]

    def forward(self, query: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        *projections, output = self
        if others:
            value, key = others
            made = [layer(given) for layer, given in zip(projections, (query, key, value), strict=True)]
        else:
            made = list(projections[0](query).split([heads * size for heads, size in self.heads], -1))
        split = [tensor.unflatten(-1, axes).transpose(1, 2) for tensor, axes in zip(made, self.heads, strict=True)]
        repeats = self.heads[0][0] // self.heads[1][0]
        queries, keys, values = split[0], *(tensor.repeat_interleave(repeats, 1) for tensor in split[1:])
        weights = (queries @ keys.transpose(-2, -1) / self.heads[0][1] ** 0.5).softmax(-1)
        result: torch.Tensor = output((weights @ values).transpose(1, 2).flatten(2))
        return result


class TorchFunction(torch.nn.Module):
    """A torch function as a layer."""

    def __init__(self, function: Callable[..., torch.Tensor], config: Config) -> None:
        super().__init__()
        self.function, self.arguments = function, dict(config)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs, **self.arguments)


class KerasFunction(keras.layers.Layer):
    """A Keras function as a layer."""

    def __init__(self, function: Callable[..., Any], config: Config) -> None:
        super().__init__()
        self.function, self.arguments = function, dict(config)

    def call(self, *inputs: Any) -> Any:
        return self.function(*inputs, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        return self.arguments


def resolve(name: str) -> Any:
    """Return the object with a qualified name, such as "torch.nn.Linear"."""
    if name.startswith("torch."):
        return pkgutil.resolve_name(name)  # a class's method too: "torch.Tensor.contiguous"
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def make_torch(spec: LayerSpec) -> torch.nn.Module:
    """Create the torch layer of a spec; a function becomes a layer."""
    found = resolve(spec.kind)
    module: torch.nn.Module = found(**spec.config) if isinstance(found, type) else TorchFunction(found, spec.config)
    return module


def make_layer(spec: LayerSpec) -> keras.layers.Layer:
    """Create the Keras layer of a spec; a function becomes a layer."""
    found: Any = resolve(spec.kind)
    if not isinstance(found, type):
        return KerasFunction(found, spec.config)
    # Keras writes a layer inside a configuration as a dict, which only `from_config` reads.
    nested = any(isinstance(value, dict) and "class_name" in value for value in spec.config.values())
    make: Any = found
    return (
        make.from_config(copy.deepcopy(dict(spec.config))) if nested else make(**spec.config)
    )  # it empties its argument
