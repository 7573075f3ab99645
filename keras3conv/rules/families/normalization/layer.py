"""Rules for layer and RMS normalisation over the last axes or the channels. The epsilon is always explicit."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import input_channels, last, paired, require_value
from keras3conv.rules.helpers.counterpart import affine_weights
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Layout, Rule, WeightMapping
from keras3conv.transforms import Axes, Same, Shape, Transform

_LAYER_NORM = "keras.layers.LayerNormalization"
_RMS_NORM = "keras.layers.RMSNormalization"
_RMS_FUNCTION = "keras.ops.rms_normalization"
_FIELDS = paired(normalized_shape="axis", eps="epsilon", elementwise_affine="scale", bias="center")


def _same_weights(config: Config) -> tuple[WeightMapping, ...]:
    return tuple(affine_weights(config, Same()))


# Three or more normalised axes are taken as those of an image or volume, whose channels are moved.
def _layout(config: Config) -> Layout:
    return "channels" if len(config.get("normalized_shape", ())) > 2 else "same"


def _axes(shape: Shape) -> int | list[int]:
    return -1 if len(shape) == 1 else list(range(-len(shape), 0))


def _image_transform(config: Config) -> Transform:
    shape = config["normalized_shape"]
    if _layout(config) == "same":
        return Same()
    spatial = " ".join("dhwxyz"[place] for place in range(len(shape) - 1))
    return Axes(f"c {spatial} -> {spatial} c")


def _layer_norm_weights(config: Config) -> tuple[WeightMapping, ...]:
    return tuple(affine_weights(config, _image_transform(config)))


def layer_norm_to_keras(config: Config) -> LayerSpecs:
    """Return the Keras LayerNormalization for the configuration of a torch LayerNorm."""
    keras = {
        "axis": _axes(config["normalized_shape"]),
        "epsilon": config["eps"],
        "scale": config["elementwise_affine"],
        "center": bool(config["elementwise_affine"] and config["bias"]),
    }
    return (LayerSpec(kind=_LAYER_NORM, config=keras),)


def _normalized_shape(spec: LayerSpec) -> Shape:
    """Return torch's `normalized_shape` for a Keras LayerNormalization.

    Raise `RuleError` unless it is over the last axes.
    """
    given = spec.config.get("axis", -1)
    count = 1 if isinstance(given, int) else len(given)
    shape = spec.shapes.get("gamma", spec.shapes.get("scale", spec.shapes.get("beta")))
    axes = sorted([given] if isinstance(given, int) else given)
    rank = len(spec.inputs[0]) if spec.inputs else axes[-1] + 1  # Keras 2 stored the last axis as a positive index
    if axes not in (list(range(-count, 0)), list(range(rank - count, rank))):
        raise RuleError(
            f"{spec.kind.rpartition('.')[2]} has axis={given}, but torch normalizes only over the last axes"
            ": permute the input before it"
        )
    sizes = shape or tuple(input_channels(spec, axis) for axis in range(-count, 0))
    return (sizes[-1], *sizes[:-1]) if count > 2 else sizes


def layer_norm_to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    """Return the torch layer for a Keras LayerNormalization.

    Args:
        layers: The Keras layers; the last one is the LayerNormalization.
        kind: The class of the torch layer.
    """
    spec = last(layers)
    scale, center = spec.config.get("scale", True), spec.config.get("center", True)
    require_value(spec.kind, "rms_scaling", spec.config.get("rms_scaling", False), False)
    config = {
        "normalized_shape": _normalized_shape(spec),
        "eps": spec.config.get("epsilon", 1e-3),
        "elementwise_affine": scale or center,
        "bias": center,
    }
    return (LayerSpec(kind=kind, config=config),)


_LAYER_NORM_TO_LAYER_NORM_EXAMPLES = (
    Example(config={"normalized_shape": (5,), "eps": 2e-3}, inputs=((2, 3, 5),)),
    Example(config={"normalized_shape": (7,), "bias": False}, inputs=((4, 7),)),
    Example(config={"normalized_shape": (5,), "elementwise_affine": False, "bias": False}, inputs=((2, 3, 4, 5),)),
    Example(config={"normalized_shape": (4, 5)}, inputs=((2, 3, 4, 5),)),
    Example(config={"normalized_shape": (3, 4, 5)}, inputs=((2, 3, 4, 5),)),
    Example(config={"normalized_shape": (3, 5, 2, 7), "eps": 2e-4}, inputs=((4, 3, 5, 2, 7),)),
)
register(
    Rule(
        torch="torch.nn.LayerNorm",
        keras=_LAYER_NORM,
        fields=_FIELDS,
        weights=_layer_norm_weights,
        to_keras=layer_norm_to_keras,
        to_torch=partial(layer_norm_to_torch, kind="torch.nn.LayerNorm"),
        layout=_layout,
        examples=_LAYER_NORM_TO_LAYER_NORM_EXAMPLES,
        train=True,
        note="Three or more normalised axes are taken as an image, whose channels are the last axis in Keras.",
    )
)

_LAYER_NORM2D_TO_LAYER_NORM_EXAMPLES = (
    Example(config={"normalized_shape": (5,), "eps": 2e-3}, inputs=((2, 5, 3, 4),)),
    Example(config={"normalized_shape": (3,), "bias": False}, inputs=((4, 3, 7, 2),)),
    Example(config={"normalized_shape": (3,), "elementwise_affine": False, "bias": False}, inputs=((4, 3, 7, 2),)),
)
register(
    Rule(
        torch="torchvision.models.convnext.LayerNorm2d",
        keras=_LAYER_NORM,
        fields={**_FIELDS, "normalized_shape": ""},
        weights=_same_weights,
        to_keras=layer_norm_to_keras,
        to_torch=partial(layer_norm_to_torch, kind="torchvision.models.convnext.LayerNorm2d"),
        layout="channels",
        examples=_LAYER_NORM2D_TO_LAYER_NORM_EXAMPLES,
        train=True,
    )
)


# The arguments of the constructor have other names than the attributes of the module; the fields include both.
def _timm_to_keras(config: Config) -> LayerSpecs:
    affine = config.get("affine", config["elementwise_affine"])
    keras = {"axis": -1, "epsilon": config["eps"], "scale": affine, "center": affine}
    return (LayerSpec(kind=_LAYER_NORM, config=keras),)


def _timm_to_torch(layers: LayerSpecs) -> LayerSpecs:
    (spec,) = layer_norm_to_torch(layers, kind="timm.layers.norm.LayerNorm2d")
    require_value(_LAYER_NORM, "center", spec.config["bias"], spec.config["elementwise_affine"])
    config = {
        "num_channels": spec.config["normalized_shape"][0],
        "eps": spec.config["eps"],
        "affine": spec.config["elementwise_affine"],
    }
    return (LayerSpec(kind=spec.kind, config=config),)


_TIMM_LAYER_NORM2D_TO_LAYER_NORM_EXAMPLES = (
    Example(config={"num_channels": 5, "eps": 2e-3}, inputs=((2, 5, 3, 4),), canonical=False),
    Example(config={"num_channels": 3, "affine": False}, inputs=((4, 3, 7, 2),), canonical=False),
)
register(
    Rule(
        torch="timm.layers.norm.LayerNorm2d",
        keras=_LAYER_NORM,
        fields=paired("num_channels", "affine", eps="epsilon", elementwise_affine=("scale", "center")),
        weights=_same_weights,
        to_keras=_timm_to_keras,
        to_torch=_timm_to_torch,
        layout="channels",
        examples=_TIMM_LAYER_NORM2D_TO_LAYER_NORM_EXAMPLES,
        train=True,
    )
)


FLOAT32_EPSILON = 2.0**-23
"""The epsilon of torch's RMSNorm for float32 inputs if the argument `eps` is None."""


