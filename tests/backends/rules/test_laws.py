"""Every law, for every registered rule and every example, on the backend of this process.

JAX compiles every operation of every example. By default it gets the first example of each rule and every example for
which a limit is listed; the others, which torch and TensorFlow always run, are marked `full` there. So are the laws of
`ON_ONE_BACKEND` on TensorFlow and JAX.
"""

from functools import cache

import keras
import numpy as np
import pytest
import torch

from keras3conv.errors import RuleError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.numerics.difference import compare
from keras3conv.rules.library import find, list_rules
from tests.support.laws import (
    LAWS,
    Law,
    law_float64,
    law_gradients,
    law_names,
    law_shapes,
    law_training,
    law_transforms,
    law_way_back,
)
from tests.support.trial_layers import resolve
from tests.support.trials import Trial, config_of, make_trial, spec_of_layer, to_keras_layout

FLOAT64 = (law_float64, law_training, law_gradients)

ON_ONE_BACKEND = (law_names, law_transforms, law_shapes, law_way_back)
"""Laws of names, shapes and configurations, for which no Keras layer computes: `make test` tries them on torch only."""

# The limits of the backends in float64, by Keras class or by example of a class; float32 is always judged.
LIMITS: dict[tuple[str, str], tuple[tuple[Law, ...], str]] = {
    ("tensorflow", "keras.layers.Conv1DTranspose 4"): (FLOAT64, "has no dilated float64 kernel on a CPU"),
    ("tensorflow", "keras.layers.Conv2DTranspose 4"): (FLOAT64, "has no dilated float64 kernel on a CPU"),
    ("tensorflow", "keras.layers.Conv3DTranspose 4"): (FLOAT64, "has no dilated float64 kernel on a CPU"),
}


def limits_of(kind: str, place: int) -> tuple[tuple[Law, ...], str]:
    """Return the laws that the backend breaks for a Keras class or one example of it, with the reason."""
    found = [LIMITS.get((keras_side.backend(), key)) for key in (kind, f"{kind} {place}")]
    return next((limit for limit in found if limit), ((), ""))


def is_left_to_full(kind: str, place: int) -> bool:
    """Return whether only `make test-full` tries this example on the backend of this process."""
    return keras_side.backend() == "jax" and place > 0 and not limits_of(kind, place)[0]


CASES = [
    pytest.param(
        rule.name,
        place,
        marks=[pytest.mark.full] if is_left_to_full(rule.keras, place) else [],
        id=f"{rule.name} {place}",
    )
    for rule in list_rules()
    for place in range(len(rule.examples))
]


JUDGED = [
    pytest.param(
        law,
        marks=[pytest.mark.full] if law in ON_ONE_BACKEND and keras_side.backend() != "torch" else [],
        id=law.__name__,
    )
    for law in LAWS
]


@cache
def trial_of(name: str, place: int) -> Trial:
    rule = find(name)
    return make_trial(rule, rule.examples[place])


# Torch warns that it pads a copy where an even kernel needs uneven padding, which is under test here.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("law", JUDGED)
@pytest.mark.parametrize(("name", "place"), CASES)
def test_every_example_obeys_every_law(name: str, place: int, law: Law, request: pytest.FixtureRequest) -> None:
    laws, reason = limits_of(find(name).keras, place)
    if law in laws:  # strict: the day it passes, the line above goes
        request.applymarker(pytest.mark.xfail(reason=f"{keras_side.backend()} {reason}", strict=True))
    law(trial_of(name, place))


REFUSED: list[tuple[str, torch.nn.Module]] = [
    ("keras.layers.Conv2DTranspose", torch.nn.ConvTranspose2d(2, 3, 3, dilation=2, output_padding=1)),
    ("keras.layers.MaxPooling2D", torch.nn.MaxPool2d(2, dilation=2)),
    ("keras.layers.MaxPooling2D", torch.nn.MaxPool2d(2, return_indices=True)),
    ("keras.layers.AveragePooling2D", torch.nn.AvgPool2d(2, ceil_mode=True)),
    ("keras.layers.AveragePooling2D", torch.nn.AvgPool2d(3, padding=1, count_include_pad=False)),
    ("keras3conv.frameworks.keras.layers.WindowMaximum", torch.nn.MaxPool2d(2, return_indices=True)),
    ("keras.layers.GlobalAveragePooling2D", torch.nn.AdaptiveAvgPool2d(2)),
    ("keras.layers.BatchNormalization", torch.nn.BatchNorm2d(3, momentum=None)),
    ("keras.layers.BatchNormalization", torch.nn.BatchNorm2d(3, track_running_stats=False)),
    ("keras.layers.Flatten", torch.nn.Flatten(2)),
    ("keras.layers.ZeroPadding2D", torch.nn.ZeroPad2d((0, -1, 0, 0))),
    ("keras.layers.UpSampling2D", torch.nn.Upsample(scale_factor=1.5)),
    ("keras.layers.UpSampling2D", torch.nn.Upsample(size=8)),
    ("keras.layers.UpSampling2D", torch.nn.Upsample(scale_factor=2, mode="bilinear")),
    ("keras.layers.Softmax", torch.nn.Softmax()),
    ("keras.activations.gelu", torch.nn.GELU(approximate="tanh")),
    ("keras.activations.celu", torch.nn.CELU(alpha=2.0)),
    ("keras.activations.hard_tanh", torch.nn.Hardtanh(0, 6)),
    ("keras.activations.softplus", torch.nn.Softplus(beta=2)),
    ("keras.activations.log_softmax", torch.nn.LogSoftmax(dim=1)),
]


