"""Cases of layers that turn categories and bins into vectors."""

from keras import layers, ops

from tests.support.operations import VECTOR, Given, case

_INDICES = Given((3,), "int32", 0, 4)
_ONE = Given((1,), "int32", 0, 4)
_BOUNDS = [-1.0, 0.0, 0.5]

LAYERS = {
    **{
        f"CategoryEncoding {mode}": case(layers.CategoryEncoding(5, output_mode=mode), given)
        for mode, given in (("multi_hot", _INDICES), ("count", _INDICES), ("one_hot", _ONE))
    },
    "CategoryEncoding of steps": case(layers.CategoryEncoding(5, output_mode="one_hot"), _INDICES),
    "CategoryEncoding of floating-point numbers": case(
        layers.CategoryEncoding(5, output_mode="count"), Given((3,), low=0.0, high=4.9)
    ),
    "CategoryEncoding with weights": case(
        lambda x, w: layers.CategoryEncoding(5, output_mode="count")(x, count_weights=w), _INDICES, Given((3,))
    ),
    "Discretization": case(layers.Discretization(_BOUNDS), VECTOR),
    "Discretization at its boundaries": case(lambda x: layers.Discretization(_BOUNDS)(ops.round(x) / 2.0), VECTOR),
    **{
        f"Discretization {mode}": case(layers.Discretization(_BOUNDS, output_mode=mode), VECTOR)
        for mode in ("multi_hot", "one_hot", "count")
    },
}
"""Layers that consist of comparisons with categories or boundaries."""
