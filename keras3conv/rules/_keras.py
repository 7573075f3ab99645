"""How Keras writes a configuration down, in the dialects of Keras 2 and Keras 3, read into plain values."""

from collections.abc import Callable
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rule import Config, LayerSpec, LayerSpecs
from keras3conv.transforms import Shape


def ints(value: Any, rank: int) -> tuple[int, ...]:
    """A number or a list becomes a tuple of `rank` numbers; a list of one number counts for every axis."""
    numbers = (int(value),) if isinstance(value, int | float) else tuple(int(number) for number in value)
    return numbers * rank if len(numbers) == 1 else numbers


def pads(value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """The padding of a `ZeroPadding` layer, as its start and end for each axis: 1, (1, 2) and ((1, 2), (0, 3))."""
    if isinstance(value, int):
        return ((value, value),) * rank
    if rank == 1 and isinstance(value[0], int):
        return ((int(value[0]), int(value[1])),)
    return tuple((int(axis), int(axis)) if isinstance(axis, int) else (int(axis[0]), int(axis[1])) for axis in value)


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


def require_value(kind: str, name: str, value: Any, *allowed: Any) -> None:
    """Raises `RuleError` for a setting that the other framework has no word for."""
    if value not in allowed:
        raise RuleError(f"{kind.rpartition('.')[2]} with {name}={value!r} has no counterpart")


__all__ = ["back", "input_channels", "ints", "last", "name_of", "one", "pads", "require_value", "shape_of"]
