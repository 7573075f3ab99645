"""The probe with functions without a float64 kernel, and with parametrised weights."""

import keras
import pytest
import torch
from keras import layers
from torch import nn
from torch.nn.utils import parametrizations
from torch.overrides import handle_torch_function, has_torch_function_unary

import keras3conv as k3c
from keras3conv.errors import ModelError
from tests.support.models import randomize


def single(x: torch.Tensor) -> torch.Tensor:
    """Compute a hyperbolic tangent that has only a float32 kernel."""
    if has_torch_function_unary(x):
        return handle_torch_function(single, (x,), x)
    if x.dtype != torch.float32:
        raise RuntimeError("\"single\" not implemented for 'Double'")
    return torch.tanh(x)


class Single(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return single(x)


def dense(activation: str = "tanh") -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.Activation(activation)(layers.Dense(6, name="a")(inputs))
    return keras.Model(inputs, layers.Dense(6, name="b")(x))


def test_a_function_without_a_float64_kernel_is_named_and_later_values_are_compared_in_float32() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), Single(), nn.Linear(6, 6)))
    plan = k3c.align(module, dense()).check()
    assert {pair.torch: (pair.keras, pair.decided_by) for pair in plan.pairs} == {
        "0": ("a", "probe"),
        "2": ("b", "probe"),
    }
    assert "torch has no float64 kernel for single (in 1)" in plan.notes[-2]
    assert plan.notes[-2] in str(plan)
    first, second = (plan.of(name) for name in "ab")
    assert first is not None
    assert second is not None
    assert first.evidence[-1].detail == "its output equals torch's"
    assert "torch computed in float32" in second.evidence[-1].detail


def test_a_real_difference_is_not_mistaken_for_float32_rounding() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), Single(), nn.Linear(6, 6)))
    plan = k3c.align(module, dense("softsign"))
    assert any("they differ" in note for note in plan.notes)


def test_a_module_with_float64_kernels_gets_no_note_about_float32() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)))
    assert not any("kernel" in note for note in k3c.align(module, dense()).notes)


def single_(x: torch.Tensor) -> torch.Tensor:
    """Compute `single` in place."""
    if has_torch_function_unary(x):
        return handle_torch_function(single_, (x,), x)
    if x.dtype != torch.float32:
        raise RuntimeError("\"single_\" not implemented for 'Double'")
    return x.tanh_()


def test_an_in_place_function_without_a_float64_kernel_never_runs_on_a_copy() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            single_(x)
            return x

    module = nn.Sequential(nn.Linear(6, 6), InPlace(), nn.Linear(6, 6))
    with pytest.raises(ModelError, match=r"1 +\(torch\) +RuntimeError"):
        k3c.align(module, dense(), inputs=torch.rand(2, 6))


class Constant(nn.Module):
    """A module with a float32 constant that is not one of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = [torch.eye(6) * 0.5]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(2 * (x @ self.mix[0]))


def test_a_float32_constant_is_cast_to_float64() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), Constant(), nn.Linear(6, 6)))
    plan = k3c.align(module, dense()).check()
    assert "and their outputs agree" in plan.notes[-1]


@pytest.mark.parametrize("normed", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrised_weight_is_probed_as_one_tensor(normed: object) -> None:
    assert callable(normed)
    module = randomize(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)))
    for layer in (module[0], module[2]):
        normed(layer)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    plan = k3c.align(module, dense()).check()
    assert {pair.torch: (pair.keras, pair.decided_by) for pair in plan.pairs} == {
        "0": ("a", "probe"),
        "2": ("b", "probe"),
    }
    assert "and their outputs agree" in plan.notes[-1]
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


def test_an_rms_norm_without_an_epsilon_uses_that_of_its_own_dtype() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), nn.RMSNorm(6), nn.Linear(6, 6)))
    inputs = keras.Input((6,))
    x = layers.RMSNormalization(epsilon=torch.finfo(torch.float32).eps, name="n")(layers.Dense(6, name="a")(inputs))
    plan = k3c.align(module, keras.Model(inputs, layers.Dense(6, name="b")(x))).check()
    assert "and their outputs agree" in plan.notes[-1]
