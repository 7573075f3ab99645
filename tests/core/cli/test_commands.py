"""The command line without frameworks: files, plans, rules and refusals."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from keras3conv import __version__, formats
from keras3conv.cli.commands import app
from keras3conv.cli.lines import as_options

ROOT = Path(__file__).resolve().parents[3]

HEAVY = ("torch", "keras", "jax", "tensorflow")


def run(*arguments: str | Path) -> Result:
    """Run the command line in this process and return its result."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def import_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the import path, to which factories add their folder."""
    path = [*sys.path]
    yield
    sys.path[:] = path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Save a torch checkpoint of two blocks and a head."""
    path = tmp_path / "net.safetensors"
    generator = np.random.default_rng(0)
    tensors = {
        "fc.weight": (2, 5),
        "fc.bias": (2,),
        **{f"blocks.{place}.weight": (7 + place, 6 + place) for place in range(2)},
        **{f"twins.{place}.weight": (3, 3) for place in range(4)},
    }
    save_file({name: generator.standard_normal(shape, dtype=np.float32) for name, shape in tensors.items()}, path)
    return path


@pytest.fixture
def small_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_file({"fc.weight": np.ones((2, 5), np.float32), "fc.bias": np.zeros(2, np.float32)}, path)
    return path


@pytest.fixture
def keras_weights(tmp_path: Path) -> Path:
    """Save the weights of one Dense layer in the format of Keras 2."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        layer = file.create_group("dense")
        layer.attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
        layer["dense/kernel:0"] = np.arange(10, dtype=np.float32).reshape(5, 2)
        layer["dense/bias:0"] = np.ones(2, np.float32)
    return path


