"""A checkpoint with several state dicts: every command takes `--entry`, and says which of them it read."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import keras3conv as k3c
from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError
from keras3conv.frameworks.adapter import TorchFile
from keras3conv.report.digests import digest_note, named_files
from keras3conv.report.report import Report
from keras3conv.workflows.manifest import Record
from keras3conv.workflows.sources import weights_read
from tests.support.cli_models import MODELS
from tests.support.cli_runs import assert_refused, run

SHAPES = {"out.weight": (3, 7), "out.bias": (3,), "hidden.weight": (7, 5), "hidden.bias": (7,)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with factories, a Keras model, and a checkpoint with raw weights (0.5) and averaged ones (0.25)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODELS)
    raw = {name: torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    averaged = {name: torch.full(shape, 0.25) for name, shape in SHAPES.items()}
    torch.save({"state_dict": raw, "ema": {"state_dict": averaged, "decay": 0.9}, "epoch": 3}, "last.ckpt")
    given = keras.Input((5,))
    hidden = keras.layers.Dense(7, activation="relu", name="first")(given)
    keras.Model(given, keras.layers.Dense(3, name="second")(hidden), name="net").save("net.keras")
    return tmp_path


def values(path: Path) -> set[float]:
    """Return the distinct values in a Keras file."""
    view = k3c.view(path)
    return {float(value) for tensor in view.tensors() for value in np.unique(view.read(tensor.path))}


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.slow
def test_convert_reads_the_state_dict_that_is_named_and_says_so(folder: Path) -> None:
    command = ("convert", "net.py:make", "--torch-weights", "last.ckpt", "--shape", "2,5", "-o", "made")
    assert_refused(run(*command), "Fix:  --entry state_dict     or     --entry ema.state_dict")
    done = run(*command, "--entry", "ema")
    assert done.exit_code == 0, done.output
    assert "last.ckpt, state dict ema.state_dict:" in in_one_line(done.stdout)
    assert values(folder / "made" / "model.weights.h5") == {0.25}
    sources = json.loads((folder / "made" / "metadata.json").read_text())["sources"]
    assert [source.get("entry") for source in sources] == [None, "ema.state_dict"]
    report = Report.from_json((folder / "made" / "report.json").read_text())
    assert "last.ckpt" in dict(named_files(report))


def test_the_state_dict_of_a_keras_model_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="entry names a state dict of a torch checkpoint"):
        k3c.convert("net.keras", entry="ema", validate=False)


@pytest.mark.slow
def test_a_line_to_paste_of_convert_keeps_the_shape_the_folder_and_the_entry(folder: Path) -> None:
    refused = run("convert", "last.ckpt", "--shape", "2,5", "--entry", "ema", "-o", "a b")
    line = "keras3conv convert net.py:make --torch-weights last.ckpt --shape 2,5 --entry ema -o 'a b'"
    assert_refused(refused, f"Fix:  {line}")
    assert "--inputs FILE.npz -o b" in run("convert", "last.ckpt", "-o", "b").stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (("last.ckpt",), "net.keras"),
        (("net.py:make", "--torch-weights", "last.ckpt"), "net.py:make_keras"),
    ],
)
def test_the_report_the_manifest_and_the_verification_of_a_transfer_name_the_state_dict(
    folder: Path, source: tuple[str, ...], target: str
) -> None:
    options = ("-o", "new.keras", "--entry", "ema", "--accept-unconfirmed")
    moved = run("transfer", source[0], target, *source[1:], *options)
    assert moved.exit_code == 0, moved.output
    assert "state dict: ema.state_dict" in in_one_line(moved.stdout)
    assert values(folder / "new.keras") == {0.25}
    manifest = json.loads((folder / "new.keras.manifest.json").read_text())
    read = {file["path"]: file.get("entry") for file in manifest["source"]["files"]}
    assert read["last.ckpt"] == "ema.state_dict"
    assert set(read) == {"last.ckpt", *(("net.py",) if source[1:] else ())}
    assert "last.ckpt, state dict ema.state_dict: sha256" in in_one_line(run("verify", "new.keras").stdout)


@pytest.mark.slow
@pytest.mark.parametrize("torch_side", [("last.ckpt",), ("net.py:make", "--torch-weights", "last.ckpt")])
def test_a_certificate_names_the_state_dict(folder: Path, torch_side: tuple[str, ...]) -> None:
    options = (*torch_side[1:], "--entry", "state_dict", "--proof", "structure", "--json")
    judged = run("validate", torch_side[0], "net.keras", *options)
    assert "last.ckpt, state dict state_dict: " in " ".join(json.loads(judged.stdout)["notes"])


@pytest.mark.slow
def test_a_plan_reads_the_state_dict_for_which_it_was_made(folder: Path) -> None:
    made = run("align", "last.ckpt", "net.keras", "--entry", "ema", "-o", "plan.json")
    assert "state dict of the torch tensors: ema.state_dict" in made.stdout
    assert Alignment.from_json((folder / "plan.json").read_text()).torch.state_dict == "ema.state_dict"
    moved = run("transfer", "last.ckpt", "net.keras", "--plan", "plan.json", "-o", "ema.keras")
    assert values(folder / "ema.keras") == {0.25}, moved.output
    assert "was read" not in moved.stdout
    command, placeholder = moved.stderr.splitlines()[-2:]
    assert command.endswith("--entry ema.state_dict")
    assert "write your file for TORCH.py" in placeholder
    other = run("transfer", "last.ckpt", "net.keras", "--plan", "plan.json", "--entry", "state_dict", "-o", "raw.keras")
    assert values(folder / "raw.keras") == {0.5}
    note = "the plan was made for the state dict ema.state_dict, and state_dict was read"
    assert note in in_one_line(other.stdout)
    judged = run("validate", "last.ckpt", "raw.keras", "--plan", "plan.json", "--entry", "state_dict", "--json")
    assert note in json.loads(judged.stdout)["notes"]


def test_a_plan_without_a_state_dict_is_written_as_before(folder: Path) -> None:
    torch.save(torch.load("last.ckpt", weights_only=True)["state_dict"], "raw.pt")
    plan = k3c.align("raw.pt", "net.keras")
    assert "entry" not in json.loads(plan.to_json())["torch"]
    with pytest.raises(k3c.errors.FileError, match="holds 2 state dicts"):
        k3c.transfer("last.ckpt", "new.keras", plan)
    other = k3c.align("last.ckpt", "net.keras", entry="ema")
    report = k3c.transfer("raw.pt", "net.keras", other, overwrite=True)
    assert values(folder / "net.keras") == {0.5}, "a file with one state dict needs no name"
    assert "state dict" not in report.sections[0].facts


def test_a_transfer_of_another_state_dict_does_not_go_on_with_a_killed_one(folder: Path) -> None:
    plan, source = k3c.align("last.ckpt", "net.keras", entry="ema"), TorchFile(folder / "last.ckpt")
    jobs = {Record.of(source, plan, entry, ()).job for entry in ("ema.state_dict", "state_dict")}
    assert len(jobs) == 2
    assert all(jobs)


def test_the_name_of_a_file_is_found_in_a_note_with_a_state_dict(folder: Path) -> None:
    (file,) = weights_read(folder / "last.ckpt", "ema")
    report = Report(title="x", sections=(), notes=(digest_note(file), f"source {digest_note(file)}"))
    assert named_files(report) == (("last.ckpt", file.sha256),) * 2
    assert file.entry == "ema.state_dict"


def checkpoint(prefix: str, **others: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**{f"{prefix}{name}": torch.full(shape, 0.5) for name, shape in SHAPES.items()}, **others}


@pytest.mark.parametrize(
    ("saved", "others"),
    [
        (checkpoint("module.", n_averaged=torch.tensor(7)), "n_averaged"),  # torch.optim.swa_utils.AveragedModel
        (checkpoint("model.", **{"criterion.weight": torch.ones(3)}), "criterion.weight"),  # Lightning
        (checkpoint("module._orig_mod.", n_averaged=torch.tensor(7)), "n_averaged"),
    ],
)
def test_tensors_beside_those_of_the_wrapped_module_are_left_out_and_listed(
    folder: Path, saved: dict[str, torch.Tensor], others: str
) -> None:
    torch.save(saved, "wrapped.pt")
    done = run("transfer", "net.py:make", "net.keras", "--torch-weights", "wrapped.pt", "-o", "moved.keras")
    assert done.exit_code == 0, done.stderr
    said = f"wrapped.pt has other tensors, which the torch module does not have: {others}"
    assert said in in_one_line(done.stdout)
    assert values(folder / "moved.keras") == {0.5}
    done = run("validate", "net.py:make", "moved.keras", "--torch-weights", "wrapped.pt", "--proof", "outputs")
    assert done.exit_code == 0, done.stdout
    assert said in in_one_line(done.stdout)


def test_tensors_among_those_of_the_module_are_refused(folder: Path) -> None:
    torch.save(checkpoint("module.", **{"module.more": torch.ones(3)}), "wrapped.pt")
    done = run("validate", "net.py:make", "net.keras", "--torch-weights", "wrapped.pt")
    assert_refused(done, "more  (torch)  the file has this tensor, but the module does not")


def test_tensors_without_a_prefix_are_refused_as_well(folder: Path) -> None:
    torch.save(checkpoint("", **{"criterion.weight": torch.ones(3)}), "plain.pt")
    done = run("validate", "net.py:make", "net.keras", "--torch-weights", "plain.pt")
    assert_refused(done, "criterion.weight  (torch)  the file has this tensor, but the module does not")


def test_the_fix_of_a_failed_roundtrip_names_the_state_dict_that_was_compared(folder: Path) -> None:
    command = ("validate", "net.py:make", "net.keras", "--torch-weights", "last.ckpt", "--entry", "ema")
    failed = run(*command, "--proof", "roundtrip")
    assert failed.exit_code == 1
    line = "keras3conv transfer net.py:make net.keras --torch-weights last.ckpt --entry ema -o FILE"
    assert line in failed.stdout
    assert run(*line.replace("FILE", "moved.keras").split()[1:]).exit_code == 0
    assert values(folder / "moved.keras") == {0.25}


SEEN = "last.ckpt has another state dict with the same names and shapes, not read here: state_dict"


@pytest.mark.slow
@pytest.mark.parametrize("torch_side", [("last.ckpt",), ("net.py:make", "--torch-weights", "last.ckpt")])
@pytest.mark.parametrize("keras_side", ["net.keras", "net.py:make_keras"])
def test_every_command_says_that_another_state_dict_fits_as_well(
    folder: Path, torch_side: tuple[str, ...], keras_side: str
) -> None:
    options = (*torch_side[1:], "--entry", "ema")
    assert SEEN in in_one_line(run("align", torch_side[0], keras_side, *options, "-o", "plan.json").stdout)
    assert SEEN in Alignment.from_json((folder / "plan.json").read_text()).notes
    moved = run("transfer", torch_side[0], keras_side, *options, "-o", "new.keras", "--accept-unconfirmed")
    assert in_one_line(moved.stdout).count(SEEN) == 1, moved.output
    by_plan = run("transfer", torch_side[0], keras_side, *options, "--plan", "plan.json", "-o", "by_plan.keras")
    assert SEEN in in_one_line(by_plan.stdout), by_plan.output
    for plan in ((), ("--plan", "plan.json")):
        judged = run("validate", torch_side[0], "new.keras", *options, *plan, "--proof", "structure", "--json")
        assert json.loads(judged.stdout)["notes"].count(SEEN) == 1, judged.output


def test_proofs_of_layers_alone_say_that_another_state_dict_fits(folder: Path) -> None:
    torch_weights = ("--torch-weights", "last.ckpt", "--entry", "ema")
    judged = run("validate", "net.py:make", "net.keras", *torch_weights, "--local", "--proof", "structure", "--json")
    assert SEEN in json.loads(judged.stdout)["notes"]


def notes_on(content: object, entry: str, path: Path) -> tuple[str, ...]:
    torch.save(content, path)
    return k3c.view(path).notes if not entry else formats.read(path, entry=entry).notes


def test_other_state_dicts_are_found_under_wrappers_and_prefixes_and_in_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    plain, averaged = checkpoint(""), checkpoint("module.", n_averaged=torch.tensor(7))
    assert "not read here: ema" in notes_on({"model": plain, "ema": averaged}, "model", path)[0]
    assert "not read here: model" in notes_on({"model": plain, "ema": averaged}, "ema", path)[0]
    both = {**checkpoint("student."), **checkpoint("teacher.")}
    assert "not read here: teacher" in notes_on(both, "student", path)[0]
    assert 'not read here: ema; entry="ema" reads it' in notes_on({**plain, "ema": checkpoint("")}, "", path)[0]
    three = {"model": plain, "ema": averaged, "best": checkpoint("")}
    assert (
        "other state dicts with the same names and shapes, not read here: ema, best"
        in notes_on(three, "model", path)[0]
    )
    save_file(both, path.with_suffix(".safetensors"))
    assert "not read here: teacher" in formats.read(path.with_suffix(".safetensors"), entry="student").notes[0]


def test_a_state_dict_with_other_shapes_or_the_same_values_is_not_mentioned(tmp_path: Path) -> None:
    path, plain = tmp_path / "x.pt", checkpoint("")
    smaller = {name: value[:1] for name, value in checkpoint("").items()}
    assert notes_on({"model": plain, "small": smaller}, "model", path) == ()
    assert notes_on({"model": plain, "state_dict": plain}, "model", path) == ()
    assert notes_on({"model": plain, "loss": {"weight": torch.ones(3)}}, "model", path) == ()
