"""Rules for attention without projections: dot-product attention and additive attention."""

from typing import Any

from keras3conv.rules.helpers.config import last, paired, require_value
from keras3conv.rules.helpers.own_layers import ADDITIVE_ATTENTION, ATTENTION
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same

_NOTE = (
    "The torch module is part of keras3conv. It is called with query, value and key as arguments, Keras with a list of "
    "them. The random masks of dropout differ."
)


def _keras_call(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the positional arguments of the Keras layer in a test: one list of all input arrays."""
    return ([*arrays],)


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    return tuple(
        WeightMapping(torch=(name,), keras=(name,), transform=Same()) for name in ("scale", "concat_score_weight")
    )


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    defaults = {"use_scale": False, "score_mode": "dot", "dropout": 0.0}
    return (LayerSpec(kind=ATTENTION, config={name: keras.get(name, default) for name, default in defaults.items()}),)


_THREE = ((2, 4, 5), (2, 3, 7), (2, 3, 5))

_ATTENTION_EXAMPLES = (
    Example(config={"use_scale": True, "dropout": 0.25}, inputs=_THREE),
    Example(config={"use_scale": False}, inputs=((2, 4, 5), (2, 3, 5))),
    Example(config={"use_scale": True, "score_mode": "concat"}, inputs=_THREE),
    Example(config={"use_scale": False, "score_mode": "concat"}, inputs=_THREE),
)
register(
    Rule(
        torch=ATTENTION,
        keras="keras.layers.Attention",
        fields=paired(use_scale="use_scale", score_mode="score_mode", dropout="dropout"),
        weights=_weights,
        to_keras=lambda config: (
            LayerSpec(
                kind="keras.layers.Attention",
                config={name: config[name] for name in ("use_scale", "score_mode", "dropout")},
            ),
        ),
        to_torch=_to_torch,
        keras_arguments=_keras_call,
        examples=_ATTENTION_EXAMPLES,
        note=_NOTE,
    )
)


def _additive_to_keras(config: Config) -> LayerSpecs:
    keras = {"use_scale": config["features"] is not None, "dropout": config["dropout"]}
    return (LayerSpec(kind="keras.layers.AdditiveAttention", config=keras),)


def _additive_to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    require_value(spec.kind, "score_mode", spec.config.get("score_mode", "dot"), "dot")
    features = spec.shapes["scale"][0] if "scale" in spec.shapes else None
    require_value(spec.kind, "use_scale", spec.config.get("use_scale", True), features is not None)
    config = {"features": features, "dropout": spec.config.get("dropout", 0.0)}
    return (LayerSpec(kind=ADDITIVE_ATTENTION, config=config),)


_ADDITIVE_ATTENTION_EXAMPLES = (
    Example(config={"features": 5, "dropout": 0.25}, inputs=_THREE),
    Example(config={"features": None}, inputs=((2, 4, 5), (2, 3, 5))),
)
register(
    Rule(
        torch=ADDITIVE_ATTENTION,
        keras="keras.layers.AdditiveAttention",
        fields=paired(features="use_scale", dropout="dropout"),
        weights=lambda config: (WeightMapping(torch=("scale",), keras=("scale",), transform=Same()),),
        to_keras=_additive_to_keras,
        to_torch=_additive_to_torch,
        keras_arguments=_keras_call,
        examples=_ADDITIVE_ATTENTION_EXAMPLES,
        note=_NOTE,
    )
)
