"""Transfers in both directions, all or nothing, of live models and files."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError, FileError, InputError, TransferError
from keras3conv.transforms import Axes, Chain, Concat
from tests.support.models import randomize


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(x)))


def twin() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="a"),
            keras.layers.BatchNormalization(epsilon=1e-5, name="n"),
            keras.layers.Dense(2, name="b"),
        ],
        name="twin",
    )


def values(model: keras.Model) -> dict[str, bytes]:
    return {variable.path: variable.value.detach().numpy().tobytes() for variable in model.variables}


def test_a_round_trip_returns_the_same_bits() -> None:
    module, other, model = randomize(Net()), Net(), twin()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    report = k3c.transfer(model, other, plan)
    assert report.ok
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name
    assert torch.equal(module.get_buffer("norm.running_var"), other.get_buffer("norm.running_var"))


class Projections(nn.Module):
    """A query, a key and a value, which Keras packs into one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, size, bias=False) for size in (4, 4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def test_a_list_of_layers_paired_by_hand_is_transferred_in_both_directions() -> None:
    module, other = Projections(), Projections()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(10, use_bias=False, name="qkv")])
    pack = Chain(Concat(0, (4, 4, 2)), Axes("o i -> i o"))
    plan = k3c.align(module, model, probe=False).pair(["q", "k", "v"], "qkv", transform=pack).check()
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, alignment=plan, proofs=["roundtrip", "float64"]).raise_if_failed()
    k3c.transfer(model, other, plan)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_an_incomplete_plan_transfers_nothing() -> None:
    module, model = randomize(Net()), twin()
    before = values(model)
    with pytest.raises(AlignmentError, match="2 problems"):
        k3c.transfer(module, model, k3c.align(module, model).unpair("second"))
    assert values(model) == before


def test_a_plan_for_another_model_transfers_nothing_and_names_the_difference() -> None:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a")])
    with pytest.raises(TransferError, match="the plan was made for twin") as caught:
        k3c.transfer(module, other, plan)
    assert "b/kernel" in str(caught.value)


