"""Rules for recurrent layers: a single layer or a stack, in one direction or both.

Torch has one module for a whole stack and both directions. Keras has one layer for each layer of the stack, wrapped in
`Bidirectional` for both directions.
"""

from functools import partial
from typing import Any

import numpy as np

from keras3conv.errors import RuleError
from keras3conv.rules.families.linear.dense import DENSE
from keras3conv.rules.families.recurrent.cells import (
    KINDS,
    SUMMED,
    Kind,
    cell_config,
    cell_weights,
    inferred,
    lacking,
    torch_config,
)
from keras3conv.rules.fixed import recurrent_settings
from keras3conv.rules.helpers.config import bound, last, paired, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, Fields, LayerSpec, LayerSpecs, Layout, Rule, WeightMapping
from keras3conv.transforms import Array, Arrays, Axes, Same, Shape

_BIDIRECTIONAL = "keras.layers.Bidirectional"
_DISTRIBUTED = "keras.layers.TimeDistributed"
_DROPOUT = "keras.layers.Dropout"
_DIRECTIONS = ("forward_layer/cell/", "backward_layer/cell/")
"""The beginnings of the roles of the variables in a Bidirectional, for each of its directions."""


def _fields(kind: Kind, *, stacked: bool, both: bool) -> Fields:
    """Return the torch attributes that a rule for recurrent layers compares, each with its Keras argument.

    Dropout is included for a stack only, because torch applies it between layers.

    Args:
        kind: The kind of recurrent layer: LSTM, GRU or simple RNN.
        stacked: Whether the rule is for a stack of several layers.
        both: Whether the rule is for bidirectional layers.
    """
    # For both directions, the Keras arguments are those of the layer inside a Bidirectional.
    inside = "layer." if both else ""
    own = {"LSTM": {"proj_size": ""}, "RNN": {"nonlinearity": f"{inside}activation"}}.get(kind.torch, {})
    dropout = {"dropout": ""} if stacked else {}  # the Keras layers between, which have it, are not of the pair
    alike = {"hidden_size": f"{inside}units", "bias": f"{inside}use_bias"}
    return paired("input_size", "num_layers", "batch_first", "bidirectional", **alike, **own, **dropout)


def _applies(config: Config, *, stacked: bool, both: bool) -> bool:
    return (config["num_layers"] > 1, config["bidirectional"]) == (stacked, both)


def _serialised(kind: Kind, config: Config) -> dict[str, Any]:
    """Return the dict that Keras stores for a recurrent layer inside a wrapper such as Bidirectional."""
    return {"module": "keras.layers", "class_name": kind.keras, "config": config, "registered_name": None}


def _to_keras(config: Config, *, kind: Kind) -> LayerSpecs:
    if config.get("proj_size", 0):
        raise RuleError(
            f"LSTM with proj_size={config['proj_size']} has no counterpart: Keras has no projection of the hidden state"
            "; write the LSTM as a custom layer"
        )
    keras = {**cell_config(kind, config), "return_sequences": True}
    layer = LayerSpec(kind=f"keras.layers.{kind.keras}", config=keras)
    if config["bidirectional"]:
        layer = LayerSpec(kind=_BIDIRECTIONAL, config={"layer": _serialised(kind, keras), "merge_mode": "concat"})
    rate = config.get("dropout", 0.0)
    between = (LayerSpec(kind=_DROPOUT, config={"rate": rate}),) if rate else ()
    return (layer, *(*between, layer) * (config["num_layers"] - 1))


def _weights(config: Config, *, kind: Kind, stacked: bool) -> tuple[WeightMapping, ...]:
    directions: tuple[tuple[str, str], ...] = (("", "cell/"),)
    if config["bidirectional"]:
        directions = (("", _DIRECTIONS[0]), ("_reverse", _DIRECTIONS[1]))
    return tuple(
        mapping
        for place in range(config["num_layers"])
        for suffix, part in directions
        for mapping in cell_weights(kind, f"_l{place}{suffix}", f"{place}/{part}" if stacked else part)
    )


