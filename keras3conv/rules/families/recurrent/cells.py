"""Rules for cells, which compute one step of a recurrent layer; the rules of the layers use their mappings.

Torch counts the gates of a GRU r, z, n and Keras z, r, h; those of an LSTM are i, f, g, o on both sides. Torch has two
biases everywhere. In a GRU with `reset_after` both matter, and Keras stacks them; elsewhere only their sum does.
"""

from dataclasses import dataclass
from typing import Any

from keras3conv.rules.helpers.config import bound, last, name_of, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Stack, Sum, Take, Transform


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What distinguishes the three kinds of recurrent layer.

    Attributes:
        torch: The name in torch.
        keras: The name in Keras.
        matrix: The transform of a matrix.
        bias: The transform of torch's two biases to the one of Keras.
        states: The number of states.
    """

    torch: str
    keras: str
    matrix: Transform
    bias: Transform
    states: int = 1


_UPDATE_FIRST = Take(0, (1, 0, 2))
_MATRIX = Axes("g i -> i g")

KINDS = (
    Kind(torch="LSTM", keras="LSTM", matrix=_MATRIX, bias=Sum(2), states=2),
    Kind(torch="GRU", keras="GRU", matrix=Chain(_UPDATE_FIRST, _MATRIX), bias=Chain(Each(_UPDATE_FIRST), Stack(0, 2))),
    Kind(torch="RNN", keras="SimpleRNN", matrix=_MATRIX, bias=Sum(2)),
)

SUMMED = "Torch's two biases become their sum; on the way back the first is the sum and the second is zero. "

_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("recurrent_activation", "sigmoid"), ("reset_after", True), ("go_backwards", False), ("stateful", False),
)  # fmt: skip


def cell_weights(kind: Kind, suffix: str = "", part: str = "") -> tuple[WeightMapping, ...]:
    """Return the mappings of one cell, for a suffix of torch's names ("_l1_reverse") and a prefix of Keras' roles."""
    pairs = (("weight_ih", "kernel", kind.matrix), ("weight_hh", "recurrent_kernel", kind.matrix))
    matrices = tuple(
        WeightMapping(torch=(f"{torch}{suffix}",), keras=(f"{part}{keras}",), transform=transform)
        for torch, keras, transform in pairs
    )
    biases = WeightMapping(torch=(f"bias_ih{suffix}", f"bias_hh{suffix}"), keras=(f"{part}bias",), transform=kind.bias)
    return (*matrices, biases)


def cell_config(kind: Kind, config: Config) -> dict[str, Any]:
    """Return the Keras configuration of the cell, for a layer or a cell of torch."""
    activation = {"activation": config["nonlinearity"]} if kind.torch == "RNN" else {}
    gru = {"reset_after": True} if kind.torch == "GRU" else {}
    return {"units": config["hidden_size"], "use_bias": config["bias"], **activation, **gru}


def torch_config(kind: Kind, spec: LayerSpec, part: str = "") -> dict[str, Any]:
    """Return the torch configuration of a cell or a layer; raises `RuleError` where torch computes something else."""
    keras = spec.config
    for name, value in _SETTINGS:
        found = keras.get(name, value)
        require_value(spec.kind, name, name_of(found) if isinstance(found, dict) else found, value)
    activation = name_of(keras.get("activation", "tanh"))
    require_value(spec.kind, "activation", activation, *(("tanh", "relu") if kind.torch == "RNN" else ("tanh",)))
    inputs, _ = shape_of(spec, f"{part}kernel")
    units, _ = shape_of(spec, f"{part}recurrent_kernel")
    nonlinearity = {"nonlinearity": activation} if kind.torch == "RNN" else {}
    return {"input_size": inputs, "hidden_size": units, "bias": keras.get("use_bias", True), **nonlinearity}


def _to_keras(config: Config, *, kind: Kind) -> LayerSpecs:
    return (LayerSpec(kind=f"keras.layers.{kind.keras}Cell", config=cell_config(kind, config)),)


def _to_torch(layers: LayerSpecs, *, kind: Kind) -> LayerSpecs:
    return (LayerSpec(kind=f"torch.nn.{kind.torch}Cell", config=torch_config(kind, last(layers))),)


def _weights(config: Config, *, kind: Kind) -> tuple[WeightMapping, ...]:
    return cell_weights(kind)


def _torch_call(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *states = arrays
    return first, states[0] if len(states) == 1 else tuple(states)


def _keras_call(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return arrays[0], [*arrays[1:]]


def _examples(kind: Kind) -> tuple[Example, ...]:
    sizes: list[dict[str, Any]] = [
        {"input_size": 3, "hidden_size": 5},
        {"input_size": 6, "hidden_size": 4, "bias": False},
    ]
    if kind.torch == "RNN":
        sizes[1]["nonlinearity"] = "relu"
    return tuple(
        Example(config=size, inputs=((2, size["input_size"]), *((2, size["hidden_size"]),) * kind.states))
        for size in sizes
    )


_FIELDS = {"input_size": "", "hidden_size": "units", "bias": "use_bias"}

for _kind in KINDS:
    register(
        Rule(
            torch=f"torch.nn.{_kind.torch}Cell",
            keras=f"keras.layers.{_kind.keras}Cell",
            fields=_FIELDS | ({"nonlinearity": "activation"} if _kind.torch == "RNN" else {}),
            **bound(_weights, _to_keras, _to_torch, kind=_kind),
            output=lambda outputs, torch, keras, shape: outputs[0],
            torch_arguments=_torch_call,
            keras_arguments=_keras_call,
            examples=_examples(_kind),
            train=True,
            note=("" if _kind.torch == "GRU" else SUMMED) + "Keras' own dropout acts in training only, and is lost.",
        )
    )

__all__ = ["KINDS", "SUMMED", "Kind", "cell_config", "cell_weights", "torch_config"]
