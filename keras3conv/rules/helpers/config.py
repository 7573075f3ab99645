"""Read the configurations that Keras 2 and Keras 3 serialise, and build the arguments of a `Rule`."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypedDict

from keras3conv.errors import RuleError
from keras3conv.rules.rule import Config, Fields, LayerSpec, LayerSpecs, WeightMapping
from keras3conv.transforms import Shape


def ints(value: Any, rank: int) -> tuple[int, ...]:
    """Return an argument such as a stride as one integer per axis; a single number is repeated for every axis.

    Args:
        value: A number, or a list of numbers.
        rank: The number of axes.
    """
    numbers = (int(value),) if isinstance(value, int | float) else tuple(int(number) for number in value)
    return numbers * rank if len(numbers) == 1 else numbers


def pads(value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Return the `padding` of a `ZeroPadding` layer (1, (1, 2) or ((1, 2), (0, 3))) as (start, end) for each axis."""
    if isinstance(value, int):
        return ((value, value),) * rank
    if rank == 1 and isinstance(value[0], int):
        return ((int(value[0]), int(value[1])),)
    return tuple((int(axis), int(axis)) if isinstance(axis, int) else (int(axis[0]), int(axis[1])) for axis in value)


def name_of(value: Any) -> str:
    """Return the name of a serialised activation or initializer; "linear" for None."""
    if value is None:
        return "linear"
    if isinstance(value, dict):
        inner = value.get("config")
        return str(inner if isinstance(inner, str) else value.get("class_name", "a function without a name"))
    return str(value)


def last(layers: LayerSpecs) -> LayerSpec:
    """Return the last of several Keras layers, which has the weights; the layers before it only pad or permute."""
    return layers[-1]


def one(kind: str, **settings: Any) -> Callable[[Config], LayerSpecs]:
    """Return a function for `Rule.to_keras` that builds one Keras layer with given arguments."""
    return lambda config: (LayerSpec(kind=kind, config=settings),)


def back(kind: str) -> Callable[[LayerSpecs], LayerSpecs]:
    """Return a function for `Rule.to_torch` that always returns one torch module, created without arguments."""
    return lambda layers: (LayerSpec(kind=kind),)


def paired(*alone: str, **same: str | tuple[str, ...]) -> Fields:
    """Return the argument `fields` of a `Rule`: torch attributes, each with the Keras arguments of the same meaning.

    Args:
        alone: The names of torch attributes to which no Keras argument corresponds.
        same: Torch attributes, each with the name of the Keras argument, or arguments, that corresponds to it.
    """
    return {**dict.fromkeys(alone, ""), **same}


class Renaming(TypedDict):
    """The arguments of a `Rule` for two layers whose arguments differ only in their names; `renaming` returns them."""

    torch: str
    keras: str
    fields: Fields
    to_keras: Callable[[Config], LayerSpecs]
    to_torch: Callable[[LayerSpecs], LayerSpecs]


def renaming(torch: str, keras: str, **names: str) -> Renaming:
    """Return the arguments of a `Rule` for two layers whose arguments differ only in their names.

    Args:
        torch: The torch class or function.
        keras: The Keras class or function.
        names: For each torch argument, the name of the Keras argument: dim="axis".
    """

    def to_keras(config: Config) -> LayerSpecs:
        return (LayerSpec(kind=keras, config={there: config[here] for here, there in names.items()}),)

    def to_torch(layers: LayerSpecs) -> LayerSpecs:
        given = last(layers).config
        if missing := sorted(set(names.values()) - given.keys()):
            raise RuleError(
                f"the configuration of {keras} lacks {', '.join(missing)}, and the default value is unknown"
                ": set each of them explicitly"
            )
        values = {here: given[there] for here, there in names.items()}
        config = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return (LayerSpec(kind=torch, config=config),)

    return {"torch": torch, "keras": keras, "fields": names, "to_keras": to_keras, "to_torch": to_torch}


class Functions(TypedDict):
    """Three functions of a `Rule`, by the names of the rule's arguments; `bound` returns them."""

    weights: Callable[[Config], tuple[WeightMapping, ...]]
    to_keras: Callable[[Config], LayerSpecs]
    to_torch: Callable[[LayerSpecs], LayerSpecs]


def bound(
    weights: Callable[..., tuple[WeightMapping, ...]],
    to_keras: Callable[..., LayerSpecs],
    to_torch: Callable[..., LayerSpecs],
    **settings: Any,
) -> Functions:
    """Return three functions of a `Rule`, with some of their arguments fixed, such as the number of spatial axes.

    So rules for Conv1d, Conv2d and Conv3d share the same functions.

    Args:
        weights: Computes the mappings from the torch configuration and the settings.
        to_keras: Computes the Keras layers from the torch configuration and the settings.
        to_torch: Computes the torch layers from the Keras layers and the settings.
        settings: The keyword arguments to fix, such as rank=2.
    """
    functions = (partial(function, **settings) for function in (weights, to_keras, to_torch))
    return dict(zip(("weights", "to_keras", "to_torch"), functions, strict=True))  # type: ignore[return-value]


def shape_of(spec: LayerSpec, role: str) -> Shape:
    """Return the shape of one tensor of a layer; raise `RuleError` if it is unknown.

    Args:
        spec: The layer.
        role: The role of the tensor, such as "kernel".
    """
    if role not in spec.shapes:
        raise RuleError(
            f"{spec.kind} needs the shape of its tensor {role}, which is unknown; build the model by one call, or "
            "give inputs=..."
        )
    return spec.shapes[role]


def input_channels(spec: LayerSpec, axis: int = -1) -> int:
    """Return the size of an axis of a layer's first input; raise `RuleError` if the input shape is unknown."""
    size = spec.inputs[0][axis] if spec.inputs else None
    if size is None:
        raise RuleError(
            f"{spec.kind} needs the shape of its input, which is unknown; build the model by one call, or give "
            "inputs=..."
        )
    return size


def require_value(kind: str, name: str, value: Any, *allowed: Any) -> None:
    """Raise `RuleError` if an argument of a layer has a value that the other framework lacks.

    Args:
        kind: The class of the layer, for the message.
        name: The name of the argument.
        value: Its value.
        allowed: The values that both frameworks have.
    """
    if value not in allowed:
        raise RuleError(
            f"{kind.rpartition('.')[2]} with {name}={value!r} has no counterpart in the other framework"
            ": use another value, or a custom layer"
        )


NO_STATE = (
    "stateful=True has no counterpart: a torch layer keeps no state between calls; build the layer with stateful=False "
    "if every call starts a sequence, else with return_state=True, and give these states to the next call as "
    "initial_state"
)
"""The reason why a stateful recurrent layer is refused, and what to do."""


def require_stateless(kind: str, config: Config) -> None:
    """Raise `RuleError` if a recurrent layer keeps its state between calls."""
    if config.get("stateful"):
        raise RuleError(f"{kind.rpartition('.')[2]} with {NO_STATE}")