def _inner(spec: LayerSpec, kind: Kind) -> LayerSpec:
    """Return the forward layer inside a Keras Bidirectional, with the shapes of the Bidirectional's variables.

    A weight file has no configuration; then the shapes show the class of the layer inside.

    Args:
        spec: The Bidirectional.
        kind: The kind that the layer inside must have: LSTM, GRU or simple RNN.

    Raises:
        RuleError: The layer inside is unknown, or its two directions differ.
    """
    require_value(spec.kind, "merge_mode", spec.config.get("merge_mode", "concat"), "concat")
    layers = [spec.config[name] for name in ("layer", "backward_layer") if spec.config.get(name)]
    if not spec.config and f"{_DIRECTIONS[0]}recurrent_kernel" in spec.shapes:
        found = [inferred(spec, part) for part in _DIRECTIONS]
        layers = [{"class_name": name, "config": config} for name, config in found]
    if not layers:
        raise RuleError(
            f"the inner layer of {spec.kind} is unknown, because the file or model gives no configuration of it"
            ": use the live model, or a file with the architecture (.keras)"
        )
    for layer in layers:
        require_value(spec.kind, "layer", layer["class_name"], kind.keras)
    if layers[0]["config"].get("go_backwards"):
        raise RuleError(
            "the first layer of a Bidirectional runs backwards, but torch's first direction runs forwards: use one "
            "torch layer for each direction"
        )
    configs = [{**layer["config"], "go_backwards": False, "name": ""} for layer in layers]
    backward = LayerSpec(kind=f"keras.layers.{kind.keras}", config=configs[-1], shapes=spec.shapes)
    forward = LayerSpec(kind=f"keras.layers.{kind.keras}", config=configs[0], shapes=spec.shapes)
    if torch_config(kind, backward, _DIRECTIONS[1]) != torch_config(kind, forward, _DIRECTIONS[0]):
        raise RuleError(
            "the two layers of a Bidirectional have different configurations, but torch has one for both directions"
            ": use one torch layer for each direction"
        )
    return forward


def _layer_to_torch(spec: LayerSpec, kind: Kind) -> dict[str, Any]:
    """Return the torch configuration of one Keras layer of a stack, which may be a Bidirectional."""
    if spec.kind == _BIDIRECTIONAL:
        return {**torch_config(kind, _inner(spec, kind), _DIRECTIONS[0]), "bidirectional": True}
    require_value(f"torch.nn.{kind.torch}", "layer", spec.kind, f"keras.layers.{kind.keras}")
    return {**torch_config(kind, spec, "cell/"), "bidirectional": False}


def _to_torch(layers: LayerSpecs, *, kind: Kind) -> LayerSpecs:
    """Return the one torch layer that computes what several recurrent Keras layers in sequence do.

    Args:
        layers: The recurrent Keras layers, with Dropout layers between them or none.
        kind: The kind of the layers: LSTM, GRU or simple RNN.

    Raises:
        RuleError: The recurrent layers differ in more than the input size of the first one, or the dropout rates
            differ.
    """
    configs = [_layer_to_torch(spec, kind) for spec in layers if spec.kind != _DROPOUT]
    first, *others = configs
    width = first["hidden_size"] * (2 if first["bidirectional"] else 1)
    for place, other in enumerate(others, 1):
        if other != {**first, "input_size": width}:
            raise RuleError(
                f"layer {place} of the stacked recurrent layers differs from the first, but torch has one "
                "configuration for all of them"
                ": use one torch layer for each"
            )
    rates = {spec.config["rate"] for spec in layers if spec.kind == _DROPOUT} or {0.0}
    if len(rates) > 1 or len(layers) not in (len(configs), 2 * len(configs) - 1):
        raise RuleError(
            f"the dropout rates between the {len(configs)} recurrent layers differ or are missing: {sorted(rates)}; "
            "torch has one rate between all layers"
            "; give them the same rate"
        )
    config = {**first, "num_layers": len(configs), "batch_first": True, "dropout": rates.pop()}
    config |= {"proj_size": 0} if kind.torch == "LSTM" else {}
    return (LayerSpec(kind=f"torch.nn.{kind.torch}", config=config),)


def layout_of(config: Config) -> Layout:
    """Return the order of torch's axes: "time" (time, then batch), or "same" as in Keras if batch_first=True."""
    return "same" if config.get("batch_first") else "time"


