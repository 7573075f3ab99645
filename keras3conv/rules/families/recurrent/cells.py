"""Rules for recurrent cells, which compute one step; the rules for recurrent layers use the same mappings.

The gates of a GRU have the order r, z, n in torch and z, r, h in Keras; the gates of an LSTM have the order i, f, g, o
in both. Torch has two biases in every cell. A GRU with `reset_after` uses both separately, and Keras stacks them. In
every other cell only their sum matters, and Keras has one bias.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.fixed import RECURRENT, Argument, recurrent_settings
from keras3conv.rules.helpers.config import bound, last, name_of, require_stateless, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Stack, Sum, Take, Transform


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The differences between the three kinds of recurrent cells: LSTM, GRU and simple RNN.

    Attributes:
        torch: The class name in torch.
        keras: The class name in Keras.
        matrix: The transform of a weight matrix, such as a transposition and another order of the gates.
        bias: The transform of torch's two biases to Keras' bias.
        states: The number of state tensors: 2 for an LSTM, else 1.
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

SUMMED = "Keras gets the sum of torch's two biases; back in torch, the first is the sum and the second is zero. "

_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("recurrent_activation", "sigmoid"), ("reset_after", True), ("go_backwards", False),
)  # fmt: skip


def cell_weights(kind: Kind, suffix: str = "", part: str = "") -> tuple[WeightMapping, ...]:
    """Return the mappings from the weights and biases of one torch cell to the Keras variables.

    Args:
        kind: The kind of the cell.
        suffix: The end of torch's tensor names, for a layer of a stack and its direction, such as "_l1_reverse".
        part: The beginning of the names of Keras' variables in their layer, such as "cell/".
    """
    pairs = (("weight_ih", "kernel", kind.matrix), ("weight_hh", "recurrent_kernel", kind.matrix))
    matrices = tuple(
        WeightMapping(torch=(f"{torch}{suffix}",), keras=(f"{part}{keras}",), transform=transform)
        for torch, keras, transform in pairs
    )
    biases = WeightMapping(torch=(f"bias_ih{suffix}", f"bias_hh{suffix}"), keras=(f"{part}bias",), transform=kind.bias)
    return (*matrices, biases)


def lacking(kind: Kind) -> tuple[Argument, ...]:
    """Return the Keras arguments that torch's class lacks, with the value that torch always computes with.

    `torch.nn.RNN` has an argument for the activation, the other classes have none.
    """
    return tuple(argument for argument in RECURRENT if kind.torch != "RNN" or argument[0] != "activation")


def cell_config(kind: Kind, config: Config) -> dict[str, Any]:
    """Return the Keras arguments of a recurrent cell ("units", "use_bias", ...) for a torch cell or recurrent layer.

    Args:
        kind: The kind of the cell.
        config: The configuration of the torch cell or recurrent layer.
    """
    activation = {"activation": config["nonlinearity"]} if kind.torch == "RNN" else {}
    gru = {"reset_after": True} if kind.torch == "GRU" else {}
    return {"units": config["hidden_size"], "use_bias": config["bias"], **activation, **gru}


def torch_config(kind: Kind, spec: LayerSpec, part: str = "") -> dict[str, Any]:
    """Return the torch configuration of a Keras cell or recurrent layer.

    Args:
        kind: The kind of the cell.
        spec: The Keras cell or layer.
        part: The beginning of the names of its variables in the layer, such as "cell/".

    Raises:
        RuleError: The Keras layer has an option, such as another activation, that torch lacks.
    """
    keras = spec.config
    require_stateless(spec.kind, spec.config)
    for name, value in _SETTINGS:
        found = keras.get(name, value)
        require_value(spec.kind, name, name_of(found) if isinstance(found, dict) else found, value)
    activation = name_of(keras.get("activation", "tanh"))
    require_value(spec.kind, "activation", activation, *(("tanh", "relu") if kind.torch == "RNN" else ("tanh",)))
    inputs, _ = shape_of(spec, f"{part}kernel")
    units, _ = shape_of(spec, f"{part}recurrent_kernel")
    nonlinearity = {"nonlinearity": activation} if kind.torch == "RNN" else {}
    return {"input_size": inputs, "hidden_size": units, "bias": keras.get("use_bias", True), **nonlinearity}


def inferred(spec: LayerSpec, part: str) -> tuple[str, dict[str, Any]]:
    """Return the class of a recurrent layer without configuration ("LSTM", "GRU", "SimpleRNN"), and its arguments.

    The recurrent kernel has the shape (units, gates x units), and the number of gates determines the class.

    Args:
        spec: The layer that contains the cell, with the shapes of its variables.
        part: The beginning of the names of the cell's variables in the layer, such as "cell/".

    Raises:
        RuleError: The shapes are those of no known cell.
    """
    units, *space, gates = shape_of(spec, f"{part}recurrent_kernel")
    names = {units: "SimpleRNN", 3 * units: "GRU", 4 * units: "LSTM"}
    if space or gates not in names:
        raise RuleError(
            f"the cell of {spec.kind} is unknown: no known cell of {units} units has a recurrent kernel with {gates} "
            "columns"
            "; use the live model, or a file with the architecture (.keras)"
        )
    bias = spec.shapes.get(f"{part}bias")
    reset = {"reset_after": bias is None or len(bias) == 2} if names[gates] == "GRU" else {}
    return names[gates], {"units": units, "use_bias": bias is not None, **reset}


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
            fixed=partial(recurrent_settings, lacking=lacking(_kind)),
            output=lambda outputs, torch, keras, shape: outputs[0],
            torch_arguments=_torch_call,
            keras_arguments=_keras_call,
            examples=_examples(_kind),
            train=True,
            note=("" if _kind.torch == "GRU" else SUMMED) + "Keras' dropout, which acts in training only, is lost.",
        )
    )
