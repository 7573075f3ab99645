"""Layers that are one matrix product."""

from math import prod

from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping, register
from keras3conv.rules._keras import last, shape_of
from keras3conv.transforms import Axes, Same


def _dense_to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind="keras.layers.Dense", config={"units": config["out_features"], "use_bias": config["bias"]}),)


def _dense_to_torch(layers: LayerSpecs) -> LayerSpecs:
    dense = last(layers)
    inputs, outputs = shape_of(dense, "kernel")
    config = {"in_features": inputs, "out_features": outputs, "bias": dense.config.get("use_bias", True)}
    return (LayerSpec(kind="torch.nn.Linear", config=config),)


def _dense_weights(config: Config) -> tuple[WeightMapping, ...]:
    """Where the input was flattened from (c, h, w) by torch and from (h, w, c) by Keras, its rows are permuted."""
    channels, *spatial = config.get("flattened") or (1,)
    kernel = Axes("o i -> i o")
    if channels > 1 and prod(spatial) > 1:
        kernel = Axes("o (c s) -> (s c) o", c=channels, s=prod(spatial))
    return (
        WeightMapping(torch=("weight",), keras=("kernel",), transform=kernel),
        WeightMapping(torch=("bias",), keras=("bias",), transform=Same()),
    )


register(
    Rule(
        torch="torch.nn.Linear",
        keras="keras.layers.Dense",
        fields=("in_features", "out_features", "bias"),
        weights=_dense_weights,
        to_keras=_dense_to_keras,
        to_torch=_dense_to_torch,
        examples=(
            Example(config={"in_features": 5, "out_features": 7}, inputs=((3, 5),)),
            Example(config={"in_features": 5, "out_features": 7, "bias": False}, inputs=((2, 3, 5),)),
            Example(config={"in_features": 6, "out_features": 6}, inputs=((2, 3, 4, 6),)),
        ),
        train=True,
    )
)
