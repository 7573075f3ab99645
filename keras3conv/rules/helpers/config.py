"""How Keras writes a configuration down, in the dialects of Keras 2 and Keras 3, read into plain values."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypedDict

from keras3conv.errors import RuleError
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, WeightMapping
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
        return str(inner if isinstance(inner, str) else value.get("class_name", "a function without a name"))
    return str(value)


def last(layers: LayerSpecs) -> LayerSpec:
    """The layer that owns the tensors: the last, after paddings and permutations."""
    return layers[-1]


def one(kind: str, **settings: Any) -> Callable[[Config], LayerSpecs]:
    """A layer whose configuration does not depend on that of the other side."""
    return lambda config: (LayerSpec(kind=kind, config=settings),)


def back(kind: str) -> Callable[[LayerSpecs], LayerSpecs]:
    """The way back to a layer without configuration."""
    return lambda layers: (LayerSpec(kind=kind),)


class Functions(TypedDict):
    """What a rule does with tensors and with configurations, by the names that `Rule` has for it."""

    weights: Callable[[Config], tuple[WeightMapping, ...]]
    to_keras: Callable[[Config], LayerSpecs]
    to_torch: Callable[[LayerSpecs], LayerSpecs]


def bound(
    weights: Callable[..., tuple[WeightMapping, ...]],
    to_keras: Callable[..., LayerSpecs],
    to_torch: Callable[..., LayerSpecs],
    **settings: Any,
) -> Functions:
    """The functions of a rule for one of several classes that differ in a setting: the number of axes, the cell."""
    functions = (partial(function, **settings) for function in (weights, to_keras, to_torch))
    return dict(zip(("weights", "to_keras", "to_torch"), functions, strict=True))  # type: ignore[return-value]


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


__all__ = [
    "Functions",
    "back",
    "bound",
    "input_channels",
    "ints",
    "last",
    "name_of",
    "one",
    "pads",
    "require_value",
    "shape_of",
]
