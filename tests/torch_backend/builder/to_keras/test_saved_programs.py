"""Programs of `torch.export.save` and folders of transformers as what is converted, read without running code."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from benchmarks._torchvision import torchvision_models
from keras3conv.cli.app import PASSED
from keras3conv.errors import FileError, InputError, MalformedCheckpoint, UnsafeCheckpoint


class Net(nn.Module):
    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.register_buffer("table", torch.rand(4, 1, 1))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x))) * self.table + torch.arange(4.0).view(4, 1, 1)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, torch.Tensor]:
    module, x = Net().eval(), torch.randn(2, 3, 6, 8)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "small net.pt2")
    return tmp_path / "small net.pt2", module, x


def test_a_saved_program_becomes_a_proven_model(saved: tuple[Path, nn.Module, torch.Tensor]) -> None:
    path, module, x = saved
    conversion = k3c.convert(path, inputs=x)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    found = np.asarray(conversion.model(x.permute(0, 2, 3, 1).numpy()).detach())
    assert np.allclose(found, module(x).detach().numpy(), atol=1e-5)
    assert "Dropout(0.2" in conversion.source


@pytest.mark.slow
def test_the_command_line_converts_a_saved_program(
    saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from keras3conv.cli.commands import app

    monkeypatch.chdir(tmp_path)
    assert (
        CliRunner()
        .invoke(app, ["convert", str(saved[0]), "--shape", "2,3,6,8", "-o", "out", "--no-validate"])
        .exit_code
        == PASSED
    )
    assert (tmp_path / "out" / "model.py").is_file()


def changed(path: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Write a copy of an archive with changed members."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def in_json(name: str, replace: Callable[[Any], Any]) -> Callable[[str, bytes], bytes]:
    def change(member: str, data: bytes) -> bytes:
        return json.dumps(replace(json.loads(data))).encode() if member.endswith(name) else data

    return change


def _pickled(config: Any) -> Any:
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    return config


def _as_text(old: str, new: str) -> Callable[[Any], Any]:
    def replace(content: Any) -> Any:
        text = json.dumps(content)
        assert old in text
        return json.loads(text.replace(old, new))

    return replace


class Planted:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def as_saved(given: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(given, buffer)
    return buffer.getvalue()


ATTACKS: dict[str, tuple[str, Callable[[Path], Callable[[str, bytes], bytes]]]] = {
    "a pickled tensor": ("as a pickle, which is not loaded", lambda path: in_json("weights_config.json", _pickled)),
    "another operator": (
        "not an operator of torch",
        lambda path: in_json("models/model.json", _as_text("torch.ops.aten.relu.default", "torch.load")),
    ),
    "code as a size": (
        "not arithmetic",
        lambda path: in_json("models/model.json", _as_text("Symbol('s", f"open('{path}', 'w') + Symbol('s")),
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_program_that_could_run_code_is_refused(
    saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path, name: str
) -> None:
    message, change = ATTACKS[name]
    planted = tmp_path / "planted"
    hostile = changed(saved[0], tmp_path / "hostile.pt2", change(planted))
    with pytest.raises(UnsafeCheckpoint, match=message):
        k3c.convert(hostile, inputs=saved[2])
    assert not planted.exists()


def test_the_example_inputs_are_not_unpickled(saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path) -> None:
    planted = Planted(tmp_path / "planted")
    hostile = changed(
        saved[0], tmp_path / "hostile.pt2", lambda name, data: as_saved(planted) if name.endswith("model.pt") else data
    )
    assert k3c.convert(hostile, inputs=saved[2], validate=False).model is not None
    assert not planted.path.exists()


def test_other_archives_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "weights.pt2")
    with pytest.raises(MalformedCheckpoint, match=r"0 programs(.|\n)*torch\.export\.save"):
        k3c.convert(tmp_path / "weights.pt2", inputs=torch.randn(2, 4))
    (tmp_path / "empty.pt2").write_bytes(b"")
    with pytest.raises(FileError):
        k3c.convert(tmp_path / "empty.pt2", inputs=torch.randn(2, 4))


def test_a_torchscript_file_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(nn.Linear(4, 4), torch.randn(2, 4)), tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"TorchScript(.|\n)*nn\.Module"):
        k3c.convert(tmp_path / "net.pt", inputs=torch.randn(2, 4))


@pytest.mark.slow
def test_a_folder_of_transformers_becomes_a_proven_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torchvision_models()  # which transformers imports where it is installed
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=9,
    )  # fmt: skip
    module = transformers.BertForSequenceClassification(config).eval()
    module.save_pretrained(tmp_path / "bert")
    tokens = torch.randint(0, 20, (2, 7))
    conversion = k3c.convert(tmp_path / "bert", inputs={"input_ids": tokens})
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert [file.path for file in conversion.sources] == ["config.json", "model.safetensors"]
    made = conversion.model(tokens.numpy())
    found = made["logits"] if isinstance(made, dict) else made
    assert np.allclose(np.asarray(found.detach()), module(tokens).logits.detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_folder_with_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    with pytest.raises(InputError, match="NoSuchModel"):
        k3c.convert(tmp_path, inputs=torch.zeros(1, 2))
