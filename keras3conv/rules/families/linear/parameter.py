"""Rules for layers whose only parameter scales values: PReLU and layer scale."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, shape_of
from keras3conv.rules.helpers.counterpart import counterpart, input_rank
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same


# A PReLU has one slope for each channel, or one for all.
def _prelu_rank(config: Config) -> int:
    """Return the number of input axes of a PReLU; raise `RuleError` if the input shape is unknown.

    Keras' variable alpha has one axis less, because it has no batch axis.
    """
    keras = counterpart(config)
    rank = len(shape_of(keras, "alpha")) + 1 if keras else input_rank(config)
    if rank is None:
        raise RuleError("PReLU needs the shape of its input, which is unknown; call the model once, or give inputs=...")
    return rank


def _prelu_weights(config: Config) -> tuple[WeightMapping, ...]:
    known = counterpart(config) or input_rank(config)
    rank = _prelu_rank(config) if known else 4  # assume an image; if that is wrong, a shape error is reported
    pattern = " ".join(["1"] * (rank - 2) + ["c"])
    return (WeightMapping(torch=("weight",), keras=("alpha",), transform=Axes(f"c -> {pattern}")),)


def _prelu_to_keras(config: Config) -> LayerSpecs:
    rank = _prelu_rank(config)
    shared = range(1, rank if config["num_parameters"] == 1 else rank - 1)
    return (LayerSpec(kind="keras.layers.PReLU", config={"shared_axes": [*shared] or None}),)


def _prelu_to_torch(layers: LayerSpecs) -> LayerSpecs:
    *spatial, channels = shape_of(last(layers), "alpha")
    if set(spatial) - {1}:
        sizes = ", ".join(map(str, spatial))
        raise RuleError(
            f"PReLU with a slope for each spatial position, of shape ({sizes}), has no counterpart in torch"
            ": name the spatial axes in shared_axes"
        )
    return (LayerSpec(kind="torch.nn.PReLU", config={"num_parameters": channels}),)


_PRE_LU_TO_PRE_LU_EXAMPLES = (
    Example(config={}, inputs=((2, 3, 5, 4),)),
    Example(config={"num_parameters": 3}, inputs=((2, 3, 4, 7),)),
    Example(config={"num_parameters": 5}, inputs=((2, 5, 6),)),
    Example(config={"num_parameters": 7}, inputs=((3, 7),)),
    Example(config={}, inputs=((3, 6),)),
    Example(config={"num_parameters": 4}, inputs=((2, 4, 3, 5, 6),)),
)


register(
    Rule(
        torch="torch.nn.PReLU",
        keras="keras.layers.PReLU",
        fields=paired(num_parameters="shared_axes"),
        weights=_prelu_weights,
        to_keras=_prelu_to_keras,
        to_torch=_prelu_to_torch,
        layout="channels",
        examples=_PRE_LU_TO_PRE_LU_EXAMPLES,
        train=True,
        note="Keras shares the slopes along every axis except the channels.",
    )
)


# Layer scale has one factor for each channel.
TIMM_LAYER_SCALE = "timm.layers.layer_scale.LayerScale"


_EINSUM_SCALE = "...c,c->...c"


def _scale_size(config: Config) -> int:
    """Return the number of factors of a layer scale, the size of the last input axis; raise `RuleError` if unknown."""
    inputs = config.get("inputs")
    if not inputs:
        raise RuleError(
            "LayerScale needs the shape of its input, which is unknown; call the model once, or give inputs=..."
        )
    return int(inputs[0][-1])


def _scale_to_einsum(config: Config) -> LayerSpecs:
    keras = {"equation": _EINSUM_SCALE, "output_shape": (_scale_size(config),), "bias_axes": None}
    return (LayerSpec(kind="keras.layers.EinsumDense", config=keras),)


def _scale_to_torch(layers: LayerSpecs, *, role: str) -> LayerSpecs:
    scale = last(layers)
    equation = scale.config.get("equation", _EINSUM_SCALE)
    given, _, made = equation.replace("...", "").partition("->")
    given, _, kernel = given.partition(",")
    if given != made or len(kernel) != 1 or not given.endswith(kernel) or scale.config.get("bias_axes") is not None:
        raise RuleError(
            f"EinsumDense({equation!r}) cannot become LayerScale, which has one factor for each channel"
            ": pair it with a Linear"
        )
    return (LayerSpec(kind=TIMM_LAYER_SCALE, config={"dim": shape_of(scale, role)[0]}),)


def _scale_weights(config: Config, *, role: str) -> tuple[WeightMapping, ...]:
    return (WeightMapping(torch=("gamma",), keras=(role,), transform=Same()),)


_TIMM_LAYER_SCALE_TO_EINSUM_DENSE_EXAMPLES = (
    Example(config={"dim": 5}, inputs=((2, 3, 5),)),
    Example(config={"dim": 4}, inputs=((2, 3, 5, 4),)),
)


register(
    Rule(
        torch=TIMM_LAYER_SCALE,
        keras="keras.layers.EinsumDense",
        fields={},
        weights=partial(_scale_weights, role="kernel"),
        to_keras=_scale_to_einsum,
        to_torch=partial(_scale_to_torch, role="kernel"),
        examples=_TIMM_LAYER_SCALE_TO_EINSUM_DENSE_EXAMPLES,
        train=True,
    )
)
