"""Rules for recurrent layers that torch.nn lacks: other activations, cells of several classes, reversed sequences.

The torch module, which runs the cells step by step, is part of keras3conv.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.messages import with_article
from keras3conv.rules.families.recurrent.stack import RNN, cells_of, prefixes, rnn_config, serialised
from keras3conv.rules.fixed import DROPOUT_AND_STATE, recurrent_settings
from keras3conv.rules.helpers.config import bound, last, paired, require_stateless, shape_of
from keras3conv.rules.helpers.own_layers import RECURRENT, activation_of, function_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same

Cell = tuple[str, int, str, str, bool]
"""A recurrent cell: its class, units, activation, activation of its gates, and whether it has a bias."""

_LAYERS = {"LSTM": ("LSTM",), "GRU": ("GRU", "ResetFirstGRU"), "SimpleRNN": ("SimpleRNN",)}
"""The Keras layers with a fixed cell, such as LSTM, each with the names of this cell in the torch module."""

_CELL_FIELDS = {
    "RNN": ("cell",),
    "SimpleRNN": ("units", "activation", "use_bias"),
    "LSTM": ("units", "activation", "recurrent_activation", "use_bias"),
    "GRU": ("units", "activation", "recurrent_activation", "use_bias", "reset_after"),
}
"""For each Keras layer, the arguments that describe its cells."""

_FLAGS = {
    "return_sequences": "return_sequences",
    "return_state": "return_state",
    "go_backwards": "go_backwards",
    "zero_masked": "zero_output_for_mask",
}
"""The boolean arguments of the torch module, each with the Keras argument of the same meaning."""


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    """Return the mappings of the weights of all cells of `Recurrent`, keras3conv's torch module for recurrent layers.

    The Keras layer is an RNN with cells, or an LSTM, GRU or SimpleRNN, whose variables have the same names as those of
    an RNN with one cell.
    """
    matrix = Axes("g i -> i g")
    return tuple(
        WeightMapping(torch=(f"{torch}_l{place}",), keras=(f"{prefix}{keras}",), transform=transform)
        for place, prefix in enumerate(prefixes(len(config["cells"])))
        for torch, keras, transform in (
            ("weight_ih", "kernel", matrix),
            ("weight_hh", "recurrent_kernel", matrix),
            ("bias", "bias", Same()),
        )
    )


def _cell_to_keras(cell: Cell) -> tuple[str, dict[str, Any]]:
    """Return the Keras class ("LSTM", "GRU", "SimpleRNN") and its arguments for a cell of the torch module."""
    kind, units, activation, recurrent_activation, bias = cell
    name = next((name for name, kinds in _LAYERS.items() if kind in kinds), "")
    if not name:
        raise RuleError(
            f"the torch module Recurrent of keras3conv has a cell of the kind {kind!r}, which is not supported; "
            "supported are LSTM, GRU, ResetFirstGRU, SimpleRNN"
        )
    config: dict[str, Any] = {"units": units, "activation": activation_of(RECURRENT, activation), "use_bias": bias}
    if name != "SimpleRNN":
        config["recurrent_activation"] = activation_of(RECURRENT, recurrent_activation)
    if name == "GRU":
        config["reset_after"] = kind == "GRU"
    return name, config


def _cell_to_torch(name: str, config: Config, units: int) -> Cell:
    if name not in _LAYERS:
        cell = with_article(f"{name}Cell")
        supported = "LSTMCell, GRUCell, SimpleRNNCell"
        raise RuleError(f"keras.layers.RNN has {cell}, which is not supported; supported are {supported}")
    kind = "ResetFirstGRU" if name == "GRU" and not config.get("reset_after", True) else name
    gates = "sigmoid" if name == "SimpleRNN" else config.get("recurrent_activation", "sigmoid")
    names = [function_of(f"keras.layers.{name}", value) for value in (config.get("activation", "tanh"), gates)]
    return kind, units, names[0], names[1], config.get("use_bias", True)


def _to_rnn(config: Config) -> LayerSpecs:
    cells = [serialised(f"{name}Cell", inner) for name, inner in map(_cell_to_keras, config["cells"])]
    return (LayerSpec(kind=RNN, config={**rnn_config(cells), **_flags(config)}),)


def _to_layer(config: Config) -> LayerSpecs:
    name, inner = _cell_to_keras(config["cells"][0])
    return (LayerSpec(kind=f"keras.layers.{name}", config={**inner, **_flags(config)}),)


def _flags(config: Config) -> dict[str, bool]:
    return {keras: config[torch] for torch, keras in _FLAGS.items()}


def _named_cells(spec: LayerSpec) -> Iterator[tuple[str, str, Config]]:
    """Yield each cell of a recurrent Keras layer: the beginning of its variables' names, its kind, its arguments.

    Such as ("cell/", "LSTM", {"units": 4}).
    """
    if spec.kind == RNN:
        for prefix, cell in cells_of(spec):
            yield prefix, cell["class_name"].removesuffix("Cell"), cell["config"]
    else:
        yield "cell/", spec.kind.rpartition(".")[2], spec.config


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    require_stateless(spec.kind, spec.config)
    cells = tuple(
        _cell_to_torch(name, config, shape_of(spec, f"{prefix}recurrent_kernel")[0])
        for prefix, name, config in _named_cells(spec)
    )
    first = next(_named_cells(spec))[0]
    flags = {torch: spec.config.get(keras, False) for torch, keras in _FLAGS.items()}
    config = {"input_size": shape_of(spec, f"{first}kernel")[0], "cells": cells, **flags}
    return (LayerSpec(kind=RECURRENT, config=config),)


def _applies(config: Config, *, kinds: tuple[str, ...]) -> bool:
    """Return whether a rule's Keras layer can have the cells of a torch `Recurrent`.

    Args:
        config: The configuration of the torch module, with its cells.
        kinds: The kinds of cell of which the Keras layer has exactly one; empty for an RNN, which can have any cells.
    """
    return not kinds or (len(config["cells"]) == 1 and config["cells"][0][0] in kinds)


def _examples(*stacks: tuple[Cell, ...]) -> tuple[Example, ...]:
    """Return one example for each stack of cells; the examples differ in arguments such as return_sequences.

    Args:
        stacks: For each example, the cells of a torch `Recurrent`.
    """
    flags: tuple[dict[str, bool], ...] = (
        {},
        {"return_sequences": True, "return_state": True, "go_backwards": True, "zero_masked": True},
        {"return_state": True},
    )
    return tuple(
        Example(config={"input_size": 3, "cells": stack, **flag}, inputs=((2, 4, 3),))
        for stack, flag in zip(stacks, flags, strict=False)
    )


_EXAMPLES: dict[str, tuple[Example, ...]] = {
    "LSTM": _examples((("LSTM", 5, "relu", "sigmoid", True),), (("LSTM", 4, "softsign", "elu", False),)),
    "GRU": _examples(
        (("ResetFirstGRU", 5, "tanh", "sigmoid", True),),
        (("GRU", 4, "elu", "sigmoid", True),),
        (("ResetFirstGRU", 4, "softsign", "linear", False),),
    ),
    "SimpleRNN": _examples(
        (("SimpleRNN", 5, "sigmoid", "sigmoid", True),),
        (("SimpleRNN", 4, "elu", "sigmoid", False),),
    ),
    "RNN": _examples(
        (("LSTM", 5, "tanh", "sigmoid", True), ("LSTM", 4, "tanh", "sigmoid", True)),
        (
            ("GRU", 4, "tanh", "sigmoid", True),
            ("SimpleRNN", 5, "tanh", "sigmoid", False),
            ("LSTM", 2, "relu", "elu", True),
        ),
        (("ResetFirstGRU", 5, "relu", "sigmoid", True),),
    ),
}  # fmt: skip

_NOTE = (
    "The torch module, for cells that torch.nn lacks, is part of keras3conv. Keras' dropout, which acts in training "
    "only, and masks of steps are lost."
)

for _name in ("RNN", *_LAYERS):
    register(
        Rule(
            torch=RECURRENT,
            keras=f"keras.layers.{_name}",
            fields=paired("input_size", cells=_CELL_FIELDS[_name], **_FLAGS),
            applies=partial(_applies, kinds=_LAYERS.get(_name, ())),
            **bound(_weights, _to_rnn if _name == "RNN" else _to_layer, _to_torch),
            fixed=partial(recurrent_settings, lacking=DROPOUT_AND_STATE),
            examples=_EXAMPLES[_name],
            train=True,
            note=_NOTE,
        )
    )
