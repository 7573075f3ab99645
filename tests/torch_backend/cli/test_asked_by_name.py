"""A proof that is asked by its name and cannot run is not passed over in the verdict and in the exit status."""

import json
from pathlib import Path

import keras
import pytest
import torch
from keras import layers
from torch import nn

from tests.support.cli_runs import run


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files of equal weights, which cannot run."""
    linear, module = nn.Linear(3, 2), nn.Sequential()
    module.add_module("fc", linear)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="fc")])
    model.set_weights([linear.weight.detach().numpy().T, linear.bias.detach().numpy()])
    model.save_weights(tmp_path / "net.weights.h5")
    return [str(tmp_path / name) for name in ("net.pt", "net.weights.h5")]


def test_a_skipped_proof_that_was_not_asked_by_name_leaves_the_verdict(files: list[str]) -> None:
    done = run("validate", *files, "--json")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (0, "passed")


@pytest.mark.parametrize("others", [(), ("--proof", "roundtrip")])
def test_a_skipped_proof_that_was_asked_by_name_is_not_proven(files: list[str], others: tuple[str, ...]) -> None:
    done = run("validate", *files, "--proof", "float64", *others)
    assert done.exit_code == 1
    assert "Not proven" in done.stdout
    assert "asked for" in done.stdout
    assert json.loads(run("validate", *files, "--proof", "float64", *others, "--json").stdout)["status"] == "skipped"


def test_a_proof_that_was_asked_by_name_and_passed_is_enough(files: list[str]) -> None:
    assert run("validate", *files, "--proof", "roundtrip").exit_code == 0


@pytest.mark.parametrize("option", [("--onnx",), ("--backends", "torch")])
def test_a_skipped_proof_that_runs_on_request_only_is_not_proven(files: list[str], option: tuple[str, ...]) -> None:
    done = run("validate", *files, *option)
    assert done.exit_code == 1
    assert "Not proven" in done.stdout
