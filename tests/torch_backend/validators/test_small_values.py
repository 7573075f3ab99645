"""The float64 proof at small magnitudes detects an epsilon in handwritten code, whatever the inputs are."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.bounds import observed_bounds
from keras3conv.frameworks.torch.magnitudes import scaled_run
from keras3conv.report.values import Section
from keras3conv.transforms import Array
from keras3conv.validators.running.magnitudes import SMALL
from tests.support.models import ModuleType, randomize

NUMBERS = {
    "epsilon": 1e-5,
    "slope": 0.2,
    "alpha": 0.9,
    "beta": 1.1,
    "residual": 0.7,
    "added": 0.25,
    "scale": 0.35,
    "logits": 1.3,
}
"""The continuous hyper-parameters of `Stream`."""


def pixels(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


class Stream(nn.Module):
    """A residual stream that grows from layer to layer, with a final norm; all constants are in handwritten code."""

    def __init__(self, numbers: dict[str, float]) -> None:
        super().__init__()
        self.numbers = numbers
        self.first, self.second, self.query, self.key, self.head = (nn.Linear(6, 6) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.numbers
        x = x + n["residual"] * F.elu(self.first(x) + n["added"], n["alpha"])
        x = x + n["residual"] * F.leaky_relu(self.second(x), n["slope"])
        weights = (self.query(x) @ self.key(x).transpose(-1, -2) * n["scale"]).softmax(-1)
        x = x + F.softplus(weights @ x, n["beta"])
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + n["epsilon"])
        return self.head(x) * n["logits"]


def stream(n: dict[str, float]) -> keras.Model:
    inputs = keras.Input((4, 6))
    x = inputs + n["residual"] * ops.elu(layers.Dense(6, name="first")(inputs) + n["added"], n["alpha"])
    x = x + n["residual"] * ops.leaky_relu(layers.Dense(6, name="second")(x), n["slope"])
    query, key = layers.Dense(6, name="query")(x), layers.Dense(6, name="key")(x)
    weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))) * n["scale"])
    x = x + ops.softplus(ops.matmul(weights, x) * n["beta"]) / n["beta"]
    x = x - ops.mean(x, -1, keepdims=True)
    x = x / ops.sqrt(ops.mean(x**2, -1, keepdims=True) + n["epsilon"])
    return keras.Model(inputs, layers.Dense(6, name="head")(x) * n["logits"])


def proof(module: ModuleType, model: keras.Model, inputs: Any) -> Section:
    """Return the float64 proof of a pair that is aligned by names."""
    plan = k3c.align(randomize(module), model, inputs=inputs, probe=False).check()
    return k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=("float64",)).section("float64")


def test_equal_models_agree_at_small_values() -> None:
    section = proof(Stream(NUMBERS), stream(NUMBERS), pixels(2, 4, 6))
    assert section.status == "passed", section.problems
    assert section.summary.endswith("at values of 4e-06")
    assert "at other magnitudes of their values" in section.claim


@pytest.mark.parametrize(
    ("epsilon", "factor"),
    [(1e-3, 1 + 1e-6), (1e-5, 1.001), (1e-5, 1 + 1e-6), (1e-6, 1 + 1e-6), (1e-8, 1 + 1e-6), (1e-12, 1.001)],
)
def test_a_slightly_different_epsilon_fails_at_any_variance(epsilon: float, factor: float) -> None:
    ours, theirs = NUMBERS | {"epsilon": epsilon * factor}, NUMBERS | {"epsilon": epsilon}
    section = proof(Stream(ours), stream(theirs), pixels(2, 4, 6))
    assert section.status == "failed"
    assert "at values of " in section.summary


@pytest.mark.slow
@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "epsilon"])
@pytest.mark.parametrize("inputs", [pixels(2, 4, 6), pixels(2, 4, 6) / 100 - 1], ids=["pixels", "scaled"])
def test_a_relative_change_of_one_millionth_in_any_parameter_fails(name: str, inputs: Array) -> None:
    ours = NUMBERS | {name: NUMBERS[name] * (1 + 1e-6)}
    assert proof(Stream(ours), stream(NUMBERS), inputs).status == "failed"


class Normalized(nn.Module):
    """A handwritten normalisation of pixels."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x / torch.sqrt((x**2).mean(-1, keepdim=True) + self.epsilon))


