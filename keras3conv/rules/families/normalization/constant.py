"""Rules for normalisation without trained weights: to unit length, by constants, or by statistics of a dataset."""

from math import sqrt
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, require_value, shape_of
from keras3conv.rules.helpers.own_layers import NORMALIZATION
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same

_UNIT = "keras.layers.UnitNormalization"
_NORMALIZE = "torch.nn.functional.normalize"
_EPSILON = 1e-12


def _unit_to_keras(config: Config) -> LayerSpecs:
    require_value(_NORMALIZE, "p", config.get("p", 2.0), 2.0)
    require_value(_NORMALIZE, "eps", config.get("eps", _EPSILON), _EPSILON)
    return (LayerSpec(kind=_UNIT, config={"axis": config.get("dim", 1)}),)


def _unit_to_torch(layers: LayerSpecs) -> LayerSpecs:
    axis = last(layers).config.get("axis", -1)
    if not isinstance(axis, int) and len(axis) != 1:
        raise RuleError(
            f"UnitNormalization has axis={axis}, but torch.nn.functional.normalize works along one axis"
            ": flatten the axes to one before it"
        )
    dim = axis if isinstance(axis, int) else axis[0]
    return (LayerSpec(kind=_NORMALIZE, config={"p": 2.0, "dim": dim, "eps": _EPSILON}),)


_NORMALIZE_TO_UNIT_EXAMPLES = (
    Example(config={"p": 2.0, "dim": -1, "eps": _EPSILON}, inputs=((3, 5),)),
    Example(config={"p": 2.0, "dim": 1, "eps": _EPSILON}, inputs=((2, 3, 4, 5),)),
    Example(config={"p": 2.0, "dim": -2, "eps": _EPSILON}, inputs=((2, 3, 7),)),
)
register(
    Rule(
        torch=_NORMALIZE,
        keras=_UNIT,
        fields=paired("p", "eps", dim="axis"),
        to_keras=_unit_to_keras,
        to_torch=_unit_to_torch,
        examples=_NORMALIZE_TO_UNIT_EXAMPLES,
        train=True,
        note="The axis is an index in torch's layout.",
    )
)

_CONSTANTS = "torchvision.transforms.transforms.Normalize"


def _constants_to_keras(config: Config) -> LayerSpecs:
    keras = {"axis": -1, "mean": list(config["mean"]), "variance": [deviation**2 for deviation in config["std"]]}
    return (LayerSpec(kind="keras.layers.Normalization", config=keras),)


def _constants_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    if keras.get("mean") is None:
        raise RuleError(
            "an adapted Normalization layer cannot become Normalize, because its mean and variance are variables"
            ": pair it with a layer that has them, too"
        )
    rank = len(last(layers).inputs[0]) if last(layers).inputs else 4
    axis = keras.get("axis", -1)
    require_value(
        "keras.layers.Normalization", "axis", axis if isinstance(axis, int) else tuple(axis), -1, (-1,), (rank - 1,)
    )
    require_value("keras.layers.Normalization", "invert", keras.get("invert", False), False)
    config = {"mean": list(keras["mean"]), "std": [sqrt(variance) for variance in keras["variance"]], "inplace": False}
    return (LayerSpec(kind=_CONSTANTS, config=config),)


_CONSTANTS_TO_NORMALIZATION_EXAMPLES = (
    Example(config={"mean": [0.5, -1.25, 3.0], "std": [0.25, 2.0, 0.75]}, inputs=((2, 3, 5, 4),)),
    Example(config={"mean": [0.375, 0.5], "std": [1.5, 0.5]}, inputs=((4, 2, 3, 7),)),
)
register(
    Rule(
        torch=_CONSTANTS,
        keras="keras.layers.Normalization",
        fields=paired(mean="mean", std="variance"),
        to_keras=_constants_to_keras,
        to_torch=_constants_to_torch,
        layout="channels",
        examples=_CONSTANTS_TO_NORMALIZATION_EXAMPLES,
        train=True,
        note="Keras stores the variance, the square of torch's std.",
    )
)


# Normalisation by statistics of a dataset (`adapt`), or by constants of any shape.
_ROLES = ("running_mean", "mean"), ("running_var", "variance"), ("count", "count")


def _measured_weights(config: Config) -> tuple[WeightMapping, ...]:
    if config["mean"] is not None:
        return ()
    return tuple(WeightMapping(torch=(torch,), keras=(keras,), transform=Same()) for torch, keras in _ROLES)


def _measured_to_keras(config: Config) -> LayerSpecs:
    keras = {name: config[name] for name in ("axis", "mean", "variance", "invert")}
    return (LayerSpec(kind="keras.layers.Normalization", config=keras),)


def _measured_to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    axis, mean = spec.config.get("axis", -1), spec.config.get("mean")
    config = {
        "shape": shape_of(spec, "mean") if mean is None else None,
        "axis": () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis),
        "mean": _fixed(mean),
        "variance": _fixed(spec.config.get("variance")),
        "invert": bool(spec.config.get("invert", False)),
    }
    return (LayerSpec(kind=NORMALIZATION, config=config),)


def _fixed(value: Any) -> Any:
    """Return nested lists as nested tuples, so that they can be compared and hashed.

    Return any other value unchanged.
    """
    return tuple(map(_fixed, value)) if isinstance(value, list | tuple) else value


_MEASURED: dict[str, Any] = {"shape": (4,), "axis": (-1,), "mean": None, "variance": None, "invert": False}
_MEASURED_EXAMPLES = (
    Example(config=_MEASURED, inputs=((2, 3, 4),)),
    Example(config=_MEASURED | {"invert": True}, inputs=((3, 4),)),
    Example(config=_MEASURED | {"shape": (3, 5), "axis": (1, -1)}, inputs=((2, 3, 4, 5),)),
    Example(config=_MEASURED | {"shape": (), "axis": ()}, inputs=((2, 3),)),
    Example(
        config=_MEASURED | {"shape": None, "mean": (0.5, -1.3, 0.7), "variance": (0.3, 2.0, 0.9)}, inputs=((4, 2, 3),)
    ),
    Example(config=_MEASURED | {"shape": None, "mean": 1.7, "variance": 0.3, "invert": True}, inputs=((4, 5),)),
)
register(
    Rule(
        torch=NORMALIZATION,
        keras="keras.layers.Normalization",
        fields={**{name: name for name in _MEASURED}, "shape": ""},
        weights=_measured_weights,
        to_keras=_measured_to_keras,
        to_torch=_measured_to_torch,
        examples=_MEASURED_EXAMPLES,
        train=True,
    )
)
