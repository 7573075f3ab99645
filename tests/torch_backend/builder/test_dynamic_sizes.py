"""Converted models with dynamic input sizes: padding that depends on the size is computed at run time."""

import re
from collections.abc import Callable
from itertools import product

import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.builder.conversion import Conversion
from keras3conv.errors import UnsupportedLayerError
from keras3conv.frameworks.torch.functions import pad_same
from keras3conv.frameworks.torch.generated import instance_of
from keras3conv.rules.helpers.padding import same_padding
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


def strided() -> keras.Model:
    given = keras.Input((None, None, 3))
    x = layers.Conv2D(4, (3, 4), strides=(2, 3), padding="same", activation="relu", name="stem")(given)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool")(layers.ZeroPadding2D(1)(x) - 3.0)
    x = layers.DepthwiseConv2D(5, strides=2, padding="same", name="depthwise")(x)
    return keras.Model(given, layers.SeparableConv2D(5, 3, strides=2, padding="same", name="separable")(x))


def u_net() -> keras.Model:
    x = given = keras.Input((None, None, 3))
    skips = []
    for features in (4, 5, 6):
        x = layers.Conv2D(features, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    for features, skip in zip((6, 5, 4), skips[::-1], strict=True):
        x = layers.Conv2DTranspose(features, 2, strides=2, padding="same")(x)
        x = layers.Conv2D(features, 3, padding="same", activation="relu")(layers.Concatenate()([x, skip]))
    return keras.Model(given, layers.Conv2D(2, 1, activation="sigmoid")(x), name="u_net")


def require_the_same(conversion: Conversion, model: keras.Model, height: int, width: int) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (2, height, width, 3)).astype("float32")
    given = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    plan = conversion.alignment
    k3c.validate(conversion.model, model, inputs=given, keras_inputs=image, alignment=plan).raise_if_failed()


@pytest.mark.parametrize(("height", "width"), [(37, 50), (40, 61)])
def test_strided_same_padding_equals_that_of_keras_for_every_input_size(height: int, width: int) -> None:
    model = randomised(strided())
    conversion = k3c.convert(model, validate=False)
    assert 'pad_same(x, (3, 3), (2, 2), value=float("-inf"))' in conversion.source
    require_the_same(conversion, model, height, width)


@pytest.mark.parametrize(("window", "stride", "dilation"), [*product((1, 2, 3, 5), (1, 2, 3), (1, 2))])
def test_the_padding_at_run_time_is_that_of_a_known_size(window: int, stride: int, dilation: int) -> None:
    for size in range(1, 12):
        given = torch.arange(1.0, size + 1)[None, None]
        padded = pad_same(given, (window,), (stride,), (dilation,))
        assert torch.equal(padded, torch.nn.functional.pad(given, same_padding(size, window, stride, dilation)))


def added() -> keras.Model:
    """A U-Net that adds its skip connections, so accepts only sizes that it can halve five times."""
    x = given = keras.Input((None, None, 3))
    skips = []
    for _ in range(5):
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    for skip in skips[::-1]:
        x = layers.Add()([layers.Conv2D(4, 3, padding="same")(layers.UpSampling2D()(x)), skip])
    return keras.Model(given, x)


@pytest.mark.parametrize(
    ("make", "height", "width"), [(added, 96, 64), pytest.param(u_net, 32, 56, marks=pytest.mark.slow)]
)
def test_a_u_net_with_dynamic_sizes_passes_validation_and_can_be_exported(
    make: Callable[[], keras.Model], height: int, width: int
) -> None:
    model = randomised(make())
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    require_the_same(conversion, model, height, width)
    given = torch.rand(1, 3, width, height)
    exported = torch.export.export(conversion.model, (given.clone(),)).module()
    assert torch.equal(exported(given), conversion.model(given))


def test_padding_at_the_wrong_end_changes_the_output() -> None:
    model = randomised(strided())
    conversion = k3c.convert(model, validate=False)
    wrong = instance_of(
        conversion.source.replace("[total // 2, total - total // 2,", "[total - total // 2, total // 2,")
    )
    wrong.load_state_dict(conversion.model.state_dict())
    given = torch.rand(1, 3, 37, 50)
    with torch.no_grad():
        assert not torch.allclose(wrong.eval()(given), conversion.model(given), rtol=1e-2)


