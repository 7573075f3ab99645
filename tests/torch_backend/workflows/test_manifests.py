"""The manifest beside an output, and `verify`, which compares a file with its manifest."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import FileError
from tests.support.small_pair import save_torch


@pytest.mark.parametrize("name", ["net.weights.h5", "net.h5", "net.pt", "net.safetensors", "x.weights.json"])
def test_verify_names_the_file_and_the_tensor_that_was_damaged(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment], name: str
) -> None:
    module, model, plan = moved
    torch_file = save_torch(module, tmp_path, "source.safetensors")
    model.save_weights(tmp_path / "source.weights.h5")
    source = tmp_path / "source.weights.h5" if name.endswith((".pt", ".safetensors")) else torch_file
    report = k3c.transfer(source, tmp_path / name, plan)
    assert k3c.verify(tmp_path / name).status == "passed"
    damaged = Path(report.files[0].path)
    content = bytearray(damaged.read_bytes())
    weight = module.state_dict()["out.weight"].numpy()
    place = max(content.find(weight.tobytes()), content.find(np.ascontiguousarray(weight.T).tobytes()))
    assert place > 0
    content[place] ^= 1
    damaged.write_bytes(content)
    found = k3c.verify(tmp_path / name)
    facts = " ".join(problem.fact for section in found.with_status("failed") for problem in section.problems)
    assert len(found.with_status("failed")) == 2
    assert f"the sha256 of {damaged} is" in facts
    assert f"the md5 of {damaged} is" in facts
    assert "out" in facts
    damaged.unlink()
    assert "cannot be read" in str(k3c.verify(tmp_path / name))


def test_a_manifest_has_the_digests_of_the_source_and_no_date(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    module, _, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    (tmp_path / "again").mkdir()
    k3c.transfer(file, tmp_path / "again" / "x.weights.h5", plan)
    report = k3c.transfer(file, tmp_path / "x.weights.h5", plan)
    texts = [(folder / "x.weights.h5.manifest.json").read_text() for folder in (tmp_path / "again", tmp_path)]
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    digests = formats.digest(file)
    assert content["source"]["files"][0]["sha256"] == digests.sha256
    assert digests.md5 in str(report)
    assert digests.sha256 in str(report)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format":1,"files":[{"path":"../x"}]}']
)
def test_a_damaged_manifest_raises_an_error_instead_of_a_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pt.manifest.json").write_text(text)
    with pytest.raises(FileError, match="manifest"):
        k3c.verify(tmp_path / "x.pt")


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be verified, because its manifest"):
        k3c.verify(tmp_path / "x.pt")


def test_verify_repeats_that_pairs_were_not_confirmed(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).state_dict(), tmp_path / "net.pt")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)])
    plan = k3c.align(tmp_path / "net.pt", model)
    assert len(plan.unconfirmed) == 2
    k3c.transfer(tmp_path / "net.pt", model, plan, out=tmp_path / "m.keras", accept_unconfirmed=True)
    note = "the transfer that wrote this followed a plan in which no run confirmed 2 of 2 pairs"
    assert note in k3c.verify(tmp_path / "m.keras").notes