@pytest.fixture
def plan(small_checkpoint: Path, keras_weights: Path, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    assert run("align", small_checkpoint, keras_weights, "-o", path).exit_code == 0
    return path


def assert_refused(result: Result, *words: str, status: int = 2) -> None:
    """Assert the exit status, a message on stderr that contains some words, and an empty stdout."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


# What it costs


# Help


@pytest.mark.slow
def test_every_command_has_an_example_in_its_help() -> None:
    for command in ("inspect", "align", "transfer", "validate", "rules", "demo"):
        help_text = run(command, "--help").stdout
        assert f"  Example:\n    keras3conv {command}" in help_text


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"keras3conv {__version__}\n"


def test_an_unknown_option_is_refused() -> None:
    assert run("rules", "--colour").exit_code == 2


# inspect


def test_inspect_lists_layers_and_collapses_repeated_ones(checkpoint: Path) -> None:
    assert run("inspect", checkpoint).stdout == (
        "net.safetensors (torch)\n"
        "  side    torch\n"
        "  format  safetensors\n"
        "\n"
        "layer               class  tensors\n"
        "---------------------------------------------------\n"
        "blocks.0            -      weight (7, 6)\n"
        "blocks.1            -      weight (8, 7)\n"
        "fc                  -      bias (2,), weight (2, 5)\n"
        "twins.{0..3} (x 4)  -      weight (3, 3)\n"
        "\n"
        "7 layers with tensors, 8 tensors, 146 numbers, 584 bytes\n"
    )


def test_inspect_lists_every_layer_when_asked(checkpoint: Path) -> None:
    assert run("inspect", checkpoint, "--all").stdout.count("twins.") == 4


OLD = Path(__file__).parents[2] / "keras2_files" / "tensorflow-2.4.4" / "convolutions.h5"


@pytest.mark.slow
def test_inspect_lists_the_settings_of_an_old_file_that_keras_3_changed() -> None:
    text = run("inspect", OLD).stdout
    said = text.partition("Settings with another name, value or meaning in Keras 3; convert keeps")[2]
    assert "leaky_re_lu        alpha=0.2 is negative_slope=0.2" in said
    changes = json.loads(run("inspect", OLD, "--json").stdout)["read_as_in_keras_2"]
    assert {"layer": "leaky_re_lu", "change": "alpha=0.2 is negative_slope=0.2"} in changes


def test_inspect_as_json_lists_every_tensor(checkpoint: Path) -> None:
    data = json.loads(run("inspect", checkpoint, "--json").stdout)
    assert data["side"] == "torch"
    assert sum(len(layer["tensors"]) for layer in data["layers"]) == 8


# rules


def test_rules_as_json_are_those_of_the_text() -> None:
    data = json.loads(run("rules", "--json").stdout)
    text = run("rules").stdout
    assert all(entry["torch"] in text and entry["keras"] in text for entry in data["supported"])
    assert f"{len(data['supported'])} rules; {len(data['unsupported'])} classes without one" in text
    assert all(reason in text for reason in data["unsupported"].values())


def test_the_text_of_the_rules_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run("rules").stdout.splitlines())) <= 80


def test_rules_as_markdown_share_a_line_over_dimensions() -> None:
    assert "| `nn.BatchNorm{1..3}d` | `layers.BatchNormalization`" in run("rules", "--markdown").stdout


# align and transfer, from file to file


def test_align_prints_the_plan_and_saves_it(small_checkpoint: Path, keras_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    result = run("align", small_checkpoint, keras_weights, "-o", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("small.safetensors (torch) <-> model.h5 (keras): 1 pair, ")
    assert result.stderr == f"saved {path}\n"
    assert json.loads(path.read_text())["keras3conv"] == "alignment"


def test_align_as_json_is_the_plan(small_checkpoint: Path, keras_weights: Path, plan: Path) -> None:
    assert run("align", small_checkpoint, keras_weights, "--json").stdout == plan.read_text()


def test_align_exits_with_one_if_a_tensor_has_no_counterpart(checkpoint: Path, keras_weights: Path) -> None:
    result = run("align", checkpoint, keras_weights)
    assert result.exit_code == 1
    assert "twins.{0..3}  (torch)  weight (3, 3) matched nothing" in result.stdout


def test_an_ignored_layer_is_no_problem(checkpoint: Path, keras_weights: Path) -> None:
    options = ["--ignore=blocks=not needed", "--ignore=twins=not needed"]
    result = run("align", checkpoint, keras_weights, *options)
    assert result.exit_code == 0, result.output
    assert "not needed" in result.stdout
    assert "no problems" in result.stdout


def test_ignore_needs_a_reason_and_a_known_name(checkpoint: Path, keras_weights: Path) -> None:
    assert_refused(run("align", checkpoint, keras_weights, "--ignore", "twins"), "an ignored tensor needs a reason")
    assert_refused(
        run("align", checkpoint, keras_weights, "--ignore", "no=reason"),
        "neither model has a layer or a tensor of this name",
    )


def test_transfer_writes_a_new_file_by_a_plan(small_checkpoint: Path, plan: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.h5"
    result = run("transfer", small_checkpoint, target, "--plan", plan)
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(formats.read(target).read("dense/kernel"), np.ones((5, 2), np.float32))
    assert "Transfer: small.safetensors (torch) -> model.h5 (keras)" in result.stdout


def test_transfer_as_json_names_the_file_and_its_digest(small_checkpoint: Path, plan: Path, tmp_path: Path) -> None:
    result = run("transfer", small_checkpoint, tmp_path / "new.h5", "--plan", plan, "--json")
    (file,) = json.loads(result.stdout)["files"]
    assert file["path"] == str(tmp_path / "new.h5")
    assert len(file["sha256"]) == 64


# What is refused


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert_refused(run("inspect", tmp_path / "none.safetensors"), "FileError: ", "none.safetensors cannot be read")


def test_a_truncated_file_is_refused(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-20])
    assert_refused(run("inspect", checkpoint), "MalformedCheckpoint: ", "net.safetensors")


def test_a_file_with_the_suffix_of_another_format_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    wrong = checkpoint.rename(tmp_path / "net.h5")
    assert_refused(run("inspect", wrong), "contains safetensors, but its suffix is that of HDF5")


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    assert_refused(run("inspect", tmp_path / "model.tflite"), "model.tflite", ".safetensors, ")


def test_an_hdf5_file_without_keras_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 3))
    assert_refused(run("inspect", path), "data.h5")


def test_code_without_a_factory_is_refused_with_an_example(tmp_path: Path) -> None:
    assert_refused(
        run("inspect", tmp_path / "net.py"), "name the function in it that returns the model, too", "net.py:factory"
    )


def test_a_missing_code_file_is_refused(tmp_path: Path) -> None:
    assert_refused(run("inspect", f"{tmp_path / 'net.py'}:make"), "net.py does not exist")


def test_a_missing_module_is_refused() -> None:
    assert_refused(run("inspect", "no_such_module.nets:make"), "the module no_such_module is neither in")


def test_two_files_of_one_framework_are_refused(small_checkpoint: Path, keras_weights: Path) -> None:
    assert_refused(run("align", small_checkpoint, small_checkpoint), "both arguments are torch models")
    assert_refused(run("validate", keras_weights, keras_weights), "both arguments are keras models")
    assert_refused(run("transfer", keras_weights, keras_weights), "source and target are both keras")


def test_json_that_is_no_plan_is_refused(small_checkpoint: Path, keras_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"pairs": []}')
    result = run("transfer", keras_weights, small_checkpoint, "--plan", path, "--overwrite")
    assert_refused(
        result,
        f"FileError: {path}: the JSON is not a plan",
        f"Fix:  keras3conv align TORCH KERAS -o {tmp_path / 'new_plan.json'}",
    )


def test_a_binary_file_as_plan_is_refused(small_checkpoint: Path, keras_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert_refused(run("validate", small_checkpoint, keras_weights, "--plan", path), f"FileError: {path}: ")


def test_a_plan_for_another_model_is_refused(checkpoint: Path, keras_weights: Path, plan: Path) -> None:
    result = run("transfer", keras_weights, checkpoint, "--plan", plan, "--overwrite")
    made_for = "the plan was made for small.safetensors (torch), not for net.safetensors (torch)"
    fix = f"Fix:  keras3conv align {checkpoint} {keras_weights} -o {plan.with_name(f'new_{plan.name}')}"
    assert_refused(result, made_for, fix)


def test_an_existing_file_is_kept_without_the_option(small_checkpoint: Path, keras_weights: Path) -> None:
    before = small_checkpoint.read_bytes()
    assert_refused(
        run("transfer", keras_weights, small_checkpoint),
        "exists, so it was not changed: write a copy with the new weights, or overwrite it",
        f"Fix:  -o {small_checkpoint.with_name('new_small.safetensors')}     or     --overwrite",
    )
    assert small_checkpoint.read_bytes() == before
    assert run("transfer", keras_weights, small_checkpoint, "--overwrite").exit_code == 0
    assert small_checkpoint.read_bytes() != before


def test_an_existing_plan_is_kept_without_the_option(small_checkpoint: Path, keras_weights: Path, plan: Path) -> None:
    assert_refused(run("align", small_checkpoint, keras_weights, "-o", plan), "exists", "--overwrite")


def test_a_missing_target_needs_a_plan(small_checkpoint: Path, tmp_path: Path) -> None:
    result, new = run("transfer", small_checkpoint, tmp_path / "new.h5"), tmp_path / "new.h5"
    transfer = f"keras3conv transfer {small_checkpoint}"
    lines = f"Fix:  {transfer} KERAS.py:make -o {new}", f"{transfer} EXISTING.h5 -o {new}", "--plan PLAN.json"
    written = "write your file for KERAS.py, and for make the function in it that returns the model"
    other = "for EXISTING.h5, a file with weights of the same model"
    assert_refused(result, f"{new} does not exist", f"Below, {written}; {other}", *lines)


def test_nothing_is_written_if_a_tensor_has_no_counterpart(checkpoint: Path, keras_weights: Path) -> None:
    before = keras_weights.read_bytes()
    result = run("transfer", checkpoint, keras_weights, "--overwrite")
    assert_refused(result, "AlignmentError: ", "net.safetensors (torch) and model.h5 (keras)", status=1)
    assert keras_weights.read_bytes() == before


def test_the_line_for_a_layer_without_a_pair_is_a_whole_command(keras_weights: Path, tmp_path: Path) -> None:
    source = tmp_path / "two layers.safetensors"
    arrays = {"fc.weight": (2, 5), "fc.bias": (2,), "extra.weight": (3, 3)}
    save_file({name: np.ones(shape, np.float32) for name, shape in arrays.items()}, source)
    refused = run("transfer", source, keras_weights, "--overwrite")
    assert refused.exit_code == 1
    (line,) = re.findall(r"Fix:  (.+)", refused.stderr)
    program, *arguments = shlex.split(line.replace("plan.json", str(tmp_path / "plan.json")))
    assert (program, run(*arguments).exit_code) == ("keras3conv", 0)
    assert "Then:  the same transfer with --plan plan.json" in refused.stderr
    again = run("transfer", source, keras_weights, "--overwrite", "--plan", tmp_path / "plan.json")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("hint", ["fc", "=dense", "fc="])
def test_a_hint_without_two_names_is_refused(hint: str, small_checkpoint: Path, keras_weights: Path) -> None:
    result = run("align", small_checkpoint, keras_weights, "--hint", hint)
    assert_refused(result, "a hint has the form TORCH_LAYER=KERAS_LAYER", 'Fix:  --hint "fc=dense"')


def test_a_hint_is_shown_as_the_evidence_of_its_pair(small_checkpoint: Path, keras_weights: Path) -> None:
    result = run("align", small_checkpoint, keras_weights, "--hint", "fc=dense")
    assert result.exit_code == 0, result.stderr
    assert " hint " in result.stdout


def test_a_hint_for_an_unknown_layer_is_refused(small_checkpoint: Path, keras_weights: Path) -> None:
    result = run("align", small_checkpoint, keras_weights, "--hint", "head=dense")
    assert_refused(
        result, "head  (torch)  the model has neither a layer nor a tensor of this name; similar names are fc"
    )


def test_inputs_that_are_not_arrays_are_refused(small_checkpoint: Path, keras_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"no arrays")
    assert_refused(run("validate", small_checkpoint, keras_weights, "--inputs", path), "x.npz contains no arrays")
    missing = tmp_path / "none.npz"
    assert_refused(run("validate", small_checkpoint, keras_weights, "--inputs", missing), "none.npz cannot be read")


def test_a_report_of_unknown_format_is_refused(small_checkpoint: Path, keras_weights: Path, tmp_path: Path) -> None:
    result = run("validate", small_checkpoint, keras_weights, "--report", tmp_path / "report.pdf")
    assert_refused(result, "a report is saved as .html, .md, .json, .txt")


def test_fixes_in_messages_use_command_line_options() -> None:
    assert as_options('Fix:  plan = plan.pair("fc", "dense")') == 'Fix:  keras3conv align TORCH KERAS --hint "fc=dense"'
    ignored = as_options('Fix:  plan = plan.ignore("fc", "reason")')
    assert ignored == 'Fix:  keras3conv align TORCH KERAS --ignore "fc=reason"'
    assert as_options("Fix:  k3c.transfer(source, target, plan, cast=True)") == "Fix:  --cast"
    assert as_options("give keras_inputs=...") == "give --keras-inputs FILE.npz"
    assert as_options("give inputs=..., or none") == "give --inputs FILE.npz, or none"


def test_an_onnx_file_is_refused_with_the_command_that_compares_it(tmp_path: Path, keras_weights: Path) -> None:
    said = ("net.onnx is an ONNX file", "Fix:  keras3conv compare-onnx FIRST.onnx SECOND.onnx")
    assert_refused(run("validate", tmp_path / "net.onnx", keras_weights), *said)


# What to do next


def test_the_listing_of_a_file_fits_eighty_columns(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run("inspect", checkpoint).stdout.splitlines())) <= 80