def normalized(epsilon: float) -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(
        inputs, layers.Dense(3, name="head")(inputs / ops.sqrt(ops.mean(inputs**2, -1, keepdims=True) + epsilon))
    )


def test_an_epsilon_that_is_only_visible_at_small_values_is_named() -> None:
    section = proof(Normalized(1e-11), normalized(1e-12), pixels(2, 6))
    assert "at values of 4e-06" in section.problems[0].fact
    assert "epsilon is 1e-11 in torch and 1e-12 in Keras" in section.problems[0].fact


class Tokens(nn.Module):
    """A handwritten normalisation of large embedded tokens."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.table, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table(x) * 1000
        return self.head(x * torch.rsqrt((x**2).mean(-1, keepdim=True) + self.epsilon))


def test_an_epsilon_after_an_embedding_fails() -> None:
    tokens = np.random.default_rng(0).integers(0, 20, (2, 5))

    def model(epsilon: float) -> keras.Model:
        inputs = keras.Input((5,), dtype="int64")
        x = layers.Embedding(20, 6, name="table")(inputs) * 1000
        x = x * ops.rsqrt(ops.mean(x**2, -1, keepdims=True) + epsilon)
        return keras.Model(inputs, layers.Dense(3, name="head")(x))

    assert proof(Tokens(1e-5), model(1e-5), tokens).status == "passed"
    assert proof(Tokens(1.001e-5), model(1e-5), tokens).status == "failed"


class Squashed(nn.Module):
    """Small differences next to a large constant, which a normalisation subtracts."""

    def __init__(self, scale: float = 1.0, offset: float = 1.0) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset
        self.conv, self.after = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm = nn.InstanceNorm2d(8, eps=1e-12, affine=True)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.sigmoid(self.conv(x) * self.scale) + self.offset
        return self.head(self.norm(self.after(x)))


def squashed(offset: float = 1.0) -> keras.Model:
    inputs = keras.Input((9, 9, 3))
    x = ops.sigmoid(layers.Conv2D(8, 3, name="conv")(inputs)) + offset
    x = layers.GroupNormalization(-1, epsilon=1e-12, name="norm")(layers.Conv2D(8, 3, name="after")(x))
    return keras.Model(inputs, layers.Conv2D(2, 1, name="head")(x))


@pytest.mark.parametrize("offset", [1.0, 1e3])
def test_rounding_next_to_a_large_constant_passes(offset: float) -> None:
    section = proof(Squashed(offset=offset), squashed(offset), np.float32(pixels(2, 3, 9, 9) / 100 - 1))
    assert section.status == "passed", section.problems
    assert "with rounding differences only" in section.summary


def test_a_mistake_next_to_a_large_constant_fails() -> None:
    images = np.float32(pixels(2, 3, 9, 9) / 100 - 1)
    assert proof(Squashed(scale=1 + 1e-6, offset=1e3), squashed(1e3), images).status == "failed"


class Picky(nn.Module):
    """A module that raises for small values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x)
        if float(x.abs().max()) < 1e-3:
            raise ValueError("nothing to see")
        return self.head(x)


def test_a_model_that_raises_at_small_values_is_reported_as_not_run_there() -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Dense(6, name="fc")(inputs)))
    section = proof(Picky(), model, pixels(2, 6))
    assert section.status == "passed"
    assert "not run at values of 4e-06: " in section.summary
    assert "nothing to see" in section.summary
    assert "not run at values of 1: " not in section.summary


