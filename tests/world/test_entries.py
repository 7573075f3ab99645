"""Align, transfer, validate and the command line read a Keras 2 file with the same reader."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from tests.support.cli_runs import run
from tests.world.converted import assert_golden, converted
from tests.world.files import FOLDER, READ, OldFile

NEWEST = "tensorflow-2.15.1"
ARCHIVES = frozenset({"recurrent", "nested", "names_with_slashes", "constants", "normalization_first", "renormalised"})
FILES = [
    file
    for file in READ
    if (file.path.suffix == ".h5" and file.path.parent.name == NEWEST)
    or (file.path.suffix == ".keras" and file.name in ARCHIVES)
    or file.path.suffix == ".json"
]
"""One file of every network, some archives of every version, and every architecture that has its weights beside it."""


@contextmanager
def emptied(module: Any) -> Iterator[None]:
    """Fill the parameters of a module with one value while the block runs."""
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.fill_(0.25)
    try:
        yield
    finally:
        module.load_state_dict(own)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.id)
def test_align_transfer_and_validate_read_the_file_as_convert_does(file: OldFile) -> None:
    made = converted(file)
    with emptied(made.module):
        inputs = tuple(map(torch.from_numpy, file.arrays("input")))
        plan = k3c.align(made.module, file.path, inputs=inputs, keras_weights=file.weights)
        for tensor in plan.torch.tensors():
            if tensor.path.startswith("constant_"):
                plan = plan.ignore(tensor.path, "a constant that convert wrote")
        moved = k3c.transfer(file.path, made.module, plan.check(), keras_weights=file.weights)
        assert_golden(made.returned(made.module), file)
        report = k3c.validate(
            made.module,
            file.path,
            inputs=inputs,
            alignment=plan,
            proofs=["outputs", "expected"],
            expected=file.arrays("output"),
            keras_weights=file.weights,
        )
    report.raise_if_failed()
    version = ".".join(file.version.split(".")[:2])
    assert [section.name for section in report.sections] == ["structure", "outputs", "expected"]
    for said in (plan.notes, moved.notes, report.notes):
        assert any(f"was saved by Keras {version}" in note for note in said)
    assert f"that of Keras {version}" in report.sections[-1].facts["meaning"]


class Renormalised(nn.Module):
    """The network `renormalised`, written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head: torch.Tensor = self.head(self.norm(self.conv(x.permute(0, 3, 1, 2))).mean((2, 3)))
        return head


def test_the_statistics_of_a_renormalisation_need_no_counterpart_in_a_file_of_weights(tmp_path: Path) -> None:
    file, module = OldFile(FOLDER / NEWEST / "renormalised.keras"), Renormalised()
    with ZipFile(file.path) as archive:
        weights = Path(archive.extract("model.weights.h5", tmp_path))
    plan = k3c.align(module, weights)
    assert plan.problems() == ()
    reasons = {one.path.rpartition("/")[2]: one.reason for one in plan.ignored if one.side == "keras"}
    assert reasons == dict.fromkeys(
        ("moving_stddev", "renorm_mean", "renorm_stddev"), "a statistic of renorm=True, which acts in training only"
    )
    k3c.transfer(weights, module, plan)
    with torch.no_grad():
        assert_golden([module.eval()(torch.from_numpy(file.arrays("input")[0])).numpy()], file)


@pytest.mark.parametrize("file", READ, ids=lambda file: file.id)
def test_the_command_line_lists_the_layers_of_the_file(file: OldFile) -> None:
    weights = ("--keras-weights", str(file.weights)) if file.weights else ()
    finished = run("inspect", str(file.path), *weights)
    assert finished.exit_code == 0, finished.output


QUICK = frozenset({
    "tensorflow-2.15.1-recurrent.h5", "tensorflow-2.15.1-names_with_slashes.keras", "tensorflow-2.15.1-cudnn.h5",
    "keras-2.2.4-frozen_inside_weights.json",
})  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(
    "file",
    [pytest.param(file, id=file.id, marks=() if file.id in QUICK else pytest.mark.full) for file in READ],
)
def test_the_command_line_converts_the_file_and_proves_it_with_golden_outputs(file: OldFile, tmp_path: Path) -> None:
    own = ("--keras-weights", str(file.weights)) if file.weights else ()
    converts = "convert", str(file.path), *own, "-o", str(tmp_path / "net"), "--channels", "last", "--no-validate"
    finished = run(*converts)
    assert finished.exit_code == 0, finished.output
    np.savez(tmp_path / "inputs.npz", *file.arrays("input"))
    np.savez(tmp_path / "outputs.npz", *file.arrays("output"))
    module = next((tmp_path / "net").glob("*.py"))
    weights = next((tmp_path / "net").glob("*.safetensors"))
    arguments = ["--inputs", str(tmp_path / "inputs.npz"), "--proof", "outputs", "--proof", "expected", *own]
    factory = f"{module}:{'Model' if 'class Model' in module.read_text() else 'make'}"
    arguments += ["--torch-weights", str(weights), "--expected", str(tmp_path / "outputs.npz")]
    finished = run("validate", factory, str(file.path), *arguments)
    assert finished.exit_code == 0, finished.output
    np.savez(tmp_path / "outputs.npz", *(array + 0.1 for array in file.arrays("output")))
    finished = run("validate", factory, str(file.path), *arguments)
    assert finished.exit_code == 1
    assert "differs from the golden output" in finished.output
