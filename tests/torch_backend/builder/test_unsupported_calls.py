"""A call that is not supported with these arguments names them, the supported ones, and the line to change first."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
from keras import layers, ops

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError


class Own(layers.Layer):
    """Calls a function that it was given."""

    def __init__(self, function: Callable[[Any], Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)


@pytest.mark.parametrize(
    ("function", "fact", "line"),
    [
        (
            lambda images: ops.image.gaussian_blur(images, kernel_size=(4, 2)),
            "keras.ops.image.gaussian_blur: kernel_size=(4, 2) is not supported; use a square kernel of odd size",
            "kernel_size=(5, 5)  # own",
        ),
        (
            lambda images: ops.image.map_coordinates(ops.cast(images[0, :, :, 0], "int32"), images[0, :2], 1),
            'map_coordinates: a tensor of int32 is not supported; use floating-point values: keras.ops.cast(inputs, "',
            "",
        ),
        (
            lambda images: ops.image.affine_transform(images[0], ops.ones((8,))),
            "affine_transform: a tensor of 3 axes is not supported; use a batch of images: keras.ops.expand_dims(",
            "",
        ),
    ],
)
def test_the_value_and_the_supported_ones_come_before_the_rule(
    function: Callable[[Any], Any], fact: str, line: str
) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3), batch_size=2), Own(function, name="own")])
    with pytest.raises(UnsupportedLayerError) as caught:
        k3c.convert(model, validate=False)
    said = str(caught.value)
    assert fact in said
    assert "cannot be traced" not in said
    before, _, fixes = said.partition("Fix:  ")
    assert before.index(fact) < len(before)
    assert fixes.startswith(f"{line}\n" if line else "k3c.register(")
    assert "k3c.register(" in fixes