def sizes_of(module: nn.Module, inputs: torch.Tensor) -> dict[str, float]:
    """Return the root mean square of every layer's output."""
    found: dict[str, float] = {}

    def note(path: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.update({path: float(output.square().mean().sqrt())})

    handles = [child.register_forward_hook(note(path)) for path, child in module.named_children()]
    with torch.no_grad():
        module(inputs)
    for handle in handles:
        handle.remove()
    return found


def test_every_layer_is_scaled_to_the_requested_magnitude() -> None:
    torch.manual_seed(0)  # some weights cannot be scaled: a bias may cancel them
    module = nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 3)).double()
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    tensors = {name: array * SMALL if array.ndim == 1 else array for name, array in state.items()}
    inputs = torch.from_numpy(pixels(5, 6)).double()
    factors = scaled_run(module, inputs, tensors, SMALL, fixed=()).factors
    assert set(factors) == {"0.weight", "1.weight", "2.weight", "3.weight"}
    assert all(math.log2(factor).is_integer() for factor in factors.values())
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in module.state_dict().items())
    made = {name: torch.from_numpy(array * factors.get(name, 1.0)) for name, array in tensors.items()}
    module.load_state_dict(made)
    assert all(SMALL / 2 <= size <= 2 * SMALL for size in sizes_of(module, inputs).values())


def test_a_fixed_weight_is_not_scaled_and_a_tied_weight_is_scaled_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.fixed = (nn.Linear(6, 6, bias=False) for _ in range(3))
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fixed(self.second(self.first(x)))

    module = Tied()
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    factors = scaled_run(module, torch.ones(2, 6), tensors, SMALL, fixed=("fixed.weight",)).factors
    assert set(factors) == {"first.weight", "second.weight"}
    assert factors["first.weight"] == factors["second.weight"]


def test_the_run_that_scales_the_weights_is_a_run_with_the_scaled_weights() -> None:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Linear(64, 5)
    module = nn.Sequential(*parts).eval()
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    inputs = torch.from_numpy(pixels(2, 3, 6, 6)).float()
    with observed_bounds() as bounds:
        found = scaled_run(module, inputs, tensors, 32.0, fixed=(), record=lambda path: True, bounds=bounds)
    scaled = {path: array * found.factors.get(path, 1.0) for path, array in tensors.items()}
    with observed_bounds() as expected:
        run = torch_side.run(module, inputs, tensors=scaled, float64=True, record=lambda path: True)
    assert found.recording is not None
    assert bounds == expected
    assert len(found.recording.calls) == len(run.calls)
    for call, other in zip(found.recording.calls, run.calls, strict=True):
        assert (call.path, call.place, call.shapes) == (other.path, other.place, other.shapes)
        for array, wanted in zip((*call.inputs, *call.outputs), (*other.inputs, *other.outputs), strict=True):
            np.testing.assert_array_equal(array, wanted)


class Early(nn.Module):
    """Uses a weight before its layer is called, when the layer has not been scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(nn.functional.linear(x, self.fc.weight))


class EarlyInKeras(keras.Model):
    """The same in Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = layers.Dense(6, use_bias=False)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        if not self.fc.built:
            self.fc.build((None, 6))
        return self.fc(keras.ops.matmul(x, self.fc.kernel))


def test_a_weight_that_is_used_before_its_layer_is_called_is_no_difference() -> None:
    model = EarlyInKeras()
    model(keras.ops.zeros((2, 6)))
    section = proof(Early(), model, pixels(2, 6))
    assert section.status == "passed"
    assert "at values of 4e-06" in section.summary


def pooled(scale: float) -> keras.Model:
    """A max pooling, whose border is minus infinity in torch, and a norm with an epsilon of `scale` times 1e-6."""
    inputs = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(inputs)
    x = layers.MaxPooling2D(2, 1, padding="same", name="pool")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = x / ops.sqrt(ops.mean(x**2, -1, keepdims=True) + 1e-6 * scale)
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_border_of_minus_infinity_is_no_reason_to_leave_out_small_values(scale: float) -> None:
    module, model = k3c.convert(pooled(1.0), validate=False).model, pooled(scale)
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    inputs = pixels(2, 3, 9, 9)
    section = k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=("float64",)).section("float64")
    assert section.status == ("passed" if scale == 1 else "failed"), section
    assert "not finite" not in str(section)
