"""How Keras writes a configuration down, in the dialects of Keras 2 and Keras 3, read into plain values."""

from collections.abc import Callable
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rule import Config, LayerSpec, LayerSpecs
from keras3conv.transforms import Shape


def ints(value: Any, rank: int) -> tuple[int, ...]:
    """A number or a list becomes a tuple of `rank` numbers."""
    return (int(value),) * rank if isinstance(value, int) else tuple(int(number) for number in value)


def name_of(value: Any) -> str:
    """The name of something that Keras serialises: an activation, an initializer. "linear" for None."""
    if value is None:
        return "linear"
    if isinstance(value, dict):
        inner = value.get("config")
        return str(inner if isinstance(inner, str) else value.get("class_name"))
    return str(value)


def last(layers: LayerSpecs) -> LayerSpec:
    """The layer that owns the tensors: the last, after paddings and permutations."""
    return layers[-1]


def one(kind: str) -> Callable[[Config], LayerSpecs]:
    """A layer without configuration."""
    return lambda config: (LayerSpec(kind=kind),)


def back(kind: str) -> Callable[[LayerSpecs], LayerSpecs]:
    """The way back to a layer without configuration."""
    return lambda layers: (LayerSpec(kind=kind),)


def shape_of(spec: LayerSpec, role: str) -> Shape:
    """The shape of one tensor of a layer; raises `RuleError` where it is not known."""
    if role not in spec.shapes:
        raise RuleError(f"{spec.kind}: the shape of {role} is needed, and is not known")
    return spec.shapes[role]


def input_channels(spec: LayerSpec, axis: int = -1) -> int:
    """The size of an axis of the first input; raises `RuleError` where it is not known."""
    size = spec.inputs[0][axis] if spec.inputs else None
    if size is None:
        raise RuleError(f"{spec.kind}: the shape of its input is needed, and is not known")
    return size


__all__ = ["back", "input_channels", "ints", "last", "name_of", "one", "shape_of"]
