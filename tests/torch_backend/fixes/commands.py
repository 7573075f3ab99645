"""Errors of files and of the command line whose message prints a line to paste."""

import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.fixes import Scope, case
from tests.torch_backend.fixes.plans import NAMES, Net, network, pair

MODELS = """
import keras
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def make():
    return Net()


def make_seeded():
    torch.manual_seed(0)
    return Net()


def make_keras():
    given = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="relu", name="a")(given)
    return keras.Model(given, keras.layers.Dense(2, name="b")(hidden))
"""


def files(folder: Path) -> Scope:
    """Factories and weights of both sides, in the current folder."""
    (folder / "net.py").write_text(MODELS)
    names = pair()
    save_file(names["module"].state_dict(), folder / "net.safetensors")
    names["model"].save(folder / "model.keras")
    names["model"].save_weights(folder / "model.weights.h5")
    np.savez(folder / "x.npz", np.zeros((2, 3), "float32"))
    return NAMES | {"x": np.zeros((2, 3), "float32"), "folder": folder, "model": names["model"]}


@case(
    "keras3conv/workflows/imports.py:searched",
    "keras3conv convert project/models/deep.py:make --shape 1,3 -o converted",
)
def a_module_beside_the_folder_of_the_code(folder: Path) -> Scope:
    (folder / "project" / "models").mkdir(parents=True)
    (folder / "project" / "beside_the_models.py").write_text(MODELS)
    (folder / "project" / "models" / "deep.py").write_text("from beside_the_models import make\n")
    return NAMES


@case(
    "keras3conv/workflows/files.py:read_plan",
    "keras3conv transfer net.safetensors net.py:make_keras --plan plan.json -o out.keras",
    then="keras3conv transfer net.safetensors net.py:make_keras --plan new_plan.json -o out.keras",
    edit=lambda line, names: line.replace("TORCH KERAS", "net.safetensors net.py:make_keras"),
)
def a_file_that_is_no_plan(folder: Path) -> Scope:
    names = files(folder)
    (folder / "plan.json").write_text("{}")
    return names


@case(
    "keras3conv/workflows/files.py:read_inputs",
    "keras3conv validate net.safetensors model.keras --inputs path.npz --proof structure",
    edit=lambda line, names: line.replace("path", '"path.npz"'),
)
def a_file_without_inputs(folder: Path) -> Scope:
    names = files(folder)
    (folder / "path.npz").write_bytes(b"no arrays")
    return names


@case("keras3conv/workflows/factories.py:factory_of", "keras3conv inspect net.py")
def a_file_of_code_without_a_factory(folder: Path) -> Scope:
    return files(folder)


@case(
    "keras3conv/workflows/card.py:make_card",
    "keras3conv card net.safetensors --license mit",
    edit=lambda line, names: line.replace("report.json  #", "other/report.json  #"),
)
def a_card_without_a_certificate(folder: Path) -> Scope:
    from tests.support.cli_runs import run

    names = files(folder)
    (folder / "other").mkdir()
    report = folder / "other" / "report.json"
    run("validate", "net.safetensors", "model.keras", "--proof", "structure", "--report", str(report))
    assert report.is_file()
    return names


@case("keras3conv/workflows/verify.py:_folder_without_metadata", "keras3conv verify moved")
def a_folder_of_files_that_were_transferred(folder: Path) -> Scope:
    from tests.support.cli_runs import run

    names = files(folder)
    (folder / "moved").mkdir()
    assert run("transfer", "net.safetensors", "model.keras", "-o", "moved/out.keras").exit_code == 0
    return names


@case("keras3conv/workflows/transfer.py:_into_files", "keras3conv transfer net.safetensors model.keras")
def a_target_that_exists(folder: Path) -> Scope:
    return files(folder)


@case(
    "keras3conv/cli/sides.py:require_out",
    "keras3conv transfer net.safetensors net.py:make_keras",
)
def a_factory_without_a_file(folder: Path) -> Scope:
    return files(folder)


def _existing(line: str, names: Scope) -> str:
    made = {"KERAS.py:make": "net.py:make_keras", "EXISTING.weights": "model.weights", "PLAN.json": "plan.json"}
    for placeholder, name in made.items():
        line = line.replace(placeholder, name)
    return line


@case(
    "keras3conv/cli/sides.py:_targets",
    "keras3conv transfer net.safetensors missing.weights.h5",
    edit=_existing,
)
def a_target_that_does_not_exist(folder: Path) -> Scope:
    from tests.support.cli_runs import run

    names = files(folder)
    assert run("align", "net.safetensors", "model.keras", "-o", "plan.json").exit_code == 0
    return names


@case(
    "keras3conv/cli/files.py:read_axes",
    "keras3conv convert net.py:make --shape 1,3 -o out --dynamic x",
    further="x|axis",
)
def an_input_without_axes(folder: Path) -> Scope:
    return files(folder)


@case(
    "keras3conv/cli/files.py:read_tolerance",
    "keras3conv compare-onnx a.onnx b.onnx --tolerance small",
    further="a.onnx",
)
def a_tolerance_that_is_no_number(folder: Path) -> Scope:
    return files(folder)


@case(
    "keras3conv/cli/files.py:_assignments", "keras3conv align net.safetensors model.keras --ignore head", further="head"
)
def an_ignored_tensor_without_a_reason(folder: Path) -> Scope:
    return files(folder)


