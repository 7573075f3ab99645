"""Layers that move axes and values about."""

from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import back, last, one

register(
    Rule(
        torch="torch.nn.Identity",
        keras="keras.layers.Identity",
        fields=(),
        to_keras=one("keras.layers.Identity"),
        to_torch=back("torch.nn.Identity"),
        examples=(Example(config={}, inputs=((3, 5),)),),
        train=True,
    )
)


def _zero_pad_to_keras(config: Config) -> LayerSpecs:
    left, right, top, bottom = config["padding"]
    return (LayerSpec(kind="keras.layers.ZeroPadding2D", config={"padding": ((top, bottom), (left, right))}),)


def _zero_pad_to_torch(layers: LayerSpecs) -> LayerSpecs:
    (top, bottom), (left, right) = last(layers).config["padding"]
    return (LayerSpec(kind="torch.nn.ZeroPad2d", config={"padding": (left, right, top, bottom)}),)


register(
    Rule(
        torch="torch.nn.ZeroPad2d",
        keras="keras.layers.ZeroPadding2D",
        fields=("padding",),
        to_keras=_zero_pad_to_keras,
        to_torch=_zero_pad_to_torch,
        layout="channels",
        examples=(Example(config={"padding": (1, 2, 0, 3)}, inputs=((2, 3, 5, 4),)),),
        train=True,
    )
)

register(
    Rule(
        torch="torch.nn.Flatten",
        keras="keras.layers.Flatten",
        fields=(),
        to_keras=one("keras.layers.Flatten"),
        to_torch=back("torch.nn.Flatten"),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 5, 7),))),
        note="Torch flattens (c, h, w), Keras (h, w, c): the kernel of the next Dense is permuted by the traced shape.",
        train=True,
    )
)
