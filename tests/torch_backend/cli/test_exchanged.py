"""Commands that are given the Keras model before the torch model."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.cli_runs import assert_refused, run


def test_two_factories_in_the_other_order_are_exchanged(models: Path) -> None:
    result = run("validate", f"{models}:make_keras", f"{models}:make", "--proof", "structure")
    assert result.exit_code == 0, result.output
    assert f"{models}:make is the torch model, {models}:make_keras the Keras model" in result.stderr


@pytest.mark.slow
def test_the_model_without_values_is_that_of_its_side(models: Path, keras_file: Path, moved: Path) -> None:
    options = ("--torch-weights", moved, "--local", "--proof", "structure")
    result = run("validate", keras_file, f"{models}:make", *options)
    assert result.exit_code == 0, result.output
    assert result.stdout == run("validate", f"{models}:make", keras_file, *options).stdout


def test_an_error_suggests_a_command_with_the_torch_model_first(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("narrow.npz", np.zeros((2, 4), "float32"))
    np.savez("fitting.npz", np.zeros((2, 5), "float32"))
    inputs = ("--inputs", "narrow.npz", "--keras-inputs", "fitting.npz")
    result = run("align", "models.py:make_keras", "models.py:make", *inputs)
    assert_refused(result, "Fix:  keras3conv align models.py:make models.py:make_keras -o plan.json --no-probe")
