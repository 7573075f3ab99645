"""Models in files, for the tests of the command line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from tests.support.cli_models import MODELS
from tests.support.cli_runs import run


@pytest.fixture(autouse=True)
def import_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the import path and the loaded modules, which factories change."""
    path, modules = [*sys.path], {*sys.modules}
    yield
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name.startswith(("models", "_given")):
            del sys.modules[name]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def keras_file(models: Path, tmp_path: Path) -> Path:
    """Save the Keras model, with nonzero biases."""
    path = tmp_path / "net.keras"
    image = keras.Input((5,))
    hidden = keras.layers.Dense(7, activation="relu", name="first", bias_initializer="random_normal")(image)
    keras.Model(image, keras.layers.Dense(3, name="second")(hidden), name="net").save(path)
    return path


@pytest.fixture
def moved(models: Path, keras_file: Path, tmp_path: Path) -> Path:
    """Save the weights of the Keras file as a torch checkpoint."""
    path = tmp_path / "net.safetensors"
    result = run("transfer", keras_file, f"{models}:make", "-o", path)
    assert result.exit_code == 0, result.stderr
    return path
