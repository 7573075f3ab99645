"""Repeated parts of a model become a class with several instances."""

import re

import keras
import pytest

import keras3conv as k3c
from keras3conv.builder.program.names import class_identifier, function_identifier, identifier, unique
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


def block(x: keras.KerasTensor, filters: int, name: str, stride: int = 1) -> keras.KerasTensor:
    """Return the output of a residual block with the layer names of Keras' own models."""
    shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_0_conv")(x)
    x = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_1_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_1_bn")(x)
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def residual_network(*, odd: bool = False) -> keras.Model:
    given = keras.Input((8, 9, 3))
    x = layers.Conv2D(4, 3, name="stem")(given)
    x = block(x, 5, "stage1_block1")
    x = block(x, 6, "stage1_block2", stride=2)
    x = layers.Dropout(0.5)(x) if odd else x
    x = block(x, 7, "stage2_block1")
    return keras.Model(given, layers.GlobalAveragePooling2D()(x), name="network")


@pytest.mark.slow
def test_repeated_blocks_become_one_class_with_arguments_for_their_differences() -> None:
    conversion = k3c.convert(randomised(residual_network()))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert conversion.source.count("class StageBlock(nn.Module):") == 1
    assert "self.stage1_block2 = StageBlock(in_channels=5, out_channels=6, stride=2)" in conversion.source
    assert type(conversion.model.stage1_block1) is type(conversion.model.stage2_block1)


def test_modules_of_a_block_have_the_names_of_keras_without_the_prefix_of_the_block() -> None:
    model = k3c.convert(residual_network(), validate=False).model
    assert [name for name, _ in model.stage1_block1.named_children()] == ["conv_0", "conv_1", "bn_1", "conv_2"]


def test_a_layer_between_blocks_stays_outside_of_them() -> None:
    conversion = k3c.convert(randomised(residual_network(odd=True)))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert re.search(r"x = self\.dropout\w*\(x\)", conversion.source)


def test_a_layer_that_several_parts_share_is_in_no_block() -> None:
    given = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    x = given
    for place in range(4):
        x = layers.Activation("tanh")(layers.Dense(6, name=f"part{place}_first")(x))
        x = shared(layers.Dense(6, name=f"part{place}_second")(x))
    conversion = k3c.convert(randomised(keras.Model(given, x)))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert conversion.source.count("self.shared = ") == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1_conv", "conv_1"),
        ("conv2_block1_1_conv", "conv2_block1_1_conv"),
        ("a-b/c", "a_b_c"),
        ("class", "class_"),
        ("forward", "forward_"),
        ("", "layer"),
        ("123", "layer_123"),
        ('x"); import os', "x_import_os"),
    ],
)
def test_any_text_becomes_an_identifier(text: str, name: str) -> None:
    assert identifier(text) == name


def test_class_names_and_numbered_names() -> None:
    assert class_identifier("encoder_layer") == "EncoderLayer"
    assert identifier("AveragePooling2D") == "average_pooling2d"
    assert identifier("Conv2DTranspose") == "conv2d_transpose"
    names = ("MobileViTLayer", "DeiT", "ReLU", "ConvT", "MLPBlock", "Swinv2Layer", "T5Block")
    found = ["mobile_vit_layer", "deit", "re_lu", "conv_t", "mlp_block", "swinv2_layer", "t5_block"]
    assert [*map(function_identifier, names)] == found
    assert unique("x", {"x", "x_2"}) == "x_3"


@pytest.mark.slow
def test_two_kinds_of_blocks_are_two_classes() -> None:
    x = given = keras.Input((8, 8, 3))
    for _ in range(4):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(x)))
        y = layers.Conv2D(3, 1)(layers.Dropout(0.1)(layers.Activation("tanh")(x)))
        x = layers.Concatenate()([x, y])
    for _ in range(7):
        x = layers.LayerNormalization()(layers.Dropout(0.2)(layers.Dense(4)(x)))
    conversion = k3c.convert(randomised(keras.Model(given, x)))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert "class Block(nn.Module)" in conversion.source
    assert "class Block2(nn.Module)" in conversion.source