@pytest.mark.parametrize(("kind", "module"), REFUSED, ids=[str(module) for _, module in REFUSED])
def test_a_layer_without_a_keras_counterpart_is_refused(kind: str, module: torch.nn.Module) -> None:
    rule = find(f"torch.nn.{type(module).__name__} <-> {kind}")
    with pytest.raises(RuleError, match=type(module).__name__.removesuffix("2d")):
        rule.to_keras(config_of(rule, module))


# Keras layers whose torch counterpart needs an additional layer before or after it.
FROM_KERAS: list[tuple[str, list[keras.layers.Layer], tuple[int, ...]]] = [
    ("torch.nn.Conv1d", [keras.layers.Conv1D(3, 4, padding="causal", dilation_rate=2)], (2, 9, 4)),
    ("torch.nn.Conv2d", [keras.layers.Conv2D(3, 3, strides=2, padding="same")], (2, 8, 11, 4)),
    ("torch.nn.Conv2d", [keras.layers.Conv2D(3, (2, 3), strides=(3, 2), padding="same")], (2, 7, 9, 4)),
    ("torch.nn.Conv2d", [keras.layers.DepthwiseConv2D(3, strides=2, padding="same")], (2, 6, 9, 4)),
    ("torch.nn.Conv2d", [keras.layers.ZeroPadding2D(((0, 1), (2, 1))), keras.layers.Conv2D(3, 3, 2)], (2, 8, 7, 4)),
    ("torch.nn.Conv2d", [keras.layers.ZeroPadding2D(1), keras.layers.Conv2D(3, 3, 2)], (2, 8, 7, 4)),
    ("torch.nn.ConvTranspose2d", [keras.layers.Conv2DTranspose(3, (3, 4), strides=2, padding="same")], (2, 4, 5, 6)),
    ("torch.nn.ConvTranspose2d", [keras.layers.Conv2DTranspose(3, (5, 2), padding="same")], (2, 4, 5, 6)),
    ("torch.nn.ConvTranspose2d", [keras.layers.Conv2DTranspose(3, (1, 2), strides=(2, 3))], (2, 4, 5, 6)),
    ("torch.nn.ConvTranspose2d", [keras.layers.Conv2DTranspose(3, (2, 3), 3, padding="same")], (2, 4, 5, 6)),
    ("torch.nn.AdaptiveAvgPool2d", [keras.layers.GlobalAveragePooling2D()], (2, 5, 6, 3)),
    ("torch.nn.MaxPool2d", [keras.layers.MaxPooling2D(3, strides=1, padding="same")], (2, 5, 6, 3)),
    ("torch.nn.MaxPool2d", [keras.layers.MaxPooling2D((2, 3))], (2, 7, 6, 3)),
    ("torch.nn.MaxPool2d", [keras.layers.MaxPooling2D(3, strides=2, padding="same")], (2, 8, 11, 3)),
    ("torch.nn.MaxPool2d", [keras.layers.MaxPooling2D((2, 4), strides=1, padding="same")], (2, 7, 6, 3)),
    (
        "torch.nn.MaxPool2d",
        [keras.layers.ZeroPadding2D(((0, 1), (2, 1))), keras.layers.MaxPooling2D(3, 2)],
        (2, 8, 7, 3),
    ),
    ("torch.nn.AvgPool2d", [keras.layers.AveragePooling2D((3, 5), strides=1, padding="same")], (2, 8, 7, 3)),
    (
        "torch.nn.AvgPool2d",
        [keras.layers.ZeroPadding2D(((0, 1), (2, 1))), keras.layers.AveragePooling2D(3)],
        (2, 8, 7, 3),
    ),
    ("torch.nn.ZeroPad2d", [keras.layers.Cropping2D(((0, 1), (2, 1)))], (2, 8, 7, 3)),
    ("torch.nn.Upsample", [keras.layers.UpSampling2D((2, 3), interpolation="bilinear")], (2, 5, 4, 3)),
    ("torch.nn.Hardtanh", [keras.layers.ReLU(max_value=4.0)], (2, 5)),
    ("torch.nn.LeakyReLU", [keras.layers.ReLU(max_value=4.0, negative_slope=0.25)], (2, 5)),
    ("torch.nn.Identity", [keras.layers.GaussianNoise(0.3)], (2, 5)),
]


