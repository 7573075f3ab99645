"""Transfers from file to file, also in shards, compared with the transfer between live models."""

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import FileError, InputError
from keras3conv.workflows.transfer import Options
from keras3conv.workflows.transfer import transfer as run
from tests.support.ending_transfer import end_after
from tests.support.small_pair import save_torch, twin

SHARD = 4_500
"""Bytes of a shard: the largest tensor just fits."""


def bits(model: keras.Model) -> dict[str, bytes]:
    return {variable.path: keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables}


TORCH = ("net.safetensors", "net.pt", "model.safetensors.index.json", "pytorch_model.bin.index.json")
KERAS = ("net.weights.h5", "net.weights.json", "net.h5")


@pytest.mark.parametrize("target", KERAS)
@pytest.mark.parametrize("source", TORCH)
def test_a_torch_file_becomes_a_keras_file_that_keras_loads_bit_for_bit(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment], source: str, target: str
) -> None:
    module, model, plan = moved
    (tmp_path / "in").mkdir()
    file = save_torch(module, tmp_path / "in", source)
    out = tmp_path / target
    report = k3c.transfer(file, out, plan, max_shard_size=SHARD if target.endswith(".json") else None)
    fresh = twin()
    fresh.load_weights(out)
    assert list(bits(fresh).values()) == list(bits(model).values())
    assert k3c.verify(out).ok
    assert len(report.files) == (4 if target.endswith(".json") else 1)
    assert formats.read(out).fingerprint == formats.read(out).fingerprint


@pytest.mark.parametrize("target", TORCH)
@pytest.mark.parametrize("source", KERAS)
def test_a_keras_file_becomes_a_torch_file_that_torch_loads_bit_for_bit(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment], source: str, target: str
) -> None:
    module, model, plan = moved
    file = tmp_path / source
    shards = {"max_shard_size": SHARD / 1024**3} if source.endswith(".json") else {}
    model.save_weights(file, **shards) if source != "net.h5" else save_legacy(model, file)
    view = formats.read(file)
    if view.fingerprint != plan.keras.fingerprint:
        plan = k3c.align(module, file)
    out = tmp_path / "out" / target
    out.parent.mkdir()
    k3c.transfer(file, out, plan, max_shard_size=SHARD if target.endswith(".json") else None)
    found = formats.read(out)
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        assert found.read(name).tobytes() == value.numpy().tobytes(), name
    assert k3c.verify(out).ok
    if target == "net.pt":
        assert torch.equal(torch.load(out)["out.weight"], module.state_dict()["out.weight"])


def save_legacy(model: keras.Model, path: Path) -> None:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def test_shards_have_the_names_and_the_sizes_that_other_programs_expect(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    module, _, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    k3c.transfer(file, tmp_path / "x.weights.h5", plan, max_shard_size="3kB")
    index = json.loads((tmp_path / "x.weights.json").read_text())
    shards = sorted(path.name for path in tmp_path.glob("x_*.weights.h5"))
    assert shards == [f"x_{number:05}.weights.h5" for number in range(3)]
    assert {
        name for value in index["weight_map"].values() for name in ([value] if isinstance(value, str) else value)
    } == {*shards}
    reverse = tmp_path / "model.safetensors"
    k3c.transfer(tmp_path / "x.weights.json", reverse, plan, max_shard_size=3_000)
    assert sorted(path.name for path in tmp_path.glob("model*")) == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
        "model.safetensors.index.json.manifest.json",
    ]


def test_shards_of_the_old_output_that_the_new_one_lacks_are_removed(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    _, model, plan = moved
    model.save_weights(tmp_path / "net.weights.h5")
    out = tmp_path / "out" / "model.safetensors"
    out.parent.mkdir()
    k3c.transfer(tmp_path / "net.weights.h5", out, plan, max_shard_size=SHARD)
    k3c.transfer(tmp_path / "net.weights.h5", out, plan, max_shard_size="1GB", overwrite=True)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "model.safetensors.index.json.manifest.json",
    ]


def test_a_killed_transfer_resumes_after_its_finished_shards(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    module, _, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "out").mkdir()
    k3c.transfer(file, tmp_path / "undisturbed" / "x.weights.json", plan, max_shard_size=SHARD)
    end_after(15, file, tmp_path / "out" / "x.weights.json", plan, SHARD)
    seen: list[str] = []
    options = Options(max_shard_size=SHARD, progress=lambda name, *_: seen.append(name))
    run(file, tmp_path / "out" / "x.weights.json", plan, options)
    everything = {tensor.path for tensor in plan.keras.tensors() if not tensor.is_seed}
    assert 0 < len(seen) < len(everything)
    written, undisturbed = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("out", "undisturbed")
    )
    assert written == undisturbed


