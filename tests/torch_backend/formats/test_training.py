"""Checkpoints of training loops: the state dict is found by its content, and nothing in the file is run."""

import argparse
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import keras3conv as k3c
from keras3conv import formats
from keras3conv.cli.commands import app
from keras3conv.errors import FileError, MalformedCheckpoint, ModelError, TransferError, UnsafeCheckpoint
from keras3conv.frameworks.torch.adapter import TorchModule

STATE = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


class Settings:
    """A class that is defined only in the training code."""

    rate = 0.1


def paths(path: Path, entry: str = "") -> list[str]:
    return [tensor.path for tensor in formats.read(path, entry=entry).tensors()]


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["epoch=3-step=9.ckpt", "best.pth.tar", "weights.bin", "checkpoint", "model.best"])
def test_a_checkpoint_is_read_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, {"state_dict": STATE, "epoch": 3})
    assert formats.side_of(path) == "torch"
    assert paths(path) == list(STATE)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE, "best_acc1": torch.tensor(71.3)},
        {"model": STATE, "cpu_rng_state": torch.zeros(8, dtype=torch.uint8)},
        {"state_dict": STATE, "mean": torch.zeros(3)},
        {"checkpoint": {"model": STATE, "epoch": 1}, "step": torch.tensor(5)},
        {"net": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}}},
        (STATE, {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]}),
        {"nets": [{"name": "generator"}, STATE]},
        {"model": STATE, "ema": {"decay": 0.9, "shadow_params": [torch.ones(2, 3)]}},
    ],
)
def test_other_tensors_do_not_hide_the_state_dict(tmp_path: Path, content: Any) -> None:
    assert paths(saved(tmp_path / "x.pt", content)) == list(STATE)


def test_a_list_without_dicts_is_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(MalformedCheckpoint, match="holds a list, not a state dict"):
        formats.read(saved(tmp_path / "x.pt", [torch.ones(2)]))


def test_counters_beside_the_weights_need_no_counterpart(tmp_path: Path) -> None:
    counters = {"n_averaged": torch.tensor(5), "global_step": torch.tensor(9), "fc.position_ids": torch.arange(4)}
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plan = k3c.align(saved(tmp_path / "x.pt", STATE | counters), model).check()
    assert {entry.path for entry in plan.ignored} == set(counters)


def test_an_entry_names_the_state_dict(tmp_path: Path) -> None:
    other = {"fc.weight": torch.zeros(4, 3)}
    path = saved(tmp_path / "x.pt", {"state_dict": STATE, "state_dict_ema": other, "old": {"model": other}})
    with pytest.raises(FileError, match=r"3 state dicts(.|\n)*'old\.model'"):
        formats.read(path)
    assert paths(path, "state_dict_ema") == paths(path, "old.model") == paths(path, "old") == ["fc.weight"]


@pytest.mark.parametrize("content", [{"model": STATE}, STATE])
def test_arguments_beside_the_tensors_are_ignored(tmp_path: Path, content: Any) -> None:
    extra = {"args": argparse.Namespace(lr=0.1), "settings": [Settings()]}
    assert paths(saved(tmp_path / "x.pt", {**content, **extra})) == list(STATE)


@pytest.mark.parametrize(
    "content", [{"model": Settings()}, {"state_dict": {**STATE, "extra": Settings()}}, {**STATE, "a.b": Settings()}]
)
def test_an_object_instead_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"Settings(.|\n)*state_dict\(\)"):
        formats.read(saved(tmp_path / "x.pt", content))


def test_a_folder_with_shards_is_one_model(tmp_path: Path) -> None:
    saved(tmp_path / "pytorch_model-00001-of-00002.bin", {"fc.weight": STATE["fc.weight"]})
    saved(tmp_path / "pytorch_model-00002-of-00002.bin", {"fc.bias": STATE["fc.bias"]})
    weight_map = {name: f"pytorch_model-0000{place}-of-00002.bin" for place, name in enumerate(STATE, 1)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert paths(tmp_path) == list(STATE)
    assert formats.read(tmp_path).read("fc.weight").tolist() == [[1] * 3] * 2


def test_a_folder_with_several_models_is_refused(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        saved(tmp_path / name, STATE)
    with pytest.raises(FileError, match=r"weight files in it: a\.pt, b\.pt"):
        formats.read(tmp_path)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_the_prefix_of_a_wrapper_is_ignored(tmp_path: Path, prefix: str) -> None:
    module = nn.Sequential()
    module.add_module("fc", nn.Linear(3, 2))
    state = {f"{prefix}{name}": tensor for name, tensor in STATE.items()}
    TorchModule(module).load_weights(saved(tmp_path / "x.ckpt", {"ema": state, "raw": {}}), entry="ema")
    assert torch.equal(module.state_dict()["fc.weight"], STATE["fc.weight"])
    with pytest.raises(ModelError, match="the module has this tensor, but the file does not"):
        TorchModule(nn.Linear(3, 2)).load_weights(saved(tmp_path / "y.pt", state))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_plan_holds_for_a_checkpoint_of_the_module_in_a_wrapper(tmp_path: Path, prefix: str) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "empty.keras")
    plain, wrapped = saved(tmp_path / "plain.pt", STATE), {f"{prefix}{name}": value for name, value in STATE.items()}
    file = saved(tmp_path / "wrapped.pt", wrapped)
    for planned, moved in ((plain, file), (file, plain)):
        plan = k3c.align(planned, tmp_path / "empty.keras")
        k3c.transfer(moved, model, plan, accept_unconfirmed=True)
        assert (keras.ops.convert_to_numpy(model.layers[0].kernel) == 1).all()
        k3c.transfer(moved, tmp_path / "filled.weights.h5", plan, accept_unconfirmed=True, overwrite=True)
        assert (
            k3c.validate(moved, tmp_path / "filled.weights.h5", alignment=plan).section("roundtrip").status == "passed"
        )
        model.layers[0].kernel.assign(np.zeros((3, 2)))


@pytest.mark.slow
def test_the_command_line_takes_a_plan_of_the_module_for_a_checkpoint_of_the_wrapped_one(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "empty.keras")
    saved(tmp_path / "plain.pt", STATE)
    saved(tmp_path / "mod.pt", {f"module.{name}": value for name, value in STATE.items()})
    places = {name: str(tmp_path / name) for name in ("plain.pt", "mod.pt", "empty.keras", "plan.json", "new.keras")}
    asked = ["align", places["plain.pt"], places["empty.keras"], "-o", places["plan.json"]]
    assert CliRunner().invoke(app, asked).exit_code == 0
    asked = [
        "transfer",
        places["mod.pt"],
        places["empty.keras"],
        "--plan",
        places["plan.json"],
        "-o",
        places["new.keras"],
    ]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code in (0, 3), result.output
    assert (keras.ops.convert_to_numpy(keras.saving.load_model(places["new.keras"]).layers[0].kernel) == 1).all()


def test_other_names_are_no_wrapper(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plan = k3c.align(saved(tmp_path / "plain.pt", STATE), model)
    other = saved(tmp_path / "other.pt", {f"head.{name}": value for name, value in STATE.items()})
    with pytest.raises(TransferError, match="the plan was made for"):
        k3c.transfer(other, model, plan)
