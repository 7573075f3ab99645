"""Weights that torch computes from others (weight norm, spectral norm): Keras trains what torch trains."""

import copy
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import keras3conv as k3c
from benchmarks._to_keras_step import STEP, step_difference
from keras3conv.errors import UnsupportedLayerError
from tests.support.computed_weights import LAYERS, NORMS, SPECTRAL, Wrap, made


def elements(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters() if tensor.requires_grad)


def trained_alike(module: nn.Module, inputs: Any) -> k3c.Conversion:
    """Convert a module; everything is proven, as many numbers are trained, and a step of SGD is the same."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    conversion = k3c.convert(module.eval(), inputs=inputs)
    report = conversion.report
    assert report is not None
    report.raise_if_failed()
    assert sum(int(variable.value.numel()) for variable in conversion.model.trainable_variables) == elements(module)
    assert step_difference(module, inputs, conversion) < STEP
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    return conversion


@cache
def transposes_of_plain(layer: str) -> int:
    """Return how often the inputs and outputs of a layer without weight norm are transposed."""
    make, shape = LAYERS[layer]
    plain = k3c.convert(made(make, lambda one: one).eval(), inputs=torch.randn(shape), validate=False)
    return plain.source.count("ops.transpose")


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("layer", LAYERS)
def test_weight_norm_is_computed_and_trained(layer: str, dim: int | None) -> None:
    make, shape = LAYERS[layer]
    conversion = trained_alike(made(make, partial(NORMS["new"], dim=dim)), torch.randn(shape))
    assert conversion.source.count("ops.transpose") == transposes_of_plain(layer)


@pytest.mark.parametrize("layer", ["Linear", "Conv1d", "ConvTranspose2d"])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_the_older_weight_norm_is_computed_and_trained(layer: str, dim: int | None) -> None:
    make, shape = LAYERS[layer]
    trained_alike(made(make, partial(NORMS["old"], dim=dim)), torch.randn(shape))


@pytest.mark.parametrize("kind", SPECTRAL)
@pytest.mark.parametrize("layer", LAYERS)
def test_spectral_norm_divides_by_the_norm_that_torch_has(layer: str, kind: str) -> None:
    make, shape = LAYERS[layer]
    conversion = trained_alike(made(make, SPECTRAL[kind]), torch.randn(shape))
    assert conversion.report is not None
    (section,) = (one for one in conversion.report.sections if one.name == "gradients")
    assert "power iteration" in section.facts["not alike in training mode"]


def test_spectral_norm_along_another_axis() -> None:
    make, shape = LAYERS["Conv2d"]
    trained_alike(made(make, partial(SPECTRAL["new"], dim=1)), torch.randn(shape))


def test_the_table_of_an_embedding_is_computed() -> None:
    module = made(lambda: nn.Embedding(7, 4), NORMS["new"])
    conversion = trained_alike(module, torch.tensor([[1, 2, 6], [0, 1, 1]]))
    assert "ops.transpose" not in conversion.source


@pytest.mark.parametrize("wrap", [NORMS["new"], SPECTRAL["new"]])
def test_the_columns_after_a_flatten_are_those_of_keras(wrap: Wrap) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), wrap(nn.Linear(4 * 3 * 5, 2)))
    trained_alike(module, torch.randn(2, 3, 5, 7))


class Twice(nn.Module):
    """Calls a convolution with weight norm twice, and another one with the same direction."""

    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv1d(4, 4, 3, padding=1))
        self.second = parametrizations.weight_norm(nn.Conv1d(4, 4, 3, padding=1, bias=False))
        shared = self.first.get_submodule("parametrizations.weight").get_parameter("original1")
        self.second.get_submodule("parametrizations.weight").register_parameter("original1", shared)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> Any:
        return self.norm(self.second(torch.tanh(self.first(torch.tanh(self.first(x))))))


def test_a_shared_layer_and_a_shared_direction_are_one_variable_each() -> None:
    trained_alike(Twice(), torch.randn(3, 4, 6))


def test_a_frozen_direction_stays_frozen() -> None:
    module = made(*(LAYERS["Conv1d"][0], NORMS["new"]))
    module[0].get_submodule("parametrizations.weight").get_parameter("original1").requires_grad_(False)  # type: ignore[index]
    trained_alike(module, torch.randn(2, 4, 7))


def test_two_norms_of_one_weight_are_both_computed() -> None:
    def both(layer: nn.Module) -> nn.Module:
        return parametrizations.spectral_norm(parametrizations.weight_norm(layer))

    trained_alike(made(LAYERS["Linear"][0], both), torch.randn(2, 3, 4))


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def test_a_parametrization_of_the_users_own_is_computed() -> None:
    def wrap(layer: nn.Module) -> nn.Module:
        parametrize.register_parametrization(layer, "weight", Symmetric())
        return layer

    trained_alike(made(lambda: nn.Linear(4, 4), wrap), torch.randn(2, 4))


def test_a_plain_weight_is_the_way_of_torch() -> None:
    module = made(LAYERS["Conv1d"][0], NORMS["new"])
    parametrize.remove_parametrizations(module[0], "weight")  # type: ignore[index]
    conversion = trained_alike(module, torch.randn(2, 4, 7))
    assert "layers.Conv1D" in conversion.source


def test_a_layer_that_needs_its_own_weight_names_the_way_to_a_plain_one() -> None:
    module = nn.LSTM(3, 4)
    parametrizations.weight_norm(module, "weight_hh_l0")
    with pytest.raises(UnsupportedLayerError, match="remove_parametrizations"):
        k3c.convert(nn.Sequential(module), inputs=torch.randn(2, 5, 3))


def test_a_conversion_that_trains_fewer_numbers_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras3conv.frameworks.torch import export

    monkeypatch.setattr(export, "split_outside", lambda module, owners: frozenset())
    module, inputs = made(LAYERS["Conv1d"][0], NORMS["new"]).eval(), torch.randn(2, 4, 7)
    conversion = k3c.convert(module, inputs=inputs)
    assert "layers.Conv1D" in conversion.source  # the planted mistake
    assert conversion.report is not None
    (failed,) = conversion.report.with_status("failed")
    assert failed.name == "gradients"
    assert [problem.torch for problem in failed.problems] == ["0.weight"]
    assert step_difference(module, inputs, conversion) > STEP


def test_the_parts_move_both_ways_by_the_plan_and_in_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    module, inputs = made(LAYERS["Conv2d"][0], NORMS["new"]).eval(), torch.randn(2, 3, 8, 7)
    conversion = k3c.convert(module, inputs=inputs)
    plan = conversion.alignment
    other = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.mul_(1.5).add_(0.25)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    k3c.transfer(tmp_path / "other.safetensors", conversion.model, plan)
    k3c.validate(other, conversion.model, inputs=inputs, alignment=plan).raise_if_failed()
    back = copy.deepcopy(module)
    k3c.transfer(conversion.model, back, plan)
    k3c.transfer(conversion.model, tmp_path / "back.safetensors", plan)
    wanted = other.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in back.state_dict().items())
    loaded = copy.deepcopy(module)
    from safetensors.torch import load_file

    loaded.load_state_dict(load_file(tmp_path / "back.safetensors"))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())