def output_of(outputs: Arrays, torch: Config, keras: Config, shape: Shape) -> Array:
    """Return the part of a recurrent torch layer's outputs that Keras returns.

    It is the whole sequence, or the last step of each direction.

    Args:
        outputs: The outputs of the torch layer.
        torch: The configuration of the torch layer.
        keras: The configuration of the Keras layer.
        shape: The shape of the Keras layer's output.
    """
    sequence = outputs[0] if layout_of(torch) == "same" else np.swapaxes(outputs[0], 0, 1)
    if len(shape) == sequence.ndim:
        return sequence
    if not torch.get("bidirectional"):
        return sequence[:, -1]
    units = sequence.shape[-1] // 2
    return np.concatenate([sequence[:, -1, :units], sequence[:, 0, units:]], -1)


def _examples(kind: Kind, *, stacked: bool, both: bool) -> tuple[Example, ...]:
    configs: list[dict[str, Any]] = [
        {"input_size": 3, "hidden_size": 5, "batch_first": True},
        {"input_size": 6, "hidden_size": 4, "batch_first": False, "bias": False},
    ]
    if kind.torch == "RNN":
        configs[1]["nonlinearity"] = "relu"
    extras: list[dict[str, Any]] = [{"num_layers": 1}] * 2
    if stacked:
        extras = [{"num_layers": 2, "dropout": 0.25}, {"num_layers": 2}]
    configs = [config | extra for config, extra in zip(configs, extras, strict=True)]
    return tuple(
        Example(
            config=config | {"bidirectional": both},
            inputs=((2, 4, config["input_size"]) if config["batch_first"] else (4, 2, config["input_size"]),),
            canonical=config["batch_first"],
        )
        for config in configs
    )


_NOTE = (
    "Keras has the batch axis first, and returns the sequence or its last step. From Keras to torch batch_first is "
    "set. Keras' dropout, which acts in training only, is lost."
)

for _kind in KINDS:
    for _stacked, _both in ((False, False), (False, True), (True, False), (True, True)):
        register(
            Rule(
                torch=f"torch.nn.{_kind.torch}",
                keras=_BIDIRECTIONAL if _both else f"keras.layers.{_kind.keras}",
                keras_count=0 if _stacked else 1,
                fields=_fields(_kind, stacked=_stacked, both=_both),
                applies=partial(_applies, stacked=_stacked, both=_both),
                **bound(partial(_weights, stacked=_stacked), _to_keras, _to_torch, kind=_kind),
                fixed=partial(recurrent_settings, lacking=lacking(_kind)),
                returned=("return_sequences", "return_state"),
                layout=layout_of,
                output=output_of,
                examples=_examples(_kind, stacked=_stacked, both=_both),
                train=not _stacked,
                note=("" if _kind.torch == "GRU" else SUMMED) + _NOTE,
            )
        )


# A Dense applied to each step. Torch's Linear accepts any number of axes before the last one.
def _distributed_to_keras(config: Config) -> LayerSpecs:
    (dense,) = DENSE.to_keras(config)
    inner = {"module": "keras.layers", "class_name": "Dense", "config": dict(dense.config), "registered_name": None}
    return (LayerSpec(kind=_DISTRIBUTED, config={"layer": inner}),)


def _distributed_to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    inner = spec.config.get("layer") or {}
    require_value(spec.kind, "layer", inner.get("class_name"), "Dense")
    shapes = {role.removeprefix("layer/"): shape for role, shape in spec.shapes.items()}
    dense = LayerSpec(kind="keras.layers.Dense", config=inner["config"], shapes=shapes, inputs=spec.inputs)
    return DENSE.to_torch((dense,))


def _distributed_weights(config: Config) -> tuple[WeightMapping, ...]:
    return (
        WeightMapping(torch=("weight",), keras=("layer/kernel",), transform=Axes("o i -> i o")),
        WeightMapping(torch=("bias",), keras=("layer/bias",), transform=Same()),
    )


_LINEAR_TO_DISTRIBUTED_EXAMPLES = (
    Example(config={"in_features": 5, "out_features": 7}, inputs=((2, 3, 5),)),
    Example(config={"in_features": 6, "out_features": 6, "bias": False}, inputs=((3, 2, 6),)),
)
register(
    Rule(
        torch="torch.nn.Linear",
        keras=_DISTRIBUTED,
        fields=paired("in_features", bias="layer.use_bias", out_features="layer.units"),
        weights=_distributed_weights,
        to_keras=_distributed_to_keras,
        to_torch=_distributed_to_torch,
        examples=_LINEAR_TO_DISTRIBUTED_EXAMPLES,
        train=True,
        note="Only if the layer inside TimeDistributed is a Dense.",
    )
)
