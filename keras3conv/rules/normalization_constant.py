"""Normalisation without weights: to unit length, by constants."""

from math import sqrt

from keras3conv.errors import RuleError
from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import last, require_value

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
        raise RuleError(f"UnitNormalization with axis={axis}: torch takes the length along one axis")
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
        fields=("p", "dim", "eps"),
        to_keras=_unit_to_keras,
        to_torch=_unit_to_torch,
        examples=_NORMALIZE_TO_UNIT_EXAMPLES,
        train=True,
        note="The axis is counted in torch's layout.",
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
            "Normalization that was adapted to data has no counterpart: its mean and variance are variables"
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
        fields=("mean", "std"),
        to_keras=_constants_to_keras,
        to_torch=_constants_to_torch,
        layout="channels",
        examples=_CONSTANTS_TO_NORMALIZATION_EXAMPLES,
        train=True,
        note="Keras keeps the constants in float32: in float64 torch's are finer, by 3e-8 at most.",
    )
)
