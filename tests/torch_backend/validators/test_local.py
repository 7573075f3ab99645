"""Local proofs: every pair of layers alone, also for models without values whose weights are in files."""

from functools import partial
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import keras3conv as k3c
from benchmarks._memory import Growth
from keras3conv.cli.commands import app
from keras3conv.errors import InputError, ModelError
from keras3conv.frameworks.stored import with_stored_values
from keras3conv.model.views import ModelView
from keras3conv.report.report import Report
from keras3conv.report.values import Section
from keras3conv.validators.local import LOCAL, PROOFS
from keras3conv.workflows import local as local_workflow
from tests.support.models import randomize

TORCH_WEIGHTS, KERAS_WEIGHTS = "net.safetensors.index.json", "net.weights.json"


class Net(nn.Module):
    """Layers of many kinds: indices, channels, statistics, gates, several arguments, a bare tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.conv, self.bn = nn.Embedding(20, 8), nn.Conv1d(8, 6, 3, padding="same"), nn.BatchNorm1d(6)
        self.norm, self.lstm = nn.LayerNorm(6), nn.LSTM(6, 5, batch_first=True)
        self.attention, self.fc = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.bn(self.conv(self.words(x).transpose(1, 2))).transpose(1, 2))
        return self.fc(self.lstm(self.attention(x, x, x)[0])[0])


def twin(epsilon: float = 1e-5) -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Conv1D(6, 3, padding="same", name="conv")(layers.Embedding(20, 8, name="words")(inputs))
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn")(x)
    x = layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    x = layers.LSTM(5, return_sequences=True, name="lstm")(layers.MultiHeadAttention(2, 3, name="attention")(x, x))
    return keras.Model(inputs, layers.Dense(3, name="fc")(x), name="twin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of both sides, sharded, and their plan."""
    folder = tmp_path_factory.mktemp("weights")
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model).check()
    (folder / "plan.json").write_text(plan.to_json())
    k3c.transfer(module, model, plan, out=folder / "net.weights.h5", max_shard_size=1000)
    k3c.transfer(model, module, plan, out=folder / "net.safetensors", max_shard_size=1000)
    return folder


def local(folder: Path, epsilon: float = 1e-5, **options: Any) -> Report:
    """Return the certificate of two models on the meta device, whose values are in the files."""
    with torch.device("meta"):
        module = Net()
    with keras.device("meta"):
        model = twin(epsilon)
    given: dict[str, Any] = {
        "plan": k3c.Alignment.from_json((folder / "plan.json").read_text()),
        "local": {"torch": folder / TORCH_WEIGHTS, "keras": folder / KERAS_WEIGHTS},
    }
    return k3c.validate(module, model, **(given | options))


def section(report: Report, name: str) -> Section:
    (found,) = [section for section in report.sections if section.name == name]
    return found


@pytest.mark.slow
def test_pairs_of_models_without_values_are_proven_alone_and_the_report_says_so(folder: Path) -> None:
    report = local(folder)
    assert report.ok, str(report)
    for name in PROOFS:
        found = section(report, name)
        assert found.status == "passed"
        assert found.claim.startswith(LOCAL)
        assert [row[0] for row in found.tables[0].rows] == ["words", "conv", "bn", "norm", "lstm", "attention", "fc"]
    assert section(report, "roundtrip").status == "passed"
    facts = section(report, "hyperparameters").facts
    assert "lstm: LSTM: return_state" in facts["not compared"]
    assert "differs in training only" not in facts, (
        "an output_shape of the attention that is not given is no difference"
    )
    for name in ("activations", "gradients"):
        assert "not run as a whole" in section(report, name).reason


@pytest.mark.slow
def test_a_wrong_epsilon_is_named_with_its_cause(folder: Path) -> None:
    report = local(folder, epsilon=1e-3, proofs=["hyperparameters", "float64"])
    for name in ("hyperparameters", "float64"):
        found = section(report, name)
        assert found.status == "failed"
        (problem,) = found.problems
        assert (problem.torch, problem.keras) == ("norm", "norm")
        assert "1e-05" in str(problem)
        assert "0.001" in str(problem)


