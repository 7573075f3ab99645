"""Activations with settings: what an activation of Keras has no argument for is a function of `keras.ops`."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

RELU = "keras.layers.ReLU"

Names = tuple[tuple[str, str], ...]
"""Torch's name for an argument, and Keras'."""


def _function(config: Config, *, kind: str, names: Names) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={keras: config[torch] for torch, keras in names}),)


def _module(layers: LayerSpecs, *, kind: str, names: Names) -> LayerSpecs:
    keras = last(layers).config
    missing = [name for _, name in names if name not in keras]
    if missing:
        raise RuleError(f"{last(layers).kind} without {', '.join(missing)}: its default is not known")
    return (LayerSpec(kind=kind, config={torch: keras[name] for torch, name in names}),)


# Torch's class, the function, the names of the arguments, and values for them, once for each of two inputs.
_FUNCTIONS: tuple[tuple[str, str, Names, tuple[tuple[Any, ...], ...]], ...] = (
    ("CELU", "celu", (("alpha", "alpha"),), ((1.7,), (0.4,))),
    ("GLU", "glu", (("dim", "axis"),), ((1,), (-2,))),
    ("LogSoftmax", "log_softmax", (("dim", "axis"),), ((1,), (-2,))),
    ("Hardtanh", "clip", (("min_val", "x_min"), ("max_val", "x_max")), ((-1.5, 2.5), (0.5, 6.0))),
    ("Hardshrink", "hard_shrink", (("lambd", "threshold"),), ((1.2,), (0.3,))),
    ("Softshrink", "soft_shrink", (("lambd", "threshold"),), ((1.2,), (0.3,))),
    ("Threshold", "threshold", (("threshold", "threshold"), ("value", "default_value")), ((0.7, -3.0), (-2, 5))),
)

for _torch, _name, _names, _values in _FUNCTIONS:
    register(
        Rule(
            torch=f"torch.nn.{_torch}",
            keras=f"keras.ops.{_name}",
            fields=tuple(name for name, _ in _names),
            to_keras=partial(_function, kind=f"keras.ops.{_name}", names=_names),
            to_torch=partial(_module, kind=f"torch.nn.{_torch}", names=_names),
            examples=tuple(
                Example(config=dict(zip((name for name, _ in _names), values, strict=True)), inputs=(shape,))
                for values, shape in zip(_values, ((3, 6), (2, 3, 6, 5)), strict=True)
            ),
            train=True,
        )
    )


def _gelu_to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind="keras.ops.gelu", config={"approximate": config["approximate"] == "tanh"}),)


def _gelu_to_torch(layers: LayerSpecs) -> LayerSpecs:
    """The function approximates unless it is told not to."""
    approximate = "tanh" if last(layers).config.get("approximate", True) else "none"
    return (LayerSpec(kind="torch.nn.GELU", config={"approximate": approximate}),)


register(
    Rule(
        torch="torch.nn.GELU",
        keras="keras.ops.gelu",
        fields=("approximate",),
        to_keras=_gelu_to_keras,
        to_torch=_gelu_to_torch,
        examples=tuple(Example(config={"approximate": kind}, inputs=((3, 5),)) for kind in ("tanh", "none")),
        train=True,
    )
)


SOFTPLUS = "keras3conv.frameworks.keras.layers.Softplus"
_BEND: Names = (("beta", "beta"), ("threshold", "threshold"))

register(
    Rule(
        torch="torch.nn.Softplus",
        keras=SOFTPLUS,
        fields=("beta", "threshold"),
        to_keras=partial(_function, kind=SOFTPLUS, names=_BEND),
        to_torch=partial(_module, kind="torch.nn.Softplus", names=_BEND),
        examples=(
            Example(config={"beta": 2.0, "threshold": 5.0}, inputs=((3, 5),)),
            Example(config={"beta": 0.5, "threshold": 1.0}, inputs=((2, 3, 7),)),
        ),
        train=True,
    )
)


# What else a ReLU of Keras can say: max_value, negative_slope, threshold
def _relu(config: Config, *, names: Names) -> LayerSpecs:
    return (LayerSpec(kind=RELU, config={keras: config[torch] for torch, keras in names if keras}),)


def _relu_settings(layers: LayerSpecs, *allowed: str) -> dict[str, float]:
    """The settings of a ReLU that are not what they are without being set; `RuleError` for others than these."""
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
        raise RuleError("ReLU without max_value is no Hardtanh")
    return (LayerSpec(kind="torch.nn.Hardtanh", config={"min_val": 0.0, "max_val": settings["max_value"]}),)


def _leaky_relu_from_relu(layers: LayerSpecs) -> LayerSpecs:
    """A maximum is a layer after it."""
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
        raise RuleError(f"{kind} with {dict(config)} is no ReLU of Keras")
    return _relu(config, names=names)


for _torch, _names, _applies, _back, _configs in _RELUS:
    _examples = tuple(
        Example(config=config, inputs=(shape,)) for config, shape in zip(_configs, ((3, 5), (2, 3, 7)), strict=True)
    )
    register(
        Rule(
            torch=f"torch.nn.{_torch}",
            keras=RELU,
            fields=tuple(name for name, _ in _names),
            applies=_applies,
            to_keras=partial(_relu_to_keras, kind=_torch, names=_names, applies=_applies),
            to_torch=_back,
            examples=_examples,
            train=True,
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
        fields=("lower", "upper"),
        to_keras=_randomised_to_keras,
        to_torch=_randomised_to_torch,
        examples=(
            Example(config={}, inputs=((3, 5),), canonical=False),
            Example(config={"lower": 0.1, "upper": 0.6}, inputs=((2, 3, 7),), canonical=False),
        ),
        note="Lossy: the mean of the slopes, which is what torch takes outside of training; their range is lost.",
    )
)

register(
    Rule(
        torch="torch.exp",
        keras="keras.activations.exponential",
        fields=(),
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Activation", config={"activation": "exponential"}),),
        to_torch=lambda layers: (LayerSpec(kind="torch.exp"),),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 3, 7),))),
        train=True,
    )
)