@pytest.mark.parametrize("failing", range(8))
def test_a_failure_at_any_tensor_leaves_the_target_unchanged(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    module, model = randomize(Net()), twin()
    plan, before = k3c.align(module, model), values(model)
    copy, calls = torch.Tensor.copy_, iter(range(100))

    def failing_copy(self: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if next(calls) == failing:
            raise KeyboardInterrupt
        return copy(self, source)

    monkeypatch.setattr(torch.Tensor, "copy_", failing_copy)
    with pytest.raises(KeyboardInterrupt):
        k3c.transfer(module, model, plan)
    assert values(model) == before


@pytest.mark.parametrize("failing", range(8))
def test_an_interrupt_leaves_the_torch_module_unchanged(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    module, model = Net(), twin()
    plan = k3c.align(module, model)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    copy, calls = torch.Tensor.copy_, iter(range(100))

    def failing_copy(self: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if next(calls) == failing:
            raise KeyboardInterrupt
        return copy(self, source)

    monkeypatch.setattr(torch.Tensor, "copy_", failing_copy)
    with pytest.raises(KeyboardInterrupt):
        k3c.transfer(model, module, plan)
    monkeypatch.undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_file_that_cannot_be_written_leaves_the_live_target_unchanged(tmp_path: Path) -> None:
    module, model = randomize(Net()), twin()
    plan, before = k3c.align(module, model), values(model)
    (tmp_path / "there.weights.h5").write_bytes(b"old")
    with pytest.raises(FileError, match="exists"):
        k3c.transfer(module, model, plan, out=tmp_path / "there.weights.h5")
    assert values(model) == before
    assert (tmp_path / "there.weights.h5").read_bytes() == b"old"


def test_a_loss_of_precision_is_refused_without_cast() -> None:
    module, model = randomize(Net().double()), twin()
    plan = k3c.align(module, model, inputs=np.zeros((2, 3), np.float64), keras_inputs=np.zeros((2, 3), np.float32))
    before = values(model)
    with pytest.raises(
        TransferError, match="float64 cannot be converted to float32 without loss of precision"
    ) as caught:
        k3c.transfer(module, model, plan)
    assert str(caught.value).endswith("Fix:  k3c.transfer(source, target, plan, cast=True)")
    assert values(model) == before
    assert k3c.transfer(module, model, plan, cast=True).ok


def test_bfloat16_is_transferred_bit_for_bit() -> None:
    module = nn.Linear(3, 5).to(torch.bfloat16)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, dtype="bfloat16", name="d")])
    plan = k3c.align(module, model, inputs=torch.zeros(2, 3, dtype=torch.bfloat16))
    k3c.transfer(module, model, plan)
    kernel = model.get_layer("d").kernel.value
    assert kernel.dtype == torch.bfloat16
    assert torch.equal(kernel.detach(), module.weight.detach().t())
    other = nn.Linear(3, 5).to(torch.bfloat16)
    k3c.transfer(model, other, plan)
    assert torch.equal(other.weight, module.weight)


def test_two_models_of_one_framework_are_refused() -> None:
    module, model = Net(), twin()
    with pytest.raises(InputError, match="source and target are both torch"):
        k3c.transfer(module, Net(), k3c.align(module, model))


def test_a_change_of_the_source_after_a_transfer_leaves_the_target_unchanged() -> None:
    module, model = randomize(Net()), twin()
    k3c.transfer(module, model, k3c.align(module, model))
    before = values(model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    assert values(model) == before


def test_every_file_format_is_written_and_reported(tmp_path: Path) -> None:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    torch_files = [tmp_path / "net.pth", tmp_path / "net.pt", tmp_path / "net.safetensors"]
    report = k3c.transfer(model, Net(), plan, out=torch_files)
    assert [file.path for file in report.files] == [str(path) for path in torch_files]
    for path in torch_files:
        assert k3c.align(path, model).problems() == ()
    weights = tmp_path / "net.weights.h5"
    assert k3c.transfer(module, weights, plan).files[0].size == weights.stat().st_size
    fresh = twin()
    fresh.load_weights(weights)
    assert [v.value.detach().numpy().tobytes() for v in fresh.variables] == list(values(model).values())


def test_an_existing_file_is_a_template_and_needs_overwrite(tmp_path: Path) -> None:
    module, model = randomize(Net()), twin()
    path, other = tmp_path / "model.keras", tmp_path / "filled.keras"
    model.save(path)
    plan = k3c.align(module, path)
    with pytest.raises(FileError, match="overwrite=True"):
        k3c.transfer(module, path, plan)
    k3c.transfer(module, path, plan, out=other)
    filled = keras.saving.load_model(other)
    assert torch.equal(filled.get_layer("a").kernel.value.detach(), module.first.weight.detach().t())
    k3c.transfer(module, path, plan, overwrite=True)
    again = keras.saving.load_model(path)
    assert torch.equal(again.get_layer("b").bias.value.detach(), module.second.bias.detach())


def test_the_weights_of_an_archive_are_the_template_of_a_file_of_weights(tmp_path: Path) -> None:
    module, model = randomize(Net()), twin()
    archive, weights = tmp_path / "model.keras", tmp_path / "filled.weights.h5"
    model.save(archive)
    before = archive.read_bytes()
    k3c.transfer(module, archive, k3c.align(module, archive), out=weights)
    assert archive.read_bytes() == before
    filled = twin()
    filled.load_weights(weights)
    k3c.transfer(module, model, k3c.align(module, model))
    assert values(filled) == values(model)
    with pytest.raises(FileError, match="not a template for a Keras archive: name such a file as the target"):
        k3c.transfer(module, weights, k3c.align(module, weights), out=tmp_path / "new.keras")


def test_a_large_permuted_kernel_is_transferred_bit_for_bit_and_autograd_detects_the_write() -> None:
    module = nn.Conv2d(64, 96, 3)
    model = keras.Sequential([keras.Input((5, 5, 64)), keras.layers.Conv2D(96, 3, name="c")])
    version = module.weight._version
    k3c.transfer(model, module, k3c.align(module, model))
    kernel = model.get_layer("c").kernel.value.detach()
    assert torch.equal(module.weight, kernel.permute(3, 2, 0, 1))
    assert module.weight._version > version


def test_values_that_are_not_finite_are_moved_and_reported() -> None:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model)
    with torch.no_grad():
        module.first.weight[0, 0], module.first.weight[1, 1] = float("nan"), float("inf")
        module.second.bias[0] = float("-inf")
    report = k3c.transfer(module, model, plan)
    assert "3 values NaN or infinite, moved as they are: first.weight (2), second.bias (1)" in report.notes
    assert np.isnan(model.get_layer("a").kernel.numpy()[0, 0])


def test_a_warning_about_the_file_is_in_the_report(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(40, 40), "bias": torch.zeros(40)}, tmp_path / "x.safetensors")
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(40)])
    plan = k3c.align(tmp_path / "x.safetensors", model)
    report = k3c.transfer(tmp_path / "x.safetensors", model, plan)
    assert any("x.safetensors ends with 6,560 zeros" in note for note in report.notes)
