"""Beside a model that `convert` saved lies the plan of the conversion, which `align` and `validate` use."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Net(nn.Module):
    """A weight norm, a square kernel, a mask token that no output needs, and a buffer that no state dict contains."""

    shift: torch.Tensor

    def __init__(self, last: int = 3) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, padding=1))
        self.square, self.head = nn.Linear(4, 4), nn.Linear(4, last)
        self.mask_token = nn.Parameter(torch.rand(4))
        self.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).mean(-1) + self.shift
        made: torch.Tensor = self.head(torch.tanh(self.square(x)))
        return made


INPUTS = (2, 4, 7)


def net(last: int = 3) -> Net:
    torch.manual_seed(5)
    return Net(last).eval()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a conversion and of its module, which no test changes."""
    folder, module = tmp_path_factory.mktemp("converted"), net()
    k3c.convert(module, inputs=torch.rand(INPUTS), validate=False).save(folder / "out")
    torch.save(module.state_dict(), folder / "net.pt")
    return folder


@pytest.fixture(name="folder")
def _folder(converted: Path, tmp_path: Path) -> Path:
    keras.backend.clear_session()
    return copytree(converted, tmp_path, dirs_exist_ok=True)


def recorded(folder: Path) -> k3c.Alignment:
    return k3c.Alignment.from_json((folder / "out" / "metadata.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("is_live", [True, False])
def test_the_plan_of_the_conversion_is_used(file: str, is_live: bool, folder: Path) -> None:
    plan = k3c.align(net() if is_live else folder / "net.pt", folder / "out" / file)
    assert plan.notes[0] == f"the plan is the one that convert wrote to {folder / 'out' / 'metadata.json'}"
    assert plan.pairs == recorded(folder).pairs
    assert not plan.problems()
    assert not plan.unconfirmed


@pytest.mark.slow
def test_weights_that_were_trained_go_from_file_to_file(folder: Path) -> None:
    module = net()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(0.1)
    torch.save(module.state_dict(), folder / "trained.pt")
    target = folder / "out" / "model.weights.h5"
    plan = k3c.align(folder / "trained.pt", target)
    k3c.transfer(folder / "trained.pt", target, plan, out=folder / "new.weights.h5").raise_if_failed()
    model = keras.saving.load_model(folder / "out" / "model.keras")
    model.load_weights(folder / "new.weights.h5")
    k3c.validate(module, model, plan=recorded(folder), inputs=torch.rand(INPUTS)).raise_if_failed()


@pytest.mark.slow
def test_a_model_that_was_trained_under_its_name_keeps_its_plan(folder: Path) -> None:
    path = folder / "out" / "model.keras"
    model = keras.saving.load_model(path)
    model.set_weights([np.asarray(value) + 0.1 for value in model.get_weights()])
    model.save(path)
    module, plan = net(), k3c.align(net(), path)
    assert plan.pairs == recorded(folder).pairs
    k3c.transfer(path, module, plan).raise_if_failed()
    k3c.validate(module, path, inputs=torch.rand(INPUTS)).raise_if_failed()


def test_validate_says_which_plan_it_used(folder: Path) -> None:
    report = k3c.validate(net(), folder / "out" / "model.keras", inputs=torch.rand(INPUTS))
    report.raise_if_failed()
    assert f"the plan is the one that convert wrote to {folder / 'out' / 'metadata.json'}" in report.notes


def test_the_other_direction_has_its_plan_beside_the_torch_weights(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((5,)), layers.Dense(5), layers.Dense(5)])
    model.save(tmp_path / "old.keras")
    k3c.convert(tmp_path / "old.keras", validate=False).save(tmp_path / "net")
    plan = k3c.align(tmp_path / "net" / "weights.safetensors", tmp_path / "old.keras")
    assert plan.notes[0].startswith("the plan is the one that convert wrote to ")
    assert not plan.unconfirmed


def test_the_plan_of_another_module_is_not_used(folder: Path) -> None:
    plan = k3c.align(net(last=2), folder / "out" / "model.keras", probe=False)
    fact = "head.weight is (2, 4), not (3, 4); head.bias is (2,), not (3,)"
    assert f"the plan in {folder / 'out' / 'metadata.json'} is for other models: {fact}" in plan.notes


def test_a_module_with_one_more_tensor_needs_another_plan(folder: Path) -> None:
    module = net()
    module.late = nn.Linear(2, 2)
    plan = k3c.align(module, folder / "out" / "model.keras", probe=False)
    assert any("is for other models: Net (torch) also has late.weight, late.bias" in note for note in plan.notes)
    assert "late" in [problem.torch for problem in plan.problems()]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"probe": True}, {"hints": {"square": "square_layer"}}])
def test_a_request_for_a_run_or_a_hint_makes_a_new_plan(asked: dict[str, Any], folder: Path) -> None:
    plan = k3c.align(net(), folder / "out" / "model.keras", inputs=torch.rand(INPUTS), **asked)
    assert not any("metadata.json" in note for note in plan.notes)
    assert [problem.torch for problem in plan.problems()] == ["mask_token"]


@pytest.mark.slow
def test_a_plan_that_is_damaged_is_named_and_not_used(folder: Path) -> None:
    record = folder / "out" / "metadata.json"
    data = json.loads(record.read_text(encoding="utf-8"))
    data["alignment"]["format"] = 99
    record.write_text(json.dumps(data), encoding="utf-8")
    plan = k3c.align(net(), folder / "out" / "model.keras", inputs=torch.rand(INPUTS))
    assert [problem.torch for problem in plan.problems()] == ["mask_token"]
    assert any(note.startswith(f"the plan in {record} is not used: ") for note in plan.notes)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[]", "{", '{"alignment": 1}', '{"alignment": {}, "owner": "me"}'])
def test_the_metadata_of_another_program_are_left_alone(text: str, folder: Path) -> None:
    (folder / "out" / "metadata.json").write_text(text, encoding="utf-8")
    plan = k3c.align(net(), folder / "out" / "model.keras", inputs=torch.rand(INPUTS))
    assert [problem.torch for problem in plan.problems()] == ["mask_token"]
    assert not any("metadata.json" in note for note in plan.notes)


@pytest.mark.slow
def test_two_layers_whose_weights_were_exchanged_do_not_pass(folder: Path) -> None:
    class Exchanged(Net):
        """The same names and shapes, in another order: the plan fits, and the proof must fail."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.head(self.square(torch.tanh(self.conv(x).mean(-1) + self.shift)))
            return made

    report = k3c.validate(randomize(Exchanged().eval()), folder / "out" / "model.keras", inputs=torch.rand(INPUTS))
    assert "float64" in [section.name for section in report.with_status("failed")]