def test_a_size_that_is_not_a_product_of_input_sizes_is_a_question_mark() -> None:
    source = k3c.convert(u_net(), validate=False).source
    assert "x: (batch, 3, height, width), float32" in source
    assert "returns: (batch, 2, ?, ?), float32" in source


def test_an_operation_that_needs_a_fixed_size_is_refused_with_the_argument_to_pass() -> None:
    given = keras.Input((None, None, 3))
    x = layers.AveragePooling2D(3, 2, padding="same", name="average")(given)
    with pytest.raises(UnsupportedLayerError, match=r"average/average_pool .*give inputs=\.\.\., which fix the sizes"):
        k3c.convert(keras.Model(given, x))


def cropping(size: int) -> keras.Model:
    """A model of sequences that crops far more than the length with which models are traced (SpliceAI)."""
    given = keras.Input((None, 4))
    x = layers.Conv1D(6, 5, dilation_rate=2, padding="same", activation="relu", name="first")(given)
    x = layers.Conv1D(6, 9, name="valid")(layers.Add()([x, layers.Conv1D(6, 1, name="skip")(given)]))
    return keras.Model(given, layers.Dense(3, name="last")(layers.Cropping1D(size)(x)))


@pytest.mark.parametrize("size", [30, 5000])
def test_a_model_that_crops_a_long_sequence_is_converted_and_proven(size: int) -> None:
    model = randomised(cropping(size))
    made = k3c.convert(model, channels="last")
    assert made.report is not None
    made.report.raise_if_failed()
    given = np.random.default_rng(0).normal(size=(2, 2 * size + 17, 4)).astype("float32")
    with torch.no_grad():
        found = made.model(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, model.predict(given, verbose=0), rtol=1e-4, atol=1e-5)
    assert k3c.validate(made.model, model, plan=made.alignment, proofs=["float64"]).ok


def masked_recurrent() -> keras.Model:
    tokens = keras.Input((7,), dtype="int32")
    x = layers.BatchNormalization()(layers.Embedding(9, 4, mask_zero=True)(tokens))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    return keras.Model(tokens, layers.Dense(2)(layers.GRU(3, reset_after=False)(x)))


def recurrent_over_images() -> keras.Model:
    frames = keras.Input((3, 6, 5, 2))
    return keras.Model(frames, layers.ConvLSTM2D(3, 3)(frames))


@pytest.mark.parametrize("make", [masked_recurrent, recurrent_over_images])
def test_the_batch_size_stays_dynamic_in_an_exported_module_of_own_layers(make: Callable[[], keras.Model]) -> None:
    conversion = k3c.convert(randomised(make()), validate=False)
    assert set(re.findall(r"class (\w+)\(nn\.Module\)", conversion.source)) & {
        "Recurrent",
        "ConvLSTM",
        "MaskedBatchNorm",
    }
    shape = tuple(conversion.inputs[0].shape)[1:]
    first, second = (torch.from_numpy(np.ones((size, *shape), conversion.inputs[0].dtype)) for size in (3, 5))
    dynamic = ({0: torch.export.Dim("batch", min=2, max=64)},)
    exported = torch.export.export(conversion.model.eval(), (first,), dynamic_shapes=dynamic).module()
    assert torch.equal(exported(second), conversion.model(second))


@pytest.mark.parametrize("form", [dict, tuple, list])
def test_inputs_of_a_functional_model_are_taken_by_name_or_in_order(form: type) -> None:
    signal, machine = keras.Input((4, 3), name="signal"), keras.Input((1,), dtype="int32", name="machine")
    code = keras.layers.Flatten()(keras.layers.Embedding(5, 3)(machine))
    model = keras.Model([signal, machine], keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(3)(signal)) + code)
    arrays = {"signal": np.ones((2, 4, 3), "float32"), "machine": np.ones((2, 1), "int32")}
    inputs = {name: arrays[name] for name in sorted(arrays)} if form is dict else form(arrays.values())
    conversion = k3c.convert(model, inputs=inputs)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert [array.shape for array in conversion.inputs] == [(2, 4, 3), (2, 1)]
