"""Norms that keep their scale as its distance from one: it is added when they run, and once where Keras has the sum."""

from functools import partial

from keras3conv.rules.families.normalization.layer import layer_norm_to_keras, layer_norm_to_torch
from keras3conv.rules.helpers.config import last, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same, Shift

_RMS_NORM = "keras.layers.RMSNormalization"
_NOTE = "Lossy: the weight is stored as its distance from one, and the sum is rounded to float32, as torch rounds it."

# Where each family of models has its copy of the same class. The layers of other families look alike and do not add
# one, or add it elsewhere (MuseSparkTextInputScaledRMSNorm scales what it is given, Qwen4ExpTextRMSNorm may normalise
# groups), so only the name tells.
CENTRED = (
    "gemma.modeling_gemma.GemmaRMSNorm",
    "gemma2.modeling_gemma2.Gemma2RMSNorm",
    "gemma3.modeling_gemma3.Gemma3RMSNorm",
    "minimax_m3_vl.modeling_minimax_m3_vl.MiniMaxM3VLRMSNorm",
    "muse_glimmer.modeling_muse_glimmer.MuseGlimmerTextCenteredRMSNorm",
    "muse_spark.modeling_muse_spark.MuseSparkTextCenteredRMSNorm",
    "qwen3_5.modeling_qwen3_5.Qwen3_5RMSNorm",
    "qwen3_5_moe.modeling_qwen3_5_moe.Qwen3_5MoeRMSNorm",
    "qwen3_next.modeling_qwen3_next.Qwen3NextRMSNorm",
    "recurrent_gemma.modeling_recurrent_gemma.RecurrentGemmaRMSNorm",
    "step3p7.modeling_step3p7.Step3p7RMSNorm",
    "t5gemma.modeling_t5gemma.T5GemmaRMSNorm",
    "t5gemma2.modeling_t5gemma2.T5Gemma2RMSNorm",
    "vaultgemma.modeling_vaultgemma.VaultGemmaRMSNorm",
)
"""The root-mean-square norms, by their places in `transformers.models`."""

# A LayerNorm by their parents, which only their own names tell from one.
CENTRED_LAYER_NORMS = (
    "nemotron.modeling_nemotron.NemotronLayerNorm1P",
    "videoprism.modeling_videoprism.VideoPrismLayerNorm",
)
"""The layer norms, likewise."""


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    return (WeightMapping(torch=("weight",), keras=("scale",), transform=Shift(1)),)


def _to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind=_RMS_NORM, config={"axis": -1, "epsilon": config["eps"]}),)


def _to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    spec = last(layers)
    (size,) = shape_of(spec, "scale")
    rank = len(spec.inputs[0]) if spec.inputs else 0
    axis = spec.config.get("axis", -1)
    require_value(_RMS_NORM, "axis", axis if isinstance(axis, int) else tuple(axis), -1, (-1,), rank - 1, (rank - 1,))
    return (LayerSpec(kind=kind, config={"dim": size, "eps": spec.config.get("epsilon") or 1e-6}),)


_EXAMPLES = (
    Example(config={"dim": 5, "eps": 2e-3}, inputs=((2, 3, 5),)),
    Example(config={"dim": 6}, inputs=((3, 4, 7, 6),)),
)

for _name in CENTRED:
    register(
        Rule(
            torch=f"transformers.models.{_name}",
            keras=_RMS_NORM,
            fields=("eps",),
            weights=_weights,
            to_keras=_to_keras,
            to_torch=partial(_to_torch, kind=f"transformers.models.{_name}"),
            examples=_EXAMPLES if _name == CENTRED[0] else _EXAMPLES[:1],
            train=True,
            note=_NOTE,
        )
    )


def _centred_layer_norm_weights(config: Config) -> tuple[WeightMapping, ...]:
    return (
        WeightMapping(torch=("weight",), keras=("gamma",), transform=Shift(1)),
        WeightMapping(torch=("bias",), keras=("beta",), transform=Same()),
    )


_LAYER_NORM_1P_EXAMPLES = (
    Example(config={"normalized_shape": (5,), "eps": 2e-3}, inputs=((2, 3, 5),)),
    Example(config={"normalized_shape": (6,), "bias": False}, inputs=((4, 6),)),
)
for _name in CENTRED_LAYER_NORMS:
    register(
        Rule(
            torch=f"transformers.models.{_name}",
            keras="keras.layers.LayerNormalization",
            fields=("normalized_shape", "eps", "elementwise_affine", "bias"),
            applies=lambda config: len(config["normalized_shape"]) == 1 and config["elementwise_affine"],
            weights=_centred_layer_norm_weights,
            to_keras=layer_norm_to_keras,
            to_torch=partial(layer_norm_to_torch, kind=f"transformers.models.{_name}"),
            examples=_LAYER_NORM_1P_EXAMPLES,
            train=True,
            note=_NOTE,
        )
    )
