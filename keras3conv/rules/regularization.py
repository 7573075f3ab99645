"""Layers that do something in training only."""

from keras3conv.rule import Example, LayerSpec, Rule, register
from keras3conv.rules._keras import last

register(
    Rule(
        torch="torch.nn.Dropout",
        keras="keras.layers.Dropout",
        fields=("p",),
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Dropout", config={"rate": config["p"]}),),
        to_torch=lambda layers: (LayerSpec(kind="torch.nn.Dropout", config={"p": last(layers).config["rate"]}),),
        examples=(Example(config={"p": 0.3}, inputs=((3, 5),)), Example(config={"p": 0.0}, inputs=((2, 3, 5),))),
        note="The random masks of the two frameworks differ; only inference is compared.",
    )
)