@pytest.mark.parametrize(("kind", "layers", "shape"), FROM_KERAS, ids=range(len(FROM_KERAS)))
def test_a_keras_layer_becomes_equivalent_torch_layers(
    kind: str, layers: list[keras.layers.Layer], shape: tuple[int, ...]
) -> None:
    rule = find(f"{kind} <-> keras.layers.{type(layers[-1]).__name__}")
    array = np.random.default_rng(3).uniform(-8, 8, shape).astype("float32")
    specs, value = [], array
    for layer in layers:
        given, value = value.shape, keras_side.run(layer, value).outputs[""]
        specs.append(spec_of_layer(layer, (given,)))
    back = rule.to_torch(tuple(specs))
    module = torch.nn.Sequential(*(resolve(spec.kind)(**spec.config) for spec in back))
    place = next(place for place, spec in enumerate(back) if spec.kind == kind)
    view = keras_side.view(layers[-1])
    tensors = {
        f"{place}.{name}": tensor
        for mapping in rule.weights(back[place].config)
        for name, tensor in zip(
            mapping.torch, mapping.transform.inverse(tuple(map(view.read, mapping.keras))), strict=True
        )
    }
    torch_side.write(module, tensors)
    found = to_keras_layout(rule, {}, torch_side.run(module, np.moveaxis(array, -1, 1)).outputs[""])
    assert found.shape == value.shape
    assert compare(found, value).max_rel < 1e-6


REFUSED_BY_TORCH: list[tuple[str, keras.layers.Layer]] = [
    ("torch.nn.ReLU", keras.layers.ReLU(max_value=6)),
    ("torch.nn.ReLU", keras.layers.ReLU(negative_slope=0.1)),
    ("torch.nn.ReLU6", keras.layers.ReLU(max_value=4)),
    ("torch.nn.MaxPool2d", keras.layers.MaxPooling2D(3, strides=2, padding="same")),
    ("torch.nn.AvgPool2d", keras.layers.AveragePooling2D(3, padding="same")),
    ("torch.nn.LPPool2d", keras.layers.AveragePooling2D(2)),
    ("torch.nn.Softmin", keras.layers.Softmax()),
    ("torch.nn.Softmax", keras.layers.Softmax(axis=(1, 2))),
    ("torch.nn.Hardtanh", keras.layers.ReLU(max_value=4.0, negative_slope=0.1)),
    ("torch.nn.Threshold", keras.layers.ReLU(threshold=1.0, max_value=3.0)),
    ("torch.nn.Dropout", keras.layers.Dropout(0.3, noise_shape=(None, 1, 1, 2))),
    ("torch.mul", keras.layers.Rescaling([0.1, 0.2])),
    ("torch.nn.Upsample", keras.layers.UpSampling2D(2, interpolation="bicubic")),
]


@pytest.mark.parametrize(("kind", "layer"), REFUSED_BY_TORCH, ids=range(len(REFUSED_BY_TORCH)))
def test_a_layer_without_a_torch_counterpart_is_refused(kind: str, layer: keras.layers.Layer) -> None:
    rule = find(f"{kind} <-> keras.layers.{type(layer).__name__}")
    layer(np.ones((1, 4, 4, 2), "float32"))
    with pytest.raises(RuleError, match=type(layer).__name__):
        rule.to_torch((spec_of_layer(layer, ()),))


def test_a_strided_same_convolution_of_unknown_size_is_refused_by_torch_itself() -> None:
    layer = keras.layers.Conv2D(3, 3, strides=2, padding="same")
    layer.build((None, 8, 8, 2))
    (spec,) = find("torch.nn.Conv2d <-> keras.layers.Conv2D").to_torch((spec_of_layer(layer, ()),))
    with pytest.raises(ValueError, match="not supported for strided"):
        torch.nn.Conv2d(**spec.config)


def test_a_flattened_image_permutes_the_rows_of_the_next_kernel() -> None:
    rule = find("torch.nn.Linear <-> keras.layers.Dense")
    module = torch.nn.Linear(3 * 4 * 5, 7)
    config = {**config_of(rule, module), "flattened": (3, 4, 5)}
    kernel = rule.weights(config)[0].transform((module.weight.detach().numpy(),))[0]
    image = np.random.default_rng(5).uniform(-1, 1, (2, 3, 4, 5))
    expected = image.reshape(2, -1) @ module.weight.detach().numpy().T
    assert compare(np.moveaxis(image, 1, -1).reshape(2, -1) @ kernel, expected).max_rel < 1e-6
