"""Rules for layers that act in training only, such as dropout."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import back, last, one, paired, renaming, require_value
from keras3conv.rules.helpers.own_layers import GAUSSIAN_DROPOUT, GAUSSIAN_NOISE
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule


def _to_keras(config: Config, *, kind: str) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={"rate": config["p"]}),)


def _to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    keras = last(layers).config
    require_value(last(layers).kind, "noise_shape", keras.get("noise_shape"), None)
    return (LayerSpec(kind=kind, config={"p": keras["rate"]}),)


# The torch name, the Keras name, and the number of input axes.
_NAMED = (
    ("Dropout", "Dropout", 2),
    ("Dropout1d", "SpatialDropout1D", 3),
    ("Dropout2d", "SpatialDropout2D", 4),
    ("Dropout3d", "SpatialDropout3D", 5),
    ("AlphaDropout", "AlphaDropout", 2),
)

for _torch, _keras, _axes in _NAMED:
    _examples = (
        Example(config={"p": 0.3}, inputs=((2, 3, 5, 4, 7)[:_axes],)),
        Example(config={"p": 0.0}, inputs=((3, 2, 4, 5, 6)[:_axes],)),
    )
    register(
        Rule(
            torch=f"torch.nn.{_torch}",
            keras=f"keras.layers.{_keras}",
            fields=paired(p="rate"),
            to_keras=partial(_to_keras, kind=f"keras.layers.{_keras}"),
            to_torch=partial(_to_torch, kind=f"torch.nn.{_torch}"),
            layout="same" if _axes == 2 else "channels",
            examples=_examples,
            note="The random masks of the two frameworks differ; only inference is compared.",
        )
    )


# Dropout of whole channels; Keras expresses it by noise_shape.
def _channels_to_keras(config: Config) -> LayerSpecs:
    if "inputs" not in config:
        raise RuleError("FeatureAlphaDropout: the number of input axes is unknown")
    shape = (None, *[1] * (len(config["inputs"][0]) - 2), None)
    return (LayerSpec(kind="keras.layers.AlphaDropout", config={"rate": config["p"], "noise_shape": shape}),)


def _channels_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    shape = tuple(keras.get("noise_shape") or ())
    require_value("keras.layers.AlphaDropout", "noise_shape", shape, (None, *[1] * (len(shape) - 2), None))
    return (LayerSpec(kind="torch.nn.FeatureAlphaDropout", config={"p": keras["rate"]}),)


_FEATURE_ALPHA_DROPOUT_EXAMPLES = (
    Example(config={"p": 0.3}, inputs=((2, 3, 5, 4),)),
    Example(config={"p": 0.0}, inputs=((3, 2, 4, 5, 7),)),
    Example(config={"p": 0.7}, inputs=((2, 4, 3),)),
)
register(
    Rule(
        torch="torch.nn.FeatureAlphaDropout",
        keras="keras.layers.AlphaDropout",
        fields=paired(p="rate"),
        to_keras=_channels_to_keras,
        to_torch=_channels_to_torch,
        layout="channels",
        examples=_FEATURE_ALPHA_DROPOUT_EXAMPLES,
        note="Drops whole channels. The random masks of the two frameworks differ; only inference is compared.",
    )
)


# Torch has no layers for random noise, so the modules are part of keras3conv.
for _torch, _keras, _setting in (
    (GAUSSIAN_NOISE, "keras.layers.GaussianNoise", "stddev"),
    (GAUSSIAN_DROPOUT, "keras.layers.GaussianDropout", "rate"),
):
    register(
        Rule(
            **renaming(_torch, _keras, **{_setting: _setting}),
            examples=(
                Example(config={_setting: 0.3}, inputs=((3, 5),)),
                Example(config={_setting: 0.0}, inputs=((2, 3, 7),)),
            ),
            note="The random noise of the two frameworks differs; only inference is compared.",
        )
    )


# Keras layers that torch lacks; they return their input unchanged except in training. Each entry: the Keras class, its
# arguments, and the effect that is lost.
_LOST: tuple[tuple[str, Config, str], ...] = (
    ("GaussianNoise", {"stddev": 0.0}, "the added noise"),
    ("GaussianDropout", {"rate": 0.0}, "the multiplied noise"),
    ("ActivityRegularization", {"l1": 0.0, "l2": 0.0}, "the added loss"),
)

for _keras, _config, _what in _LOST:
    register(
        Rule(
            torch="torch.nn.Identity",
            keras=f"keras.layers.{_keras}",
            fields={},
            to_keras=one(f"keras.layers.{_keras}", **_config),
            to_torch=back("torch.nn.Identity"),
            fallback=True,
            examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 3, 7),))),
            note=f"Lossy: torch has no such layer, so {_what} in training is lost. Inference is unchanged.",
        )
    )
