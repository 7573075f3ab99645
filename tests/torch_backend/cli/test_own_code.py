"""Layers and rules of the user on the command line: --import, classes that Keras does not know, files of code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras3conv.report.digests import named_files
from keras3conv.report.report import Report
from keras3conv.rules.library import list_rules
from keras3conv.rules.registry import ranked, registered
from tests.support.cli_models import MODELS, save_and_forget
from tests.support.cli_runs import assert_refused, run

LAYER = """
import keras

class Gain(keras.layers.Layer):
    def build(self, shape):
        self.log_gain = self.add_weight(name="log_gain", shape=(shape[-1],))

    def call(self, x):
        return x * keras.ops.exp(self.log_gain)

def save(path):
    keras.Sequential([keras.Input((4,)), Gain(name="gain"), keras.layers.Dense(2)]).save(path)
"""

RULE = """
import keras3conv as k3c
from keras3conv.transforms import Axes

k3c.register(k3c.Rule(
    torch="models_torch.Gain", keras="models_keras.Gain", fields={},
    weights=lambda config: (k3c.WeightMapping(torch=("gain",), keras=("log_gain",), transform=Axes("n -> n")),),
    to_keras=lambda config: (k3c.LayerSpec(kind="models_keras.Gain"),),
    to_torch=lambda specs: (k3c.LayerSpec(kind="models_torch.Gain"),),
    examples=(k3c.Example(config={}, inputs=((2, 4),)),),
))
"""


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    list_rules()
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)
    ranked.cache_clear()


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    """Save a model with a layer of the user that Keras does not know afterwards."""
    (tmp_path / "models_keras.py").write_text(LAYER)
    (tmp_path / "models_rule.py").write_text(RULE)
    path = tmp_path / "own.keras"
    save_and_forget(tmp_path / "models_keras.py", path)
    return path


@pytest.mark.slow
def test_inspect_and_rules_run_the_code_of_import(own_file: Path) -> None:
    rule = own_file.parent / "models_rule.py"
    assert "log_gain" not in run("inspect", own_file).stdout
    assert "log_gain (4,)" in run("inspect", own_file, "--import", rule).stdout
    assert "models_torch.Gain" in run("rules", "--json").stdout


@pytest.mark.slow
def test_validate_names_a_class_that_keras_does_not_know_as_convert_does(models: Path, own_file: Path) -> None:
    words = "Gain is not part of Keras", "Fix:  --import FILE.py  # your file with the class Gain"
    assert_refused(run("validate", f"{models}:make", own_file), *words)
    assert_refused(run("convert", own_file, "-o", own_file.parent / "out"), *words)


@pytest.mark.slow
def test_the_certificate_states_the_files_that_the_file_of_a_factory_imports(tmp_path: Path, keras_file: Path) -> None:
    package = tmp_path / "models_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("import json\nfrom . import sizes\n")
    (package / "sizes.py").write_text("WIDTH = 7\n")
    (tmp_path / "models_unused.py").write_text("")
    code = tmp_path / "models_main.py"
    code.write_text(f"from models_package import parts\n{MODELS}")
    report = tmp_path / "report.json"
    run("validate", f"{code}:make", keras_file, "--import", code, "--proof", "structure", "--report", report)
    named = [name for name, _ in named_files(Report.from_json(report.read_text()))]
    assert sorted(named) == ["__init__.py", "models_main.py", "net.keras", "parts.py", "sizes.py"]
    assert json.loads(report.read_text())["notes"]


PAIR = """
import keras
from torch import nn

class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x

def make_torch():
    return nn.Linear(4, 2)

def make_keras():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), Doubled()])
"""


def test_the_command_after_a_transfer_reads_the_weights_into_a_model_with_classes_of_the_user(tmp_path: Path) -> None:
    code, out = tmp_path / "models_pair.py", tmp_path / "out.keras"
    code.write_text(PAIR)
    done = run("transfer", f"{code}:make_torch", f"{code}:make_keras", "-o", out, "--accept-difference")
    assert f"keras3conv validate {code}:make_torch {code}:make_keras --keras-weights {out}" in done.stderr


OWN_MODELS = """
import keras
import torch
from torch import nn


class Scales(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain, self.fc = nn.Parameter(torch.rand(5)), nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(x * self.gain)


DECORATOR
class Scaling(keras.layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(name="gain", shape=(shape[-1],))

    def call(self, x):
        return x * self.gain


def make_keras():
    given = keras.Input((5,))
    return keras.Model(given, keras.layers.Dense(3, name="fc")(Scaling(name="scaling")(given)))
"""


@pytest.mark.parametrize("is_registered", [True, False])
def test_a_transfer_says_which_code_the_written_file_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_registered: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    decorator = '@keras.saving.register_keras_serializable("mine")' if is_registered else ""
    Path("models_own.py").write_text(OWN_MODELS.replace("DECORATOR", decorator))
    moved = run("transfer", "models_own.py:Scales", "models_own.py:make_keras", "-o", "x.keras", "-o", "x.weights.h5")
    assert moved.exit_code == 0, moved.output
    asked = "" if is_registered else "decorate Scaling with @keras.saving.register_keras_serializable(), and "
    line = f"loading x.keras needs your code of Scaling: {asked}import it before keras.models.load_model"
    assert line in moved.stderr
    assert "loading x.weights.h5" not in moved.stderr
