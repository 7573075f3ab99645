"""Rules for torch activations that `keras.ops` has with the same arguments, but that are no Keras layers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, renaming, require_value
from keras3conv.rules.operation import Operation
from keras3conv.rules.operations import for_keras
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

RELU = "keras.layers.ReLU"
Names = tuple[tuple[str, str], ...]
"""Pairs of the torch name and the Keras name of an argument."""


def _to_keras(config: Config, *, operation: Operation) -> LayerSpecs:
    arguments = {entry.torch: config[entry.torch] for entry in operation.parameters}
    return (LayerSpec(kind=operation.keras[0], config=operation.to_keras(arguments)),)


def _to_torch(layers: LayerSpecs, *, operation: Operation) -> LayerSpecs:
    keras = last(layers).config
    arguments = {entry.keras: keras[entry.keras] for entry in operation.parameters if entry.keras in keras}
    return (LayerSpec(kind=operation.module, config=operation.to_torch(arguments)),)


# The arguments of the torch module in two examples, by the name in keras.ops.
_ARGUMENTS: Mapping[str, tuple[tuple[Any, ...], ...]] = {
    "celu": ((1.7,), (0.4,)),
    "glu": ((1,), (-2,)),
    "log_softmax": ((1,), (-2,)),
    "clip": ((-1.5, 2.5), (0.5, 6.0)),
    "hard_shrink": ((1.2,), (0.3,)),
    "soft_shrink": ((1.2,), (0.3,)),
    "threshold": ((0.7, -3.0), (-2, 5)),
    "gelu": (("tanh",), ("none",)),
}

for _name, _values in _ARGUMENTS.items():
    _operation = next(entry for entry in for_keras(f"keras.ops.{_name}") if entry.module)
    _names = {entry.torch: entry.keras for entry in _operation.parameters}
    _examples = tuple(
        Example(config=dict(zip(_names, values, strict=True)), inputs=(shape,))
        for values, shape in zip(_values, ((3, 6), (2, 3, 6, 5)), strict=True)
    )
    register(
        Rule(
            torch=_operation.module,
            keras=_operation.keras[0],
            fields=_names,
            to_keras=partial(_to_keras, operation=_operation),
            to_torch=partial(_to_torch, operation=_operation),
            examples=_examples,
            train=True,
            fallback=True,
        )
    )


SOFTPLUS = "keras3conv.frameworks.keras.layers.Softplus"


register(
    Rule(
        **renaming("torch.nn.Softplus", SOFTPLUS, beta="beta", threshold="threshold"),
        examples=(
            Example(config={"beta": 2.0, "threshold": 5.0}, inputs=((3, 5),)),
            Example(config={"beta": 0.5, "threshold": 1.0}, inputs=((2, 3, 7),)),
        ),
        train=True,
    )
)


# Torch modules that become a Keras ReLU with max_value, negative_slope or threshold.
def _relu_settings(layers: LayerSpecs, *allowed: str) -> dict[str, float]:
    """Return those of `max_value`, `negative_slope` and `threshold` of a Keras ReLU that are not None, by name.

    Args:
        layers: The Keras layers; the last one is the ReLU.
        allowed: The names of the arguments that may differ from their defaults.

    Raises:
        RuleError: Another argument differs from its default.
    """
    defaults = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
    given = {name: last(layers).config.get(name) or default for name, default in defaults.items()}
    if last(layers).config.get("max_value") == 0:
        given["max_value"] = 0.0
    for name, default in defaults.items():
        if name not in allowed:
            require_value(RELU, name, given[name], default)
    return {name: value for name, value in given.items() if value is not None}


def _hardtanh_from_relu(layers: LayerSpecs) -> LayerSpecs:
    settings = _relu_settings(layers, "max_value")
    if "max_value" not in settings:
        raise RuleError(
            "a Keras ReLU without max_value cannot become torch.nn.Hardtanh, which has an upper limit"
            ": set max_value, or pair it with torch.nn.ReLU"
        )
    return (LayerSpec(kind="torch.nn.Hardtanh", config={"min_val": 0.0, "max_val": settings["max_value"]}),)


def _leaky_relu_from_relu(layers: LayerSpecs) -> LayerSpecs:
    """Return the torch layers for a Keras ReLU with a negative slope: a LeakyReLU, then a Hardtanh for a maximum."""
    settings = _relu_settings(layers, "max_value", "negative_slope")
    leaky = LayerSpec(kind="torch.nn.LeakyReLU", config={"negative_slope": settings["negative_slope"]})
    if "max_value" not in settings:
        return (leaky,)
    limits = {"min_val": float("-inf"), "max_val": settings["max_value"]}
    return leaky, LayerSpec(kind="torch.nn.Hardtanh", config=limits)


def _threshold_from_relu(layers: LayerSpecs) -> LayerSpecs:
    config = {"threshold": _relu_settings(layers, "threshold")["threshold"], "value": 0.0}
    return (LayerSpec(kind="torch.nn.Threshold", config=config),)


_RELUS: tuple[tuple[str, Names, Any, Any, tuple[Config, ...]], ...] = (
    (
        "Hardtanh",
        (("min_val", ""), ("max_val", "max_value")),
        lambda config: config["min_val"] == 0 < config["max_val"],
        _hardtanh_from_relu,
        ({"min_val": 0.0, "max_val": 4.0}, {"min_val": 0.0, "max_val": 0.5}),
    ),
    (
        "LeakyReLU",
        (("negative_slope", "negative_slope"),),
        lambda config: config["negative_slope"] >= 0,
        _leaky_relu_from_relu,
        ({"negative_slope": 0.375}, {"negative_slope": 0.0}),
    ),
    (
        "Threshold",
        (("threshold", "threshold"), ("value", "")),
        lambda config: config["value"] == 0 <= config["threshold"],
        _threshold_from_relu,
        ({"threshold": 1.5, "value": 0.0}, {"threshold": 0.0, "value": 0.0}),
    ),
)


def _relu_to_keras(config: Config, *, kind: str, names: Names, applies: Any) -> LayerSpecs:
    if not applies(config):
        raise RuleError(
            f"{kind} with the arguments {dict(config)} cannot become a Keras ReLU"
            ": use arguments that the Keras ReLU has"
        )
    return (LayerSpec(kind=RELU, config={keras: config[torch] for torch, keras in names if keras}),)


for _torch, _pairs, _applies, _back, _configs in _RELUS:
    _examples = tuple(
        Example(config=config, inputs=(shape,)) for config, shape in zip(_configs, ((3, 5), (2, 3, 7)), strict=True)
    )
    register(
        Rule(
            torch=f"torch.nn.{_torch}",
            keras=RELU,
            fields=dict(_pairs),
            applies=_applies,
            to_keras=partial(_relu_to_keras, kind=_torch, names=_pairs, applies=_applies),
            to_torch=_back,
            examples=_examples,
            train=True,
            fallback=True,
        )
    )


def _randomised_to_keras(config: Config) -> LayerSpecs:
    slope = (config["lower"] + config["upper"]) / 2
    return (LayerSpec(kind="keras.ops.leaky_relu", config={"negative_slope": slope}),)


def _randomised_to_torch(layers: LayerSpecs) -> LayerSpecs:
    slope = last(layers).config.get("negative_slope", 0.2)
    return (LayerSpec(kind="torch.nn.RReLU", config={"lower": slope, "upper": slope}),)


register(
    Rule(
        torch="torch.nn.RReLU",
        keras="keras.ops.leaky_relu",
        fields=paired("upper", lower="negative_slope"),
        to_keras=_randomised_to_keras,
        to_torch=_randomised_to_torch,
        examples=(
            Example(config={}, inputs=((3, 5),), canonical=False),
            Example(config={"lower": 0.1, "upper": 0.6}, inputs=((2, 3, 7),), canonical=False),
        ),
        note="Lossy: Keras gets the mean slope, which torch uses outside of training; lower and upper are lost.",
    )
)

register(
    Rule(
        torch="torch.exp",
        keras="keras.activations.exponential",
        fields={},
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Activation", config={"activation": "exponential"}),),
        to_torch=lambda layers: (LayerSpec(kind="torch.exp"),),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 3, 7),))),
        train=True,
    )
)
