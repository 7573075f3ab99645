"""The command line with live models: factories, weights, proofs."""

import hashlib
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from keras3conv.cli.files import REPORT_SUFFIXES
from keras3conv.report.digests import named_files
from keras3conv.report.report import Report
from tests.support.cli_models import MODELS, save_and_forget
from tests.support.cli_runs import assert_refused, run


@pytest.mark.slow
def test_align_transfer_and_validate_pass(models: Path, keras_file: Path, moved: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = run("validate", f"{models}:make", keras_file, "--torch-weights", moved, "--report", page)
    assert result.exit_code == 0, result.output
    assert "Passed: 7 passed" in result.stdout
    assert page.read_text().startswith("<!")


@pytest.mark.slow
def test_the_certificate_states_the_digest_of_every_file_that_was_read(
    models: Path, keras_file: Path, moved: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    run("validate", f"{models}:make", keras_file, "--torch-weights", moved, "--report", report)
    read = Report.from_json(report.read_text())
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (models, keras_file, moved)}
    assert dict(named_files(read)) == expected
    assert json.loads(report.read_text())["status"] == "passed"


@pytest.mark.slow
def test_the_digest_of_a_factory_in_a_package_is_stated_too(
    models: Path, keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("validate", "models:make", keras_file, "--proof", "structure", "--json")
    assert f"models.py: {models.stat().st_size:,} bytes, sha256" in " ".join(json.loads(result.stdout)["notes"])


OWN = """
import keras

DECORATOR
class Gain(keras.layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return x * self.gain

def save(path):
    keras.Sequential([keras.Input((4,)), Gain(name="gain"), keras.layers.Dense(2)]).save(path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("decorator", ['@keras.saving.register_keras_serializable("mine")', ""])
def test_a_file_with_a_class_of_the_user_is_converted_with_import(decorator: str, tmp_path: Path) -> None:
    code, path = tmp_path / "models_of_mine.py", tmp_path / "own.keras"
    code.write_text(OWN.replace("DECORATOR", decorator))
    save_and_forget(code, path)
    refused = run("convert", path, "-o", tmp_path / "out", "--no-validate")
    assert_refused(refused, "Gain is not part of Keras", "Fix:  --import FILE.py  # your file with the class Gain")
    done = run("convert", path, "-o", tmp_path / "out", "--import", code)
    assert done.exit_code == 0, done.output
    assert f"models_of_mine.py: {code.stat().st_size:,} bytes, sha256" in " ".join(done.stdout.split())
    again = run("convert", path, "-o", tmp_path / "out", "--import", code, "--verbose")
    assert_refused(again, "out exists")
    assert "build" not in again.stderr
    for name in ("Gain", "mine>Gain"):
        keras.saving.get_custom_objects().pop(name, None)


def test_code_to_import_that_raises_is_named(tmp_path: Path) -> None:
    (tmp_path / "models_bad.py").write_text("1 / 0")
    result = run("convert", "x.keras", "-o", tmp_path / "out", "--import", tmp_path / "models_bad.py")
    assert_refused(result, "ZeroDivisionError", "line 1")


def test_a_plan_with_problems_prints_the_whole_command(models: Path, keras_file: Path, tmp_path: Path) -> None:
    torch.save({"first.weight": torch.zeros(7, 5), "other.weight": torch.zeros(3, 9)}, tmp_path / "half.pt")
    result = run("align", tmp_path / "half.pt", keras_file, "--ignore", "first/bias=none", "-o", tmp_path / "p.json")
    assert result.exit_code == 1, result.output
    line = result.stdout.partition("Fix:  ")[2].splitlines()[0]
    start = f"keras3conv align {tmp_path / 'half.pt'} {keras_file} --ignore first/bias=none --out {tmp_path / 'p.json'}"
    assert line.startswith(f"{start} --overwrite --ignore ")


def test_a_hint_joins_two_layers_as_the_plan_spells_them(tmp_path: Path) -> None:
    checkpoint, file = tmp_path / "net.pt", tmp_path / "net.keras"
    depthwise, pointwise = torch.nn.Conv2d(4, 4, 3, groups=4, bias=False), torch.nn.Conv2d(4, 6, 1)
    torch.save(torch.nn.ModuleDict({"dw": depthwise, "pw": pointwise}).state_dict(), checkpoint)
    keras.Sequential([keras.Input((5, 6, 4)), keras.layers.SeparableConv2D(6, 3, name="sep")]).save(file)
    result = run("align", checkpoint, file, "--hint", "dw + pw=sep")
    assert result.exit_code == 0, result.output
    assert "dw + pw  sep    SeparableConv2D  hint" in result.stdout
    assert_refused(run("align", checkpoint, file, "--hint", "dw + pq=sepp"), "names are pw, dw", "sep")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", REPORT_SUFFIXES)
def test_two_files_are_compared_by_their_weights(suffix: str, keras_file: Path, moved: Path, tmp_path: Path) -> None:
    weights, report = tmp_path / "net.weights.h5", tmp_path / f"report{suffix}"
    keras.saving.load_model(keras_file).save_weights(weights)
    result = run("validate", moved, weights, "--report", report)
    assert result.exit_code == 0, result.output
    assert "2 passed, 5 skipped" in result.stdout
    command = f"TORCH.py:make KERAS.py:make --torch-weights {moved} --keras-weights {weights}"
    assert f"to run both models:  keras3conv validate {command}" in result.stderr
    assert "Certificate: net.safetensors (torch)" in report.read_text()


@pytest.mark.slow
def test_two_files_with_different_weights_fail(models: Path, keras_file: Path, moved: Path, tmp_path: Path) -> None:
    weights = tmp_path / "net.weights.h5"
    model = keras.saving.load_model(keras_file)
    model.get_layer("second").bias.assign([0.0, 0.5, 0.0])
    model.save_weights(weights)
    result = run("validate", moved, weights)
    assert result.exit_code == 1
    assert "second" in result.stdout


@pytest.mark.slow
def test_weights_are_loaded_into_the_model_that_a_keras_factory_returns(
    models: Path, keras_file: Path, moved: Path
) -> None:
    arguments = (f"{models}:make", f"{models}:make_keras", "--torch-weights", moved, "--keras-weights", keras_file)
    result = run("validate", *arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_a_model_that_differs_fails_with_the_cause(models: Path, keras_file: Path, moved: Path) -> None:
    result = run("validate", f"{models}:wrong", keras_file, "--torch-weights", moved)
    assert result.exit_code == 1
    assert "Failed" in result.stdout
    assert "differs" in result.stdout


@pytest.mark.slow
def test_a_factory_that_draws_new_weights_is_named_first(
    models: Path, keras_file: Path, moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sides = ("models.py:make", "net.keras", "--proof", "roundtrip")
    failed = run("validate", *sides)
    said = " ".join(failed.stdout.split())
    assert failed.exit_code == 1
    reason = "models.py:make (torch) was called without --torch-weights, so its weights are new random ones, not those"
    assert 0 < said.index(reason) < said.index("structure")
    assert "let the function load them" in said
    assert "transfer" not in said  # that is what the user has just done
    assert set(re.findall(r"Fix: +(.+)", failed.stdout)) == {"--torch-weights FILE"}
    assert run("validate", *sides, "--torch-weights", moved).exit_code == 0
    data = json.loads(run("validate", *sides, "--proof", "activations", "--proof", "outputs", "--json").stdout)
    found = {section["name"]: section for section in data["sections"]}
    assert found["roundtrip"]["facts"]["called without a file of weights"] == "models.py:make"
    assert found["activations"]["status"] == found["outputs"]["status"] == "skipped"
    assert "are random ones, not those that were transferred" in found["outputs"]["reason"]


@pytest.mark.slow
def test_other_weights_are_no_reason_to_name_the_factory(
    models: Path, keras_file: Path, moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = load_file(moved)
    changed["hidden.weight"] = changed["hidden.weight"] + 1
    save_file(changed, "changed.safetensors")
    code = "\n\ndef load():\n    import safetensors.torch as files\n    net = Net()\n"
    code += "    net.load_state_dict(files.load_file('changed.safetensors'))\n    return net\n"
    (tmp_path / "models_that_load.py").write_text(MODELS + code)
    failed = run("validate", "models_that_load.py:load", "net.keras", "--proof", "roundtrip")
    assert failed.exit_code == 1, failed.output
    assert "was called without" not in failed.stdout
    assert "Fix:  keras3conv transfer models_that_load.py:load net.keras -o FILE" in failed.stdout
    given = ("--torch-weights", "changed.safetensors")
    failed = run("validate", "models.py:make", "net.keras", *given, "--proof", "roundtrip")
    assert "Fix:  keras3conv transfer models.py:make net.keras --torch-weights changed.safetensors -o FILE" in (
        failed.stdout
    )


@pytest.mark.slow
def test_different_weights_fail(models: Path, keras_file: Path) -> None:
    assert run("validate", f"{models}:make", keras_file).exit_code == 1


@pytest.mark.slow
def test_a_torch_checkpoint_is_transferred_to_a_keras_file(models: Path, moved: Path, tmp_path: Path) -> None:
    path = tmp_path / "back.keras"
    result = run("transfer", moved, f"{models}:make_keras", "-o", path)
    assert result.exit_code == 0, result.stderr
    assert run("validate", f"{models}:make", path, "--torch-weights", moved).exit_code == 0


@pytest.mark.slow
def test_a_plan_is_saved_and_used(models: Path, keras_file: Path, moved: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert run("align", f"{models}:make", keras_file, "-o", path).exit_code == 0
    arguments = (f"{models}:make", keras_file, "--torch-weights", moved, "--plan", path)
    result = run("validate", *arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_inputs_come_from_a_file(models: Path, keras_file: Path, moved: Path, tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones((4, 5), np.float32))
    arguments = (f"{models}:make", keras_file, "--torch-weights", moved, "--inputs", path)
    result = run("validate", *arguments)
    assert result.exit_code == 0, result.output
    assert "inputs from inputs.npz; those of Keras" in result.stdout


@pytest.mark.slow
def test_a_certificate_names_the_files_of_arrays_with_their_digests(
    models: Path, keras_file: Path, moved: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "in.npz", x=rng.standard_normal((4, 5)).astype(np.float32))
    np.save(tmp_path / "classes.npy", np.zeros(4, np.int64))
    arguments = (f"{models}:make", keras_file, "--torch-weights", moved, "--inputs", tmp_path / "in.npz")
    result = run("validate", *arguments, "--labels", tmp_path / "classes.npy", "--json")
    assert result.exit_code == 0, result.output
    certificate = json.loads(result.stdout)
    sources = {source["path"]: source for source in certificate["sources"]}
    for name in ("in.npz", "classes.npy"):
        content = (tmp_path / name).read_bytes()
        assert sources[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert f"{name}: {len(content):,} bytes, sha256 {sources[name]['sha256']}" in certificate["notes"]


def test_stdout_has_the_result_and_no_output_of_the_factory(models: Path, keras_file: Path) -> None:
    result = run("align", f"{models}:make", keras_file, "--json")
    assert json.loads(result.stdout)["keras3conv"] == "alignment"
    assert "a note of the factory" in result.stderr


def test_two_torch_modules_are_refused(models: Path) -> None:
    assert_refused(run("align", f"{models}:make", f"{models}:wrong"), "both arguments are torch models")


@pytest.mark.slow
def test_weights_of_another_module_are_refused_with_every_name(models: Path, moved: Path, keras_file: Path) -> None:
    result = run("validate", f"{models}:wide", keras_file, "--torch-weights", moved)
    assert_refused(
        result,
        f"the weights in {moved} are not the weights of Net (torch)",
        "extra.weight  (torch)  the module has this tensor, but the file does not",
    )


def test_weights_that_the_module_lacks_are_refused(models: Path, keras_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.safetensors"
    save_file({"hidden.weight": torch.ones(7, 4), "more": torch.ones(2)}, path)
    result = run("validate", f"{models}:make", keras_file, "--torch-weights", path)
    assert_refused(
        result,
        "hidden.weight  (torch)  this tensor is float32 (7, 4) in the file, but float32 (7, 5) in the module",
        "more           (torch)  the file has this tensor, but the module does not",
    )


def test_weights_of_the_other_framework_are_refused(models: Path, keras_file: Path, moved: Path) -> None:
    arguments = (f"{models}:make", f"{models}:make_keras")
    assert_refused(
        run("align", *arguments, "--torch-weights", keras_file),
        "contains Keras weights, but torch weights are needed here",
    )
    assert_refused(
        run("align", *arguments, "--keras-weights", moved), "contains torch weights, but Keras weights are needed here"
    )


def test_weights_of_another_keras_model_are_refused(models: Path, keras_file: Path) -> None:
    result = run("align", f"{models}:make", f"{models}:other_keras", "--keras-weights", keras_file)
    assert_refused(
        result, f"the weights in {keras_file} are not the weights of", "variables of shape (5, 7), and the model 0"
    )


def test_a_live_target_without_an_output_file_is_refused(models: Path, keras_file: Path) -> None:
    assert_refused(
        run("transfer", keras_file, f"{models}:make"),
        "its model needs a file to be saved to, but none is given\nFix:  -o net.safetensors",
    )


def test_a_layer_without_a_pair_stops_the_transfer(models: Path, keras_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    result = run("transfer", keras_file, f"{models}:wide", "-o", path)
    assert_refused(result, "1 problem in the alignment of Net (torch)", "extra", status=1)
    assert not path.exists()


def test_an_interrupt_ends_without_a_traceback(models: Path) -> None:
    result = run("inspect", f"{models}:interrupted")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted\n")


@pytest.mark.slow
def test_verbose_prints_the_steps_of_a_validation_with_their_seconds(models: Path, keras_file: Path) -> None:
    result = run("validate", f"{models}:make", keras_file, "--proof", "outputs", "--verbose")
    assert re.findall(r"^ +\d+\.\d\d s  (.*)", result.stderr, flags=re.MULTILINE) == [
        "probe: run both models, pair their layers",
        "make the plan",
        "read and align the models",
        "structure",
        "outputs",
    ]


def test_without_a_probe_no_model_is_run(models: Path, keras_file: Path) -> None:
    probed, unprobed = (run("align", f"{models}:make", keras_file, *more) for more in ((), ("--no-probe",)))
    assert (probed.exit_code, unprobed.exit_code) == (0, 0)
    assert "not probed: the Keras side is a file" in unprobed.stdout
    assert "not probed" not in probed.stdout


@pytest.mark.slow
def test_quiet_prints_no_output_and_keeps_the_exit_status(models: Path, keras_file: Path, tmp_path: Path) -> None:
    result = run("validate", f"{models}:make", keras_file, "-q", "--report", tmp_path / "report.html")
    assert (result.exit_code, result.output) == (1, "")
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_conversion_can_leave_out_the_proofs(keras_file: Path, tmp_path: Path) -> None:
    result = run("convert", keras_file, "-o", tmp_path / "net", "--no-validate")
    assert result.exit_code == 0, result.output
    assert "not validated: nothing is proven" in result.stderr
    assert not (tmp_path / "net" / "report.html").exists()


@pytest.mark.slow
def test_a_conversion_says_below_the_verdict_that_an_output_has_another_order_than_in_keras(tmp_path: Path) -> None:
    path = tmp_path / "tagger.keras"
    keras.Sequential([keras.Input((9, 5)), keras.layers.Conv1D(3, 1)]).save(path)
    line = "output 0 is (batch, 3, 9), channels second; Keras returns (batch, 9, 3); {} keeps Keras' order"
    shown = run("convert", path, "-o", tmp_path / "net").stdout
    below = shown.partition("Passed")[2].partition("structure")[0]
    assert line.format("--channels last") in " ".join(below.split())
    printed = run("convert", path, "-o", tmp_path / "json", "--json")
    assert line.format('channels="last"') in json.loads(printed.stdout)["notes"]
    unproven = run("convert", path, "-o", tmp_path / "unproven", "--no-validate")
    assert line.format("--channels last") in " ".join(unproven.stderr.split())
    kept = run("convert", path, "-o", tmp_path / "kept", "--channels", "last")
    assert "channels second" not in kept.stdout


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    def missing(path: Path) -> bool:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr("keras3conv.demo.story.tell", missing)
    assert_refused(run("demo"), 'this command needs sklearn: pip install "keras3conv[demo]"')


def test_all_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch, keras_file: Path) -> None:
    monkeypatch.setattr("keras3conv.errors.find_spec", lambda _: None)
    assert_refused(
        run("convert", keras_file, "-o", "net"), 'convert needs torch and keras: pip install "keras3conv[torch,keras]"'
    )
    assert_refused(run("demo"), 'needs torch, keras and sklearn: pip install "keras3conv[torch,keras,demo]"')


@pytest.mark.slow
def test_an_unknown_exception_has_a_traceback_and_not_the_status_of_a_failed_proof(
    keras_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(
        "import torch\n\n\nclass Own(Exception):\n    pass\n\n\nclass Broken(torch.nn.Linear):\n"
        "    def forward(self, x):\n        raise Own('of its own')\n\n\ndef make():\n    return Broken(3, 3)\n"
    )
    result = run("validate", f"{path}:make", keras_file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.rstrip().endswith("Own: of its own")
