"""Conversion of layers whose code Keras itself cannot trace: loops, custom cells, losses, backend functions."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError
from keras3conv.rules.unsupported import AUGMENTATIONS
from tests.torch_backend.builder.test_convert import randomised

STEPS = np.random.default_rng(4).uniform(-1, 1, (3, 6, 4)).astype("float32")
IMAGES = np.random.default_rng(5).uniform(0, 255, (2, 12, 14, 3)).astype("float32")
NOT_CONVERTED = "acts in training, not converted"


class Calls(layers.Layer):
    """A layer with one vector of weights, whose call is a function of its input and the vector."""

    def __init__(self, function: Callable[[Any, Any], Any], **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="random_normal")

    def call(self, x: Any) -> Any:
        return self.function(x, self.scale)


class Sine(layers.Layer):
    """A recurrent cell that Keras does not have."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.state_size = self.output_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.state_size), name="kernel")
        self.recurrent = self.add_weight(shape=(self.state_size, self.state_size), name="recurrent")

    def call(self, x: Any, states: Any) -> Any:
        state = ops.sin(x @ self.kernel + states[0] @ self.recurrent)
        return 2.0 * state, [state]


def passes(model: keras.Model, inputs: Any) -> k3c.Conversion:
    """Convert a model and require that it passes, and that the module returns the same for these inputs."""
    conversion = k3c.convert(randomised(model), channels="last")
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)
    expected = model(inputs, training=False)
    actual = conversion.model(torch.tensor(inputs))
    for one, other in zip(keras.tree.flatten(expected), keras.tree.flatten(actual), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(one), other.detach().numpy(), rtol=1e-5, atol=1e-5)
    return conversion


def steps(*further: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(STEPS.shape[1:]), layers.Dense(4, name="first"), *further])


def scanned(x: Any, scale: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        carry = carry * ops.sigmoid(scale) + row
        return carry, 3.0 * carry

    last, rows = ops.scan(step, ops.zeros_like(x[:, 0]), ops.transpose(x, (1, 0, 2)), reverse=True)
    return ops.transpose(rows, (1, 0, 2)) + last[:, None]


LOOPS: dict[str, Callable[[Any, Any], Any]] = {
    "fori_loop": lambda x, scale: ops.fori_loop(0, 3, lambda turn, value: value * scale + turn, x),
    "while_loop": lambda x, scale: ops.while_loop(lambda k, _: k < 4, lambda k, v: (k + 1, v * scale + k), (0, x))[1],
    "while_loop with a limit": lambda x, scale: ops.while_loop(
        lambda *_: True, lambda value: value * scale + 1.0, (x,), maximum_iterations=2
    )[0],
    "scan": scanned,
    "ndim and size": lambda x, scale: x * scale * ops.ndim(x) / ops.size(x[0]),
}


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda x, scale: scale * x * ops.cast(x == ops.max(x, axis=-1, keepdims=True), x.dtype),
    "!=": lambda x, scale: scale * x * ops.cast(ops.round(x) != 0, x.dtype),
    "!= of tensors": lambda x, scale: scale * x * ops.cast(ops.relu(x) != x, x.dtype),
    "in a list": lambda x, scale: scale * x * float([x].index(x) == 0),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_in_the_code_of_a_layer_compares_elements(name: str) -> None:
    passes(steps(Calls(COMPARISONS[name])), STEPS)


def test_a_comparison_of_tensors_is_that_of_keras_again_after_a_conversion() -> None:
    k3c.convert(steps(Calls(COMPARISONS["=="])), validate=False)
    assert (keras.KerasTensor((2,)) == keras.KerasTensor((2,))) is False
    assert "__eq__" not in vars(keras.KerasTensor)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_with_a_fixed_number_of_turns_is_unrolled(name: str) -> None:
    passes(steps(Calls(LOOPS[name])), STEPS)


def test_a_loop_whose_turns_depend_on_values_is_refused() -> None:
    model = steps(
        Calls(lambda x, scale: ops.while_loop(lambda v: ops.max(v) < 9, lambda v: v + ops.exp(scale), (x,))[0])
    )
    with pytest.raises(UnsupportedLayerError, match="cannot be traced"):
        k3c.convert(model)


def test_a_loop_of_very_many_turns_is_refused() -> None:
    model = steps(Calls(lambda x, scale: ops.while_loop(lambda k, _: k < 1001, lambda k, v: (k + 1, v), (0, x))[1]))
    said = r"keras\.ops\.while_loop: a loop of more than 1000 turns is not supported; use fewer"
    with pytest.raises(UnsupportedLayerError, match=said):
        k3c.convert(model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_state": True},
    ],
    ids=str,
)
def test_an_rnn_with_a_custom_cell_is_unrolled(options: dict[str, bool]) -> None:
    given = keras.Input(STEPS.shape[1:])
    passes(keras.Model(given, layers.RNN(Sine(5), **options)(given)), STEPS)