@case("keras3conv/cli/app.py:_Commands.resolve_command", "keras3conv inspekt net.safetensors")
def a_command_with_a_misspelt_name(folder: Path) -> Scope:
    return files(folder)


@case(
    "keras3conv/frameworks/torch/state_dicts.py:state_dict_of",
    "keras3conv validate net.py:make model.keras --torch-weights model.weights.h5 --proof structure",
    edit=lambda line, names: line.replace("TORCH.py", "net.py"),
    then="keras3conv inspect model.weights.h5",
)
def weights_of_the_other_side(folder: Path) -> Scope:
    return files(folder)


@case("keras3conv/formats/identify.py:by_suffix", "k3c.align(first, model)", then="second")
def an_onnx_file(folder: Path) -> Scope:
    from tests.support.onnx_models import saved

    for name in ("first.onnx", "second.onnx"):
        saved(folder / name)
    return NAMES | {"model": network(), "first": folder / "first.onnx", "second": folder / "second.onnx"}


@case("keras3conv/formats/identify.py:file_of", "k3c.align(path, model)")
def a_folder_of_several_files(folder: Path) -> Scope:
    inside = folder / "many"
    inside.mkdir()
    for name in ("one.safetensors", "two.safetensors"):
        save_file(Net().state_dict(), inside / name)
    return NAMES | {"model": network(), "path": inside}


@case("keras3conv/formats/torch/entries.py:find_entry", "k3c.align(path, model)")
def a_checkpoint_of_two_models(folder: Path) -> Scope:
    torch.save({"model": Net().state_dict(), "ema": Net().state_dict()}, folder / "net.pt")
    return NAMES | {"model": network(), "path": folder / "net.pt"}


@case(
    "keras3conv/formats/torch/entries.py:find_entry",
    "keras3conv convert net.py:make --torch-weights two.pt --shape 1,3 -o made --overwrite",
)
def a_conversion_with_a_checkpoint_of_two_models(folder: Path) -> Scope:
    names = files(folder)
    weights = load_file(folder / "net.safetensors")
    torch.save({"model": weights, "ema": weights}, folder / "two.pt")
    return names


@case(
    "keras3conv/formats/torch/checkpoint.py:_remedy",
    "k3c.align(path, keras_model)",
    then='k3c.align("net_weights.pt", keras_model)',
)
def a_pickled_module(folder: Path) -> Scope:
    torch.save(Net(), folder / "net.pt")
    return NAMES | {"model": Net(), "keras_model": network(), "path": folder / "net.pt"}


@case("keras3conv/formats/foreign.py:_remedy", "k3c.align(path, model)", then='k3c.align("net.bin.safetensors", model)')
def a_compressed_file(folder: Path) -> Scope:
    save_file(Net().state_dict(), folder / "net.safetensors")
    packed = folder / "net.bin.safetensors.gz"
    packed.write_bytes(gzip.compress((folder / "net.safetensors").read_bytes()))
    return NAMES | {"model": network(), "path": packed}


@case("keras3conv/formats/foreign.py:_remedy", "k3c.align(path, model)", then='k3c.align("net.safetensors", model)')
def a_tar_archive(folder: Path) -> Scope:
    save_file(Net().state_dict(), folder / "net.safetensors")
    with tarfile.open(folder / "net.tar", "w") as archive:
        archive.add(folder / "net.safetensors", "net.safetensors")
    (folder / "net.safetensors").unlink()
    return NAMES | {"model": network(), "path": folder / "net.tar"}


@case("keras3conv/formats/foreign.py:_remedy", "k3c.align(path, model)", then='k3c.align("model.pt", model)')
def a_distributed_checkpoint(folder: Path) -> Scope:
    from torch.distributed.checkpoint.state_dict_saver import save

    save({"model": Net().state_dict()}, checkpoint_id=folder / "parts")
    return NAMES | {"model": network(), "path": folder / "parts"}


@case(
    "keras3conv/workflows/sweep/folder.py:_require_own",
    "keras3conv sweep sweep.toml -o results",
    edit=lambda line, names: line.replace("ANOTHER-FOLDER", "other"),
)
def a_folder_with_other_files(folder: Path) -> Scope:
    names = files(folder)
    task = ["[[task]]", 'name = "a"', 'do = "align"', 'torch = "net.safetensors"', 'keras = "model.keras"']
    sweep = "\n".join(["[sweep]", 'name = "one"', *task])
    (folder / "sweep.toml").write_text(sweep)
    (folder / "results").mkdir()
    (folder / "results" / "mine.txt").write_text("mine")
    return names


@case(
    "keras3conv/workflows/clusters.py:connected",
    "connected(address, 'a sweep on Ray')",
    edit=lambda line, names: (
        f"names_of_clusters.add('{line.split()[-1].replace('--head', '10.0.0.1:6379')}'); "
        f"address = '{line.split()[-1].replace('--head', '10.0.0.1:6379')}'"
    ),
)
def a_cluster_that_does_not_exist(_: Path) -> Scope:
    import ray

    from keras3conv.workflows.clusters import connected

    running = {"somewhere else"}

    def init(address: str, **options: Any) -> None:
        if address not in running:
            raise ConnectionError("no cluster")

    patch = pytest.MonkeyPatch()
    patch.setattr(ray, "init", init)
    address = "10.0.0.1:6379"
    return NAMES | {"connected": connected, "address": address, "names_of_clusters": running, "undo": patch.undo}