@pytest.mark.slow
def test_a_damaged_shard_or_a_shard_of_another_job_is_written_again(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    module, _, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    (tmp_path / "out").mkdir()

    target = tmp_path / "out" / "x.weights.json"

    def transfer() -> int:
        """Transfer the file, and return the number of tensors that are written."""
        seen: list[str] = []
        options = Options(max_shard_size=SHARD, progress=lambda name, *_: seen.append(name), overwrite=True)
        run(file, target, plan, options)
        return len(seen)

    number = transfer()
    for damaged in (True, False):
        end_after(number, file, target, plan, SHARD)
        finished = sorted((tmp_path / "out").glob(".k3c-*/new/*.finished"))
        assert finished
        if damaged:
            for note in finished:
                shard = note.with_name(note.name.removesuffix(".finished"))
                content = bytearray(shard.read_bytes())
                content[-1] ^= 1
                shard.write_bytes(content)
        else:
            os.utime(file, ns=(1, 1))
        assert transfer() == number
        assert not list((tmp_path / "out").glob(".k3c*"))


@pytest.mark.slow
def test_a_transfer_from_file_to_file_imports_no_framework(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    import subprocess
    import sys

    module, _, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    (tmp_path / "plan.json").write_text(plan.to_json())
    code = (
        "import sys\nfrom keras3conv.cli.commands import main\n"
        f"sys.argv = ['keras3conv', 'transfer', {str(file)!r}, {str(tmp_path / 'x.weights.h5')!r}, '--plan', "
        f"{str(tmp_path / 'plan.json')!r}, '--max-shard-size', '3kB']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    status = stop.code\n"
        "assert not {'torch', 'keras', 'jax', 'tensorflow'} & set(sys.modules)\nsys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "x.weights.json").exists()


def test_a_transfer_in_bfloat16_keeps_the_bits(tmp_path: Path) -> None:
    module = nn.Linear(3, 2).to(torch.bfloat16)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16", name="d")])
    plan = k3c.align(module, model, probe=False)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    k3c.transfer(tmp_path / "net.pt", tmp_path / "net.weights.h5", plan)
    model.load_weights(tmp_path / "net.weights.h5")
    k3c.transfer(tmp_path / "net.weights.h5", tmp_path / "back.safetensors", plan)
    for name, value in module.state_dict().items():
        assert (
            formats.read(tmp_path / "back.safetensors").read(name).tobytes()
            == value.view(torch.int16).numpy().tobytes()
        )
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[0].kernel, "float32"))
    np.testing.assert_array_equal(kernel, module.weight.detach().float().numpy().T)


def test_several_outputs_are_written_together_or_not_at_all(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    module, model, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    (tmp_path / "b.h5").write_text("old")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(FileError, match=r"b\.h5 exists"):
        k3c.transfer(file, model, plan, out=[tmp_path / "a.weights.h5", tmp_path / "b.h5", tmp_path / "c.keras"])
    assert {path.name for path in tmp_path.iterdir()} == before
    outs = [tmp_path / "a.weights.h5", tmp_path / "c.keras"]
    k3c.transfer(file, model, plan, out=outs)
    assert all(k3c.verify(out).ok for out in outs)


def test_the_size_of_a_shard_is_read_with_units() -> None:
    sizes = [formats.parse_size(text) for text in (7, "7", "500MB", "2GB", "2 GiB", "1.5kb")]
    assert sizes == [7, 7, 500 * 10**6, 2 * 10**9, 2 * 2**30, 1500]
    for wrong in ("", "GB", "2XB", "-1", 0, "0"):
        with pytest.raises(InputError, match="the size of a shard must be"):
            formats.parse_size(wrong)


def test_a_format_without_an_index_cannot_be_sharded(
    tmp_path: Path, moved: tuple[nn.Module, keras.Model, Alignment]
) -> None:
    module, _, plan = moved
    file = save_torch(module, tmp_path, "net.safetensors")
    with pytest.raises(
        FileError, match=r"x\.h5 has a format that cannot be split into shards; the formats that can are"
    ):
        k3c.transfer(file, tmp_path / "x.h5", plan, max_shard_size="1GB")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_saved_model_has_the_same_bytes_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    import datetime
    import time

    from keras3conv.frameworks.keras.files import save

    model = twin()
    first = save(model, tmp_path / f"a{suffix}", overwrite=False)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime(2040, 5, 6, 7, 8, 9, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", Later)
    monkeypatch.setattr(time, "time", lambda: 2_222_222_222.0)
    second = save(model, tmp_path / f"b{suffix}", overwrite=False)
    assert first.sha256 == second.sha256
    if suffix == ".keras":
        assert bits(keras.models.load_model(tmp_path / "b.keras")) == bits(model)
