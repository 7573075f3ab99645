"""Rule for a convolution over patches that do not overlap: Keras extracts the patches and applies a Dense."""

from keras3conv.errors import RuleError
from keras3conv.rules.families.linear.dense import (
    CONV_FIELDS,
    bias_mapping,
    dense,
    kernel_mapping,
    patchwise_convolution,
)
from keras3conv.rules.helpers.config import ints, last, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same

_PATCHES = "keras.ops.image.extract_patches"


def _takes_patches(config: Config) -> bool:
    """Return whether a convolution's stride equals its kernel size: the windows neither overlap nor leave gaps."""
    size = ints(config["kernel_size"], 2)
    plain = ints(config["dilation"], 2) == (1, 1) and config["groups"] == 1
    unpadded = config["padding"] == "valid" or (config["padding"] != "same" and ints(config["padding"], 2) == (0, 0))
    return plain and unpadded and size == ints(config["stride"], 2) and max(size) > 1


def _to_keras(config: Config) -> LayerSpecs:
    if not _takes_patches(config):
        raise RuleError(
            "Conv2d cannot become a Dense over patches if its windows overlap, leave gaps or are padded"
            ": pair it with a Keras Conv2D"
        )
    patches = {"size": ints(config["kernel_size"], 2), "data_format": "channels_last"}
    return LayerSpec(kind=_PATCHES, config=patches), dense(config["out_channels"], config["bias"])


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    layer = last(layers)
    if layers[0].kind != _PATCHES:
        raise RuleError(
            f"Dense can become a Conv2d over patches only if {_PATCHES} comes before it, which has the size of the "
            "patches"
            ": pair it with a Linear"
        )
    given = layers[0].config
    size = ints(given["size"], 2)
    require_value(_PATCHES, "strides", given.get("strides") or size, size, *size[:1])
    require_value(_PATCHES, "padding", given.get("padding", "valid"), "valid")
    require_value(_PATCHES, "data_format", given.get("data_format"), None, "channels_last")
    return (patchwise_convolution(layer, size),)


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    height, width = ints(config["kernel_size"], 2)
    return kernel_mapping(Axes("o i h w -> (h w i) o", h=height, w=width)), bias_mapping(Same())


_EXAMPLES = (
    Example(
        config={"in_channels": 3, "out_channels": 7, "kernel_size": (4, 2), "stride": (4, 2)}, inputs=((2, 3, 8, 10),)
    ),
    # The last row and column of pixels belong to no patch.
    Example(
        config={"in_channels": 2, "out_channels": 12, "kernel_size": (2, 3), "stride": (2, 3), "bias": False},
        inputs=((3, 2, 5, 7),),
    ),
)
register(
    Rule(
        torch="torch.nn.Conv2d",
        keras="keras.layers.Dense",
        variant="patches",
        fields=CONV_FIELDS,
        applies=_takes_patches,
        weights=_weights,
        to_keras=_to_keras,
        to_torch=_to_torch,
        layout="channels",
        examples=_EXAMPLES,
        train=True,
        note="The inputs of the Dense are in the order (height, width, channel), as extract_patches returns them.",
    )
)
