"""Converted layers with random behaviour in training, such as dropout and noise."""

import keras
import pytest
import torch

import keras3conv as k3c
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


@pytest.mark.parametrize(
    "layer",
    [
        layers.GaussianNoise(0.3),
        layers.GaussianDropout(0.3),
        layers.AlphaDropout(0.3),
        layers.SpatialDropout2D(0.3),
        layers.Dropout(0.3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_converted_random_layer_passes_validation_in_inference_and_in_training(layer: keras.layers.Layer) -> None:
    given = keras.Input((6, 7, 3))
    x = layers.Flatten()(layer(layers.Conv2D(4, 3)(given)))
    model = randomised(keras.Model(given, layers.Dense(2)(x)))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    report = k3c.validate(
        conversion.model, model, inputs=conversion.inputs, alignment=conversion.alignment, training=True
    )
    assert "passed" in [section.status for section in report.sections if section.name == "hyperparameters"]


@pytest.mark.parametrize(
    ("layer", "mean", "deviation"),
    [(layers.GaussianNoise(0.5), 3.0, 0.5), (layers.GaussianDropout(0.2), 3.0, 3 * (0.2 / 0.8) ** 0.5)],
    ids=lambda value: type(value).__name__,
)
def test_the_noise_in_training_has_the_mean_and_deviation_of_keras(
    layer: keras.layers.Layer, mean: float, deviation: float
) -> None:
    given = keras.Input((5,))
    module = k3c.convert(keras.Model(given, layer(given)), validate=False).model
    torch.manual_seed(0)
    ones = torch.full((20000, 5), 3.0)
    assert torch.equal(module.eval()(ones), ones)
    for values in (module.train()(ones), layer(ones, training=True)):
        assert abs(float(values.mean()) - mean) < 0.03
        assert abs(float(values.std()) - deviation) < 0.03