def _rms_norm_weights(config: Config) -> tuple[WeightMapping, ...]:
    return (WeightMapping(torch=("weight",), keras=("scale",), transform=_image_transform(config)),)


def _rms_norm_to_keras(config: Config) -> LayerSpecs:
    keras: dict[str, Any] = {
        "axis": _axes(config["normalized_shape"]),
        "epsilon": FLOAT32_EPSILON if config["eps"] is None else config["eps"],
    }
    return (LayerSpec(kind=_RMS_NORM if config["elementwise_affine"] else _RMS_FUNCTION, config=keras),)


def _rms_norm_to_torch(layers: LayerSpecs, *, affine: bool) -> LayerSpecs:
    spec = last(layers)
    default = 1e-6 if affine else 1e-7
    config = {"normalized_shape": _normalized_shape(spec), "eps": spec.config.get("epsilon") or default}
    return (LayerSpec(kind="torch.nn.RMSNorm", config={**config, "elementwise_affine": affine}),)


_RMS_NOTE = "With eps=None torch uses the machine epsilon of the dtype; Keras gets 1.2e-7, the value for float32."

for _keras, _is_affine in ((_RMS_NORM, True), (_RMS_FUNCTION, False)):
    _examples: tuple[Example, ...] = tuple(
        Example(config={"normalized_shape": shape, "eps": eps, "elementwise_affine": _is_affine}, inputs=(inputs,))
        for shape, eps, inputs in (
            ((5,), 2e-3, (2, 3, 5)),
            ((4, 7), 1e-6, (2, 3, 4, 7)),
            ((3, 4, 5), 2e-4, (2, 3, 4, 5)),
        )
    )
    register(
        Rule(
            torch="torch.nn.RMSNorm",
            keras=_keras,
            fields=paired("elementwise_affine", normalized_shape="axis", eps="epsilon"),
            applies=lambda config, affine=_is_affine: config["elementwise_affine"] is affine,  # type: ignore[misc]
            weights=_rms_norm_weights,
            to_keras=_rms_norm_to_keras,
            to_torch=partial(_rms_norm_to_torch, affine=_is_affine),
            layout=_layout,
            examples=_examples,
            train=True,
            note=_RMS_NOTE,
        )
    )
