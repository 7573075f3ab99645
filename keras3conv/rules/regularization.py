"""Layers that do something in training only."""

from functools import partial

from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import last


def _to_keras(config: Config, *, kind: str) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={"rate": config["p"]}),)


def _to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={"p": last(layers).config["rate"]}),)


# Torch's name, Keras' name, and how many axes the input has at least.
_NAMED = (
    ("Dropout", "Dropout", 2),
    ("Dropout1d", "SpatialDropout1D", 3),
    ("Dropout2d", "SpatialDropout2D", 4),
    ("Dropout3d", "SpatialDropout3D", 5),
    ("AlphaDropout", "AlphaDropout", 2),
)

for _torch, _keras, _axes in _NAMED:
    register(
        Rule(
            torch=f"torch.nn.{_torch}",
            keras=f"keras.layers.{_keras}",
            fields=("p",),
            to_keras=partial(_to_keras, kind=f"keras.layers.{_keras}"),
            to_torch=partial(_to_torch, kind=f"torch.nn.{_torch}"),
            layout="same" if _axes == 2 else "channels",
            examples=(
                Example(config={"p": 0.3}, inputs=((2, 3, 5, 4, 7)[:_axes],)),
                Example(config={"p": 0.0}, inputs=((3, 2, 4, 5, 6)[:_axes],)),
            ),
            note="The random masks of the two frameworks differ; only inference is compared.",
        )
    )