@pytest.mark.slow
def test_a_wrong_weight_is_named(folder: Path, tmp_path: Path) -> None:
    module, model = Net(), twin()
    plan = k3c.Alignment.from_json((folder / "plan.json").read_text())
    k3c.transfer(folder / TORCH_WEIGHTS, model, plan)
    kernel = model.get_layer("fc").kernel
    kernel.assign(kernel * (1 + 1e-3))
    model.save_weights(tmp_path / "wrong.weights.h5")
    files = {"torch": folder / TORCH_WEIGHTS, "keras": tmp_path / "wrong.weights.h5"}
    report = local(folder, local=files, proofs=["roundtrip", "float64", "outputs"])
    assert [(found.name, found.status) for found in report.sections] == [
        ("structure", "passed"),
        ("roundtrip", "failed"),
        ("float64", "passed"),  # under probe weights the layers agree
        ("outputs", "failed"),
    ]
    for name in ("roundtrip", "outputs"):
        (problem,) = section(report, name).problems
        assert (problem.torch, problem.keras) == ("fc", "fc")
    assert module.training, "the module is not part of this proof"


@pytest.mark.slow
def test_the_command_line_makes_the_models_without_values(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    monkeypatch.setattr(local_workflow, "with_stored_values", partial(noting_values, made))
    files = ["--torch-weights", str(folder / TORCH_WEIGHTS), "--keras-weights", str(folder / KERAS_WEIGHTS)]
    sides = [f"{__name__}:Net", f"{__name__}:twin", "--plan", str(folder / "plan.json")]
    result = CliRunner().invoke(app, ["validate", *sides, *files, "--local", "--proof", "float64"])
    assert result.exit_code == 0, result.output
    assert "local: 7 pairs, 0 of them different" in result.output
    assert made == [True, True]


def noting_values(made: list[bool], model: ModelView, path: Path, *, entry: str = "") -> ModelView:
    """Note whether the view of a model has no values, and return it with the values of the file."""
    with pytest.raises(ModelError, match="meta device: it has no values"):
        model.read(next(model.tensors()).path)
    made.append(True)
    return with_stored_values(model, path, entry=entry)


class Tagged(nn.Module):
    """A layer after a tensor of its own, and a layer after flattened images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv(x)).flatten(1))


def test_pairs_that_only_the_whole_model_can_prove_are_listed_with_the_reason() -> None:
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    module, model = randomize(Tagged()), keras.Model(inputs, keras.layers.Dense(5, name="fc")(x))
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    found = section(k3c.validate(module, model, plan=plan, local=True), "float64")
    assert found.status == "passed"
    assert [row[0] for row in found.tables[0].rows] == ["conv"]
    assert found.facts["not proven alone"] == (
        "fc: the order of the kernel rows depends on the axes that are flattened before the layer; "
        "conv: its activation, which is beside the layer in torch"
    )
    assert found.summary == "local: 1 pair, 0 of them different; 1 not proven alone"


def stack(width: int, depth: int) -> tuple[nn.Module, keras.Model]:
    """Return two equal stacks of layers without values."""
    with torch.device("meta"):
        module = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
    with keras.device("meta"):
        layers = [keras.layers.Dense(width, name=f"dense_{place}") for place in range(depth)]
        return module, keras.Sequential([keras.Input((width,)), *layers])


def peak_of_local_float64(folder: Path, width: int, depth: int) -> int:
    """Prove a stack whose values are in two files; return the bytes of anonymous memory that this took."""
    module, model = stack(width, depth)
    torch_weights, keras_weights = folder / f"{width}.safetensors", folder / f"{width}.weights.h5"
    save_file({name: torch.rand(value.shape) for name, value in module.state_dict().items()}, torch_weights)
    plan = k3c.align(torch_weights, model)
    k3c.transfer(torch_weights, keras_weights, plan)
    files = {"torch": torch_weights, "keras": keras_weights}
    with Growth() as growth:
        report = k3c.validate(module, model, plan=plan, local=files, proofs=["float64"])
    assert section(report, "float64").status == "passed"
    return growth.bytes


@pytest.mark.slow
def test_only_the_tensors_of_one_pair_are_in_memory(tmp_path: Path) -> None:
    peak_of_local_float64(tmp_path, width=8, depth=1)  # what is imported and cached once
    width, depth = 1024, 12
    in_float64 = 8 * width * width
    both_models = 2 * depth * in_float64
    assert peak_of_local_float64(tmp_path, width, depth) < 10 * in_float64 < both_models / 2


def test_the_values_of_a_file_are_those_of_the_model(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"fc\.weight +\(torch\) +is in the file, but not in the model"):
        k3c.validate(nn.LSTM(6, 5), twin(), local={"torch": folder / TORCH_WEIGHTS})


def test_a_file_without_hyper_parameters_is_refused_with_a_fix(folder: Path) -> None:
    with pytest.raises(InputError, match=r'does not have the hyper-parameters(.|\n)*local={"torch": ".*index\.json"}'):
        k3c.validate(folder / TORCH_WEIGHTS, twin(), local=True)