def test_a_stack_with_a_custom_cell_is_unrolled() -> None:
    passes(steps(layers.RNN([layers.GRUCell(3), Sine(5)], return_sequences=True)), STEPS)


PADDED = STEPS.copy()
PADDED[0, 4:] = PADDED[1, :2] = 0


@pytest.mark.parametrize(
    "options",
    [
        {"return_state": True},
        {"return_sequences": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_sequences": True, "zero_output_for_mask": True},
    ],
    ids=str,
)
def test_masked_steps_of_a_custom_cell_keep_its_state(options: dict[str, bool]) -> None:
    given = keras.Input(STEPS.shape[1:])
    passes(keras.Model(given, layers.RNN(Sine(5), **options)(layers.Masking()(given))), PADDED)


def test_a_custom_cell_that_keeps_its_state_between_calls_is_refused() -> None:
    model = keras.Sequential([keras.Input(batch_shape=STEPS.shape), layers.RNN(Sine(5), stateful=True)])
    with pytest.raises(
        UnsupportedLayerError, match="custom cell: stateful=True is not supported; use return_state=True"
    ):
        k3c.convert(model)


def test_the_length_of_the_steps_of_a_custom_cell_must_be_known() -> None:
    model = keras.Sequential([keras.Input((None, 4)), layers.RNN(Sine(5))])
    with pytest.raises(UnsupportedLayerError, match="depend on a dynamic size"):
        k3c.convert(model)
    assert k3c.convert(model, inputs=STEPS).report.ok  # type: ignore[union-attr]


def test_a_layer_that_changes_a_variable_in_its_call_is_refused_with_the_reason() -> None:
    class Counting(Calls):
        def call(self, x: Any) -> Any:
            self.scale.assign_add(ops.sum(x, axis=(0, 1)))
            return x - self.scale

    with pytest.raises(UnsupportedLayerError, match="changes a variable in its call"):
        k3c.convert(steps(Counting(lambda x, scale: x)))


def test_a_term_of_the_loss_is_named_as_not_converted() -> None:
    class Commits(Calls):
        def call(self, x: Any) -> Any:
            self.add_loss(ops.mean(ops.square(x - self.scale)))
            return super().call(x)

    conversion = passes(steps(Commits(lambda x, scale: x * scale, name="commits")), STEPS)
    assert conversion.report is not None
    fact = conversion.report.section("hyperparameters").facts[NOT_CONVERTED]
    assert fact == "commits: adds a term to the loss by add_loss, which is not converted"
    assert "add_loss" in conversion.source


def test_augmentations_are_left_out_and_named() -> None:
    augmentation = [layers.RandomFlip(name="flip"), layers.RandomRotation(0.1, name="turn"), layers.RandomZoom(0.1)]
    further = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()]
    model = keras.Sequential([keras.Input(IMAGES.shape[1:]), keras.Sequential(augmentation, name="head"), *further])
    conversion = passes(model, IMAGES)
    assert conversion.report is not None
    fact = conversion.report.section("hyperparameters").facts[NOT_CONVERTED]
    assert fact.startswith("head/flip, head/turn, head/random_zoom")
    assert fact.endswith(": augments the inputs in training, and is not converted: augment the data for torch")


@pytest.mark.parametrize("options", [{}, {"power_to_db": False, "window": "hamming"}], ids=["decibels", "powers"])
def test_a_mel_spectrogram_agrees_in_float64_although_its_matrix_is_float32(options: dict[str, Any]) -> None:
    sound = np.random.default_rng(6).uniform(-1, 1, (2, 1000)).astype("float32")
    layer = layers.MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=10, sampling_rate=8000, **options)
    passes(keras.Sequential([keras.Input((1000,)), layer]), sound)


def test_integer_images_are_cast_by_an_augmentation_that_is_left_out() -> None:
    given = keras.Input((12, 14, 3), dtype="uint8")
    passes(keras.Model(given, layers.Conv2D(4, 3)(layers.RandomFlip()(given))), IMAGES.astype("uint8"))


ARGUMENTS: dict[str, tuple[Any, ...]] = {"RandomPosterization": (4,), "RandomShear": (0.1, 0.1)}
ARGUMENTS |= {"RandomTranslation": (0.1, 0.1)}
ARGUMENTS |= dict.fromkeys(
    ("AugMix", "CutMix", "MixUp", "RandAugment", "RandomElasticTransform", "RandomErasing", "RandomFlip"), ()
)
ARGUMENTS |= dict.fromkeys(("RandomColorJitter", "RandomGaussianBlur", "RandomGrayscale", "RandomInvert"), ())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_keras_returns_the_input_of_an_augmentation_in_inference(name: str) -> None:
    layer = getattr(layers, name)(*ARGUMENTS.get(name, (0.1,)))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(IMAGES, training=False)), IMAGES)
