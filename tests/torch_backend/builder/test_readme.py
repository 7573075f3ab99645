"""The code blocks of the page about conversion run unchanged."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import pytest
from keras.src.legacy.saving import legacy_h5_format

from tests.support.cli_runs import run
from tests.torch_backend.builder.test_convert import randomised
from tests.torch_backend.test_readme import DOCS
from tests.torch_backend.test_readme import run as run_recipe

layers = keras.layers

KERAS_NET = """
import keras

def make():
    return keras.Sequential([
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(2, name="dense"),
    ], name="net")
"""
NET = """
from torch import nn

def make():
    first = nn.Conv2d(3, 4, 3, stride=2)
    return nn.Sequential(first, nn.ReLU(), nn.BatchNorm2d(4, eps=1e-3), nn.Flatten(), nn.Linear(36, 2))
"""


def section(title: str, language: str) -> list[str]:
    """Return the fenced blocks of a language between a heading and the next one."""
    text = (DOCS / "convert.md").read_text().partition(f"# {title}\n")[2].partition("\n#")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    monkeypatch.chdir(tmp_path)
    Path("keras_net.py").write_text(KERAS_NET)
    Path("net.py").write_text(NET)
    names: dict[str, object] = {}
    exec(KERAS_NET, names)  # noqa: S102 - the text above
    model = randomised(names["make"]())  # type: ignore[operator]
    model.save("model.keras")
    model.save_weights("model.weights.h5")
    Path("model.json").write_text(model.to_json())
    return model


@pytest.mark.slow
def test_the_code_blocks_about_conversion_run(net: keras.Model, tmp_path: Path) -> None:
    first, second = section("From Keras to PyTorch", "py")
    run_recipe(f"import keras3conv as k3c\n{first}")
    used = f"{second}\nimport torch\nprint(model(torch.zeros(1, 3, 8, 8)).tolist())"
    finished = subprocess.run(
        [sys.executable, "-c", used], cwd=tmp_path / "resnet8", capture_output=True, text=True, check=True
    )
    assert finished.stdout.startswith("[[")
    assert {path.name for path in (tmp_path / "resnet8").iterdir()} >= {"model.py", "report.html", "metadata.json"}


@pytest.mark.slow
def test_the_commands_for_a_file_without_code_run(net: keras.Model, tmp_path: Path) -> None:
    (block,) = section("I have an .h5 and no code", "sh")
    commands = [line.partition("  #")[0].split() for line in block.splitlines()]
    assert [command[0] for command in commands] == 3 * ["keras3conv"]
    finished = [run(*command[1:]) for command in commands]
    assert [each.exit_code for each in finished] == [3, 0, 0], finished
    assert "# after a flatten of 4 channels" in finished[0].output
    first, second = ((tmp_path / name / "model.py").read_text() for name in ("a", "b"))
    assert first == second
    assert "keras" not in "".join(line for line in first.splitlines() if "import" in line)
    assert (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize("generation", [2, 3])
def test_inspect_lists_the_settings_that_a_weights_file_has_and_those_it_lacks(
    generation: int, net: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "model.weights.h5"
    if generation == 2:
        path = tmp_path / "old.h5"
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, net)
    said = run("inspect", str(path)).output
    assert "3 -> 4 channels, window 3 x 3, strides ?, padding ?, activation ?" in said
    assert "36 -> 2, activation ?" in said
    assert "4 features, epsilon ?" in said
    assert "contains weights, but no architecture" in said
    assert ("in the order of the model" in said) == (generation == 2)
    for untold in ("strides", "padding", "activations", "epsilons", "connections"):
        assert untold in said


def test_inspect_reports_no_missing_settings_for_a_file_with_an_architecture(net: keras.Model, tmp_path: Path) -> None:
    said = run("inspect", str(tmp_path / "model.keras")).output
    assert "no architecture" not in said
    assert "strides ?" not in said
