"""The saved Keras model runs in new processes: imports of custom classes, outputs, and failures.

A process on jax starts in half the time of one on torch, so it is jax where one backend is as good as another.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras3conv as k3c
from keras3conv.errors import InputError
from keras3conv.frameworks import processes as other_process
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.shared.recording import Recording
from tests.support.own_layers import Halved, twice
from tests.torch_backend.validators.test_certificate import Classifier, failed, twin, with_equal_weights

pytestmark = pytest.mark.slow


def test_a_class_that_another_process_cannot_import_skips_the_proof_with_a_fix() -> None:
    class Own(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    report = k3c.validate(
        **with_equal_weights(Classifier(), twin(last=Own())), backends=["torch", "jax"], proofs=["backends"]
    )
    section = report.section("backends")
    assert section.status == "skipped"
    assert section.reason == (
        "Own is defined inside of a function, where no other process can import it: put it into a module, "
        "my_layers.py, and import it from there: from my_layers import Own"
    )


def test_the_saved_model_with_custom_classes_runs_in_another_process_on_the_chosen_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # which the other process must ignore
    own = keras.Sequential([Halved(), keras.layers.Activation(twice), keras.layers.Activation("linear")])
    report = k3c.validate(**with_equal_weights(Classifier(), twin(last=own)), backends=["jax"], proofs=["backends"])
    report.raise_if_failed()
    section = report.section("backends")
    assert section.status == "passed"
    assert section.tables[0].rows[0][:2] == ("torch", "keras on jax")
    assert os.environ["KERAS_BACKEND"] == "torch"


def test_a_registered_function_is_found_by_another_process(tmp_path: Path) -> None:
    from keras3conv.frameworks.keras.keras2.classes import hard_sigmoid_of_keras_2

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation=hard_sigmoid_of_keras_2)])
    other_process.save(model, np.ones((2, 3), "float32"), tmp_path)
    found = other_process.run_all(tmp_path, ["jax"])["jax"]
    assert isinstance(found, Recording)


def test_a_model_that_cannot_be_loaded_is_reported_once_for_all_backends() -> None:
    model = twin(last=keras.layers.Lambda(lambda x: x))
    section = k3c.validate(
        **with_equal_weights(Classifier(), model), backends=["torch", "jax"], proofs=["backends"]
    ).section("backends")
    assert section.status == "skipped"
    assert section.reason.startswith("torch, jax: ValueError: ")
    assert "\n" not in section.reason


@pytest.mark.parametrize(
    ("code", "said", "timeout"),
    [
        ("import sys; print('planted'); sys.exit(3)", "exit status 3\n      planted", 600.0),
        ("import os; os.abort()", "exit status -6", 600.0),
        ("import time; print('slow', flush=True); time.sleep(600)", "the process timed out", 1.0),
    ],
    ids=["exit", "abort", "timeout"],
)
def test_a_failed_process_is_a_failure_with_its_last_lines(
    code: str, said: str, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def planted(command: list[str], **options: Any) -> Any:
        return start([command[0], "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", planted)
    monkeypatch.setattr(other_process, "TIMEOUT", timeout)
    section = k3c.validate(**with_equal_weights(Classifier(), twin()), backends="torch", proofs=["backends"]).section(
        "backends"
    )
    assert section.status == "failed"
    assert said in section.problems[0].fact


@pytest.mark.parametrize("change", [0.0, 1e-3])
def test_a_backend_with_different_outputs_fails_the_proof(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs of the other process are replaced by those of this process, with and without a change."""
    models = with_equal_weights(Classifier(), twin())

    def planted(folder: Path, backends: Any) -> Any:
        with np.load(folder / "inputs.npz") as inputs:
            outputs = keras_side.run(models["keras"], inputs["array 0"], watch=False).outputs
        changed = {name: array + np.float32(change) for name, array in outputs.items()}
        return dict.fromkeys(backends, Recording(outputs=changed))

    monkeypatch.setattr(other_process, "run_all", planted)
    report = k3c.validate(**models, backends="torch", proofs=["backends"])
    assert failed(report) == (["backends"] if change else [])


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="'numpy' is not a Keras backend"):
        k3c.validate(**with_equal_weights(Classifier(), twin()), backends="numpy")
    with pytest.raises(InputError, match=r'backends must be a list of names .*, but is True\nFix:  backends="all"'):
        k3c.validate(**with_equal_weights(Classifier(), twin()), backends=True)  # type: ignore[arg-type]
