"""A plan that no run has confirmed has the status "unconfirmed" and a separate exit status."""

import json
from pathlib import Path

import keras
import pytest
import torch
from keras import layers
from torch import nn
from typer.testing import CliRunner

import keras3conv as k3c
from keras3conv.cli.app import UNCONFIRMED
from keras3conv.cli.commands import app
from keras3conv.errors import ProofError
from tests.support.models import randomize


class OtherOrder(nn.Module):
    """A module whose definition order differs from its call order."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.late(torch.relu(self.early(x)))
        return made


class FlattensLast(nn.Module):
    """A module that flattens with the channels last, as Keras does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 3 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.conv(x).permute(0, 2, 3, 1).flatten(1))
        return made


def two_layers() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="relu"), layers.Dense(6)])


def flattened() -> keras.Model:
    return keras.Sequential([keras.Input((5, 4, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)])


CASES = [(OtherOrder(), two_layers), (FlattensLast(), flattened)]


@pytest.mark.parametrize(("module", "make"), CASES)
def test_a_transfer_by_pairs_that_no_run_confirmed_is_not_ok(tmp_path: Path, module: nn.Module, make: object) -> None:
    assert callable(make)
    path, model = tmp_path / "x.pt", make()
    torch.save(randomize(module).state_dict(), path)
    plan = k3c.align(path, model).check()
    report = k3c.transfer(path, model, plan)
    assert (report.status, report.ok) == ("unconfirmed", False)
    assert json.loads(report.to_json())["sections"][0]["status"] == "unconfirmed"
    with pytest.raises(ProofError, match="no run has confirmed"):
        report.raise_if_failed()
    assert k3c.transfer(path, model, plan, accept_unconfirmed=True).ok
    assert k3c.validate(path, model, alignment=plan).status == "unconfirmed"
    assert not k3c.validate(module, model, alignment=plan).ok


@pytest.mark.parametrize(("module", "make"), CASES)
def test_pairs_that_files_leave_unconfirmed_are_confirmed_by_live_models(module: nn.Module, make: object) -> None:
    assert callable(make)
    model = make()
    plan = k3c.align(randomize(module), model).check()
    assert k3c.transfer(module, model, plan).ok
    assert k3c.validate(module, model, alignment=plan).ok


def test_a_files_flattened_rows_are_compared_in_the_order_that_its_values_show(tmp_path: Path) -> None:
    module, model = randomize(FlattensLast()), flattened()
    torch.save(module.state_dict(), tmp_path / "x.pt")
    k3c.transfer(tmp_path / "x.pt", model, k3c.align(module, model).check())
    assert not k3c.validate(tmp_path / "x.pt", model).with_status("failed")
    with torch.no_grad():
        module.head.weight[0, 0] += 1
    torch.save(module.state_dict(), tmp_path / "x.pt")
    assert k3c.validate(tmp_path / "x.pt", model).with_status("failed")


@pytest.mark.slow
def test_the_command_line_has_a_separate_exit_status_for_unconfirmed_pairs(tmp_path: Path) -> None:
    torch.save(randomize(OtherOrder()).state_dict(), tmp_path / "x.pt")
    model = two_layers()
    model.save(tmp_path / "k.keras")
    (tmp_path / "plan.json").write_text(k3c.align(tmp_path / "x.pt", model).to_json())
    run = ["transfer", f"{tmp_path}/x.pt", f"{tmp_path}/k.keras", "--plan", f"{tmp_path}/plan.json"]
    done = CliRunner().invoke(app, [*run, "-o", f"{tmp_path}/a.keras"])
    assert done.exit_code == UNCONFIRMED, done.output
    assert "Not confirmed" in done.output
    accepted = CliRunner().invoke(app, [*run, "-o", f"{tmp_path}/b.keras", "--accept-unconfirmed"])
    assert accepted.exit_code == 0, accepted.output


def test_the_table_of_a_transfer_has_the_other_candidates_of_unconfirmed_pairs_only(tmp_path: Path) -> None:
    path, model = tmp_path / "x.pt", two_layers()
    torch.save(randomize(OtherOrder()).state_dict(), path)
    plan = k3c.align(path, model)
    (table,) = k3c.transfer(path, model, plan).section("transfer").tables
    assert table.columns[-1] == "other candidates"
    assert {row[-1] for row in table.rows} == {layer.name for layer in model.layers}
    module = randomize(OtherOrder())
    (table,) = k3c.transfer(module, model, k3c.align(module, model)).section("transfer").tables
    assert table.columns == ("torch", "keras", "tensors", "decided by")
