"""Rewritten statements compute the same; similar statements with another result are not rewritten."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch

import keras3conv as k3c
from keras3conv.builder.passes import tidying
from keras3conv.frameworks.torch.generated import instance_of
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


def proven(output: Any, given: Any) -> k3c.Conversion:
    """Return the conversion of a model after its validation passed."""
    conversion = k3c.convert(randomised(keras.Model(given, output)))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    return conversion


def image(*, channels: int = 3) -> Any:
    return keras.Input((9, 8, channels))


def test_a_zero_padding_becomes_the_padding_of_the_convolution() -> None:
    given = image()
    x = layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D((1, 2))(given))
    source = proven(x, given).source
    assert "nn.Conv2d(3, 4, 3, stride=2, padding=(1, 2))" in source
    assert "ZeroPad" not in source


def test_a_zero_padding_after_a_relu_becomes_the_padding_of_the_max_pooling() -> None:
    given = image()
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(layers.ReLU()(given)))
    assert "nn.MaxPool2d(3, stride=2, padding=1)" in proven(x, given).source


def test_a_zero_padding_becomes_the_padding_of_the_average_pooling() -> None:
    given = image()
    x = layers.AveragePooling2D(3, strides=2)(layers.ZeroPadding2D(1)(given))
    assert "nn.AvgPool2d(3, stride=2, padding=1)" in proven(x, given).source


LOOK_ALIKE: dict[str, Callable[[Any], Any]] = {
    "a maximum of what may be below zero": lambda x: layers.MaxPooling2D(3)(layers.ZeroPadding2D(1)(x)),
    "more on one side": lambda x: layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x)),
    "a convolution that pads already": lambda x: layers.Conv2D(4, 3, padding="same")(layers.ZeroPadding2D(1)(x)),
    "wider than half the window": lambda x: layers.MaxPooling2D(2)(layers.ZeroPadding2D(2)(layers.ReLU()(x))),
    "needed twice": lambda x: layers.Concatenate()(
        [layers.Conv2D(4, 3, padding="same")(y := layers.ZeroPadding2D(1)(x)), y]
    ),
}


@pytest.mark.parametrize("make", LOOK_ALIKE.values(), ids=LOOK_ALIKE)
def test_a_zero_padding_that_a_convolution_cannot_apply_stays_a_padding_layer(make: Callable[[Any], Any]) -> None:
    given = image()
    assert "nn.ZeroPad2d" in proven(make(given), given).source


def test_a_convolution_that_is_called_twice_keeps_its_padding() -> None:
    given, shared = image(), layers.Conv2D(3, 3, padding="same")
    x = layers.Add()([shared(given), layers.Cropping2D(1)(shared(layers.ZeroPadding2D(1)(given)))])
    assert "nn.ZeroPad2d" in proven(x, given).source


def uneven(given: Any) -> Any:
    x = layers.ZeroPadding2D(((0, 1), (1, 2)))(given)
    return layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2)(x)


def test_more_padding_at_the_end_becomes_an_uneven_depthwise_convolution() -> None:
    given = image()
    conversion = proven(uneven(given), given)
    assert "UnevenConv2d(3, 6, 3, (1, 2), (1, 1), stride=2, groups=3)" in conversion.source
    assert "ZeroPad" not in conversion.source
    assert conversion.model.depthwise_conv2d.weight.shape == (6, 1, 3, 3)


def test_validation_fails_with_padding_at_the_wrong_end() -> None:
    given = image()
    model = randomised(keras.Model(given, uneven(given)))
    conversion = k3c.convert(model, validate=False)
    wrong = instance_of(conversion.source.replace("(self.less[1], 0, self.less[0], 0)", "(0, self.less[1], 0, 1)"))
    wrong.load_state_dict(conversion.model.state_dict())
    report = k3c.validate(wrong, model, inputs=conversion.inputs, alignment=conversion.alignment)
    assert not report.ok


@pytest.mark.parametrize("padding", [((1, 0), (0, 1)), ((0, 1), (2, 1))])
def test_more_padding_at_the_start_than_at_the_end_stays_a_padding_layer(padding: Any) -> None:
    given = image()
    x = layers.DepthwiseConv2D(3, strides=2)(layers.ZeroPadding2D(padding)(given))
    assert "nn.ZeroPad2d" in proven(x, given).source


@pytest.mark.parametrize("channels", [1, 4])
def test_a_separable_convolution_with_a_stride_needs_no_padding_layer(channels: int) -> None:
    given = keras.Input((10, 8, channels))
    source = proven(layers.SeparableConv2D(5, 5, strides=2, padding="same")(given), given).source
    assert ("UnevenConv2d" in source) is (channels > 1)


def test_validation_fails_if_a_zero_padding_with_another_effect_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "_is_not_negative", lambda expression: True)
    given = image()
    x = layers.Conv2D(3, 3)(given) - 9.0
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3)(layers.ZeroPadding2D(1)(x))
    report = k3c.convert(randomised(keras.Model(given, x))).report
    assert report is not None
    assert not report.ok


def hard_sigmoid(given: Any, shift: float) -> Any:
    return layers.ReLU(6.0)(layers.Conv2D(3, 1, name="gate")(given) + shift) * (1.0 / 6.0)


def test_the_parts_of_a_hard_sigmoid_become_one_statement() -> None:
    given = image()
    assert "F.relu6(self.gate(x) + 3) / 6" in proven(hard_sigmoid(given, 3.0), given).source


def test_validation_knows_the_float32_constant_in_the_gradient_of_torchs_own_hard_sigmoid() -> None:
    given = image()
    model = randomised(keras.Model(given, hard_sigmoid(given, 3.0)))
    conversion = k3c.convert(model, validate=False)
    text = conversion.source.replace("F.relu6(self.gate(x) + 3) / 6", "F.hardsigmoid(self.gate(x))")
    assert text != conversion.source
    other = instance_of(text)
    other.load_state_dict(conversion.model.state_dict())
    report = k3c.validate(other, model, inputs=conversion.inputs, alignment=conversion.alignment)
    report.raise_if_failed()


@pytest.mark.parametrize("shift", [2.0, 3.5])
def test_another_shift_is_not_rewritten_as_a_hard_sigmoid(shift: float) -> None:
    given = image()
    assert "/ 6" not in proven(hard_sigmoid(given, shift), given).source


def test_an_average_keeps_the_axes_that_are_added_again() -> None:
    given = image(channels=4)
    x = layers.GlobalAveragePooling2D()(given)
    x = layers.Conv2D(4, 1, activation="sigmoid")(layers.Reshape((1, 1, 4))(x))
    assert "x.mean(dim=(2, 3), keepdim=True)" in proven(layers.Multiply()([given, x]), given).source


def residual(x: Any, *, again: bool) -> Any:
    """Return the output of a residual block; with `again`, the inner output is used a second time."""
    y = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(x))
    joined = layers.ReLU()(layers.Add()([x, y]))
    return layers.Concatenate()([joined, y]) if again else joined


def test_a_sum_overwrites_a_value_that_is_not_used_again() -> None:
    given = image()
    source = proven(residual(given, again=False), given).source
    assert "y += x" in source
    assert "F.relu(y, inplace=True)" in source


def test_a_sum_does_not_overwrite_a_value_that_is_used_again() -> None:
    given = image()
    assert "+=" not in proven(residual(given, again=True), given).source


def test_a_sum_does_not_overwrite_a_smaller_value() -> None:
    given = image()
    gate = layers.Conv2D(3, 1)(layers.GlobalAveragePooling2D(keepdims=True)(given))
    assert "+=" not in proven(layers.Add()([gate, given]), given).source


def test_the_inputs_are_never_overwritten() -> None:
    first, second = keras.Input((5,)), keras.Input((5,))
    model = proven(layers.ReLU()(layers.Add()([first, second])), [first, second]).model
    one, other = torch.randn(2, 5), torch.randn(2, 5)
    before = one.clone(), other.clone()
    model(one, other)
    assert torch.equal(one, before[0])
    assert torch.equal(other, before[1])


def test_overwriting_does_not_change_the_gradients() -> None:
    given = image()
    conversion = proven(residual(layers.Dropout(0.5)(residual(given, again=False)), again=False), given)
    plain: dict[str, Any] = {}
    exec(conversion.source.replace("y += x", "y = y + x").replace(", inplace=True", ""), plain)  # noqa: S102 - our own text
    other = plain["Model"]()
    other.load_state_dict(conversion.model.state_dict())
    images = torch.randn(2, 3, 9, 8)
    for module in (conversion.model, other.eval()):
        module(images).square().sum().backward()
    for (name, one), (_, same) in zip(conversion.model.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad, msg=name)


def test_a_dropout_with_a_noise_shape_shares_its_random_decisions() -> None:
    given = image(channels=5)
    x = layers.Dropout(0.5, noise_shape=(None, 1, 1, 5))(given)
    conversion = proven(x, given)
    assert "SharedDropout(0.5, (2, 3))" in conversion.source
    torch.manual_seed(0)
    found = conversion.model.train()(torch.ones(400, 5, 9, 8))
    assert {*found.unique().tolist()} == {0.0, 2.0}
    assert torch.equal(found, found[:, :, :1, :1].expand_as(found))
    assert 0.45 < float((found > 0).float().mean()) < 0.55


def test_a_sum_overwrites_a_value_that_passed_a_dropout() -> None:
    given = image()
    y = layers.Dropout(0.3, noise_shape=(None, 1, 1, 1))(layers.Conv2D(3, 1)(given))
    assert "y += x" in proven(layers.Add()([given, y]), given).source


def test_a_merged_padding_is_not_aligned_with_a_padding_of_another_branch() -> None:
    """Both paddings have the same input; the remaining torch padding belongs to padding="same" in Keras."""
    given = image()
    left = layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D(((0, 1), (1, 2)))(given))
    right = layers.Conv2D(4, 5, strides=2)(layers.ZeroPadding2D((1, 2))(given))
    behind = layers.Conv2D(4, 3, strides=2, padding="same")(given)
    proven([left, right, behind], given)


@pytest.mark.parametrize("crop", [1, ((2, 1), (1, 1))])
def test_a_crop_before_a_convolution_stays_a_crop(crop: object) -> None:
    given = keras.Input((9, 8, 3))
    cropped = keras.layers.Cropping2D(crop)(keras.layers.Conv2D(3, 1)(given))
    model = keras.Model(given, keras.layers.Conv2D(2, 1)(cropped))
    report = k3c.convert(model).report
    assert report is not None
    report.raise_if_failed()
