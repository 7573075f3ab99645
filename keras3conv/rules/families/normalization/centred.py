"""Rules for RMSNorm and LayerNorm that multiply by 1 + weight in torch; the scale of the Keras layer is 1 + weight.

Many torch classes do this. `align` recognizes such a torch layer by its outputs, whatever its class.
"""

from keras3conv.rules.families.normalization.layer import layer_norm_to_keras, layer_norm_to_torch
from keras3conv.rules.helpers.config import last, paired, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same, Shift

_RMS_NORM = "keras.layers.RMSNormalization"
_CENTRED = "keras3conv.frameworks.torch.centred"
_NOTE = (
    "Any torch class that computes this is recognized by its outputs. Lossy: torch stores scale - 1, and the scale is "
    "rounded to float32, as in torch's forward pass."
)


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    return (WeightMapping(torch=("weight",), keras=("scale",), transform=Shift(1)),)


def _to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind=_RMS_NORM, config={"axis": -1, "epsilon": config["eps"]}),)


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    (size,) = shape_of(spec, "scale")
    rank = len(spec.inputs[0]) if spec.inputs else 0
    axis = spec.config.get("axis", -1)
    require_value(_RMS_NORM, "axis", axis if isinstance(axis, int) else tuple(axis), -1, (-1,), rank - 1, (rank - 1,))
    config = {"dim": size, "eps": spec.config.get("epsilon") or 1e-6}
    return (LayerSpec(kind=f"{_CENTRED}.CentredRMSNorm", config=config),)


_RMS_EXAMPLES = (
    Example(config={"dim": 5, "eps": 2e-3}, inputs=((2, 3, 5),)),
    Example(config={"dim": 6}, inputs=((3, 4, 7, 6),)),
)
register(
    Rule(
        torch=f"{_CENTRED}.CentredRMSNorm",
        keras=_RMS_NORM,
        fields=paired(eps="epsilon"),
        weights=_weights,
        to_keras=_to_keras,
        to_torch=_to_torch,
        examples=_RMS_EXAMPLES,
        train=True,
        note=_NOTE,
    )
)


def _layer_norm_weights(config: Config) -> tuple[WeightMapping, ...]:
    return (
        WeightMapping(torch=("weight",), keras=("gamma",), transform=Shift(1)),
        WeightMapping(torch=("bias",), keras=("beta",), transform=Same()),
    )


def _layer_norm_to_keras(config: Config) -> LayerSpecs:
    return layer_norm_to_keras({**config, "elementwise_affine": True})


def _layer_norm_to_torch(layers: LayerSpecs) -> LayerSpecs:
    (spec,) = layer_norm_to_torch(layers, kind=f"{_CENTRED}.CentredLayerNorm")
    require_value(spec.kind, "elementwise_affine", spec.config["elementwise_affine"], True)
    config = {name: spec.config[name] for name in ("normalized_shape", "eps", "bias")}
    return (LayerSpec(kind=spec.kind, config=config),)


_LAYER_EXAMPLES = (
    Example(config={"normalized_shape": (5,), "eps": 2e-3}, inputs=((2, 3, 5),)),
    Example(config={"normalized_shape": (6,), "bias": False}, inputs=((4, 6),)),
)
register(
    Rule(
        torch=f"{_CENTRED}.CentredLayerNorm",
        keras="keras.layers.LayerNormalization",
        fields=paired("normalized_shape", eps="epsilon", bias="center"),
        weights=_layer_norm_weights,
        to_keras=_layer_norm_to_keras,
        to_torch=_layer_norm_to_torch,
        examples=_LAYER_EXAMPLES,
        train=True,
        note=_NOTE,
    )
)
