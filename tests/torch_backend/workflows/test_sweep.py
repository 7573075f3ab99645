"""A sweep of live models: conversions in both directions, a transfer with its proof, and a pair that differs."""

import tomllib
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from keras3conv.report.report import Report
from keras3conv.validators.judges import judges
from keras3conv.validators.running.options import Options
from keras3conv.workflows.sweep.outcomes import as_keys, without_present
from keras3conv.workflows.sweep.run import sweep
from keras3conv.workflows.sweep.task import KEYS, OPTIONAL_PROOFS, PROOFS, Task
from keras3conv.workflows.sweep.worker import run

NETS = """
import keras
import torch


def net():
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))


def keras_net():
    layers = [keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def keras_net_of_another_activation():
    layers = [keras.Input((6,)), keras.layers.Dense(4, "gelu"), keras.layers.Dense(3)]
    return keras.Sequential(layers)
"""

TASKS = """
[[task]]
name = "to-keras"
model = "nets.py:net"
shape = [2, 6]
dtype = "float16"

[[task]]
name = "wrong-{backend}"
torch = "nets.py:net"
keras = "nets.py:keras_net_of_another_activation"
do = ["transfer", "validate"]
write = ["net.safetensors"]
accept_difference = true
proofs = ["float64"]
matrix = { backend = ["jax"] }
"""


def test_the_proofs_of_a_sweep_are_those_of_a_certificate() -> None:
    every = Options(labels=[0], onnx=True, backends="all", expected=[np.zeros(1)])
    assert {name for name, _ in judges(every)} == {*PROOFS, *OPTIONAL_PROOFS}
    assert tuple(name for name, _ in judges()) == PROOFS


NORMALIZED = """
import keras
import torch


def net():
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.LayerNorm(4, eps=1e-5), torch.nn.Linear(4, 3))


def keras_net_of_another_epsilon():
    layers = [keras.layers.Dense(4), keras.layers.LayerNormalization(epsilon=1e-1, name="norm"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6,)), *layers])
"""


@pytest.mark.slow
def test_validate_names_the_layer_and_the_cause_if_align_knows_a_difference(tmp_path: Path) -> None:
    nets = tmp_path / "normalized_nets.py"
    nets.write_text(NORMALIZED)
    task = Task(
        name="wrong",
        torch=f"{nets}:net",
        keras=f"{nets}:keras_net_of_another_epsilon",
        do=("align", "transfer", "validate"),
        write=("net.weights.h5",),
    )
    result = run(task, tmp_path)
    assert [(step["name"], step["status"]) for step in result["steps"]] == [
        ("align", "failed"),
        ("transfer", "skipped"),
        ("validate", "failed"),
    ]
    assert result["status"] == "failed"
    assert result["outcome"].startswith("1 <-> norm: ")
    assert "eps" in result["outcome"]
    assert "; float64: " in result["outcome"]
    assert {proof["name"]: proof["status"] for proof in result["proofs"]}["roundtrip"] == "passed"
    assert (tmp_path / "report.html").is_file()
    assert not (tmp_path / "net.weights.h5").exists()
    assert not result["files"]


@pytest.mark.slow
def test_align_stops_at_a_known_difference_unless_the_task_accepts_it(tmp_path: Path) -> None:
    nets = tmp_path / "nets_of_one_task.py"
    nets.write_text(NETS)
    task = Task(
        name="wrong",
        torch=f"{nets}:net",
        keras=f"{nets}:keras_net_of_another_activation",
        do=("align", "transfer"),
        write=("net.safetensors",),
    )
    refused = run(task, tmp_path)
    assert (refused["status"], refused["steps"][-1]["name"]) == ("failed", "align")
    fix = refused["message"].partition("Fix:  ")[2]
    assert tomllib.loads(fix) == {"do": ["align", "transfer", "validate"]}
    assert "accept_difference = true moves the weights" in refused["message"]
    task = replace(task, do=tuple(tomllib.loads(fix)["do"]))
    assert "relu" in run(task, tmp_path)["outcome"]
    accepted = run(replace(task, proofs=("roundtrip",), accept_difference=True), tmp_path)
    assert [step["name"] for step in accepted["steps"]] == ["align", "transfer", "validate"]
    assert "differ" in accepted["steps"][0]["outcome"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        Task(name="a", do=("convert",), model="nets.py:net", shape=(2, 6), keras_weights="net.weights.h5"),
        Task(name="b", do=("validate",), torch="nets.py:net", keras="net.keras", keras_weights="net.weights.h5"),
    ],
    ids=lambda task: task.name,
)
def test_weights_that_no_model_of_a_task_gets_are_refused(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)]).save("net.keras")
    run(task, tmp_path / "out")
    assert 'keras_weights = "net.weights.h5" would not be used, because' in "".join(capsys.readouterr())


def test_the_log_of_a_task_has_the_error_that_stopped_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import torch\n\n\nclass Total(torch.nn.Module):\n    def forward(self, x):\n        return x + x.sum(0)\n"
    (tmp_path / "total.py").write_text(code)
    task = Task.from_json({"name": "a", "model": f"{tmp_path}/total.py:Total", "shape": [2, 3], "do": ["convert"]})
    result = run(task, tmp_path)
    assert result["status"] == "failed"
    assert f"convert: {result['message']}" in capsys.readouterr().err
    assert "batch axis" in result["message"]
    assert "cannot be converted to Keras" in result["outcome"]
    assert "batch axis" in result["outcome"]


def test_lines_of_an_error_are_keys_of_the_sweep_file() -> None:
    lines = {
        'plan = plan.pair("fc", "dense")': {"hints": {"fc": "dense"}},
        'plan = plan.ignore("fc", "not trained")': {"ignore": {"fc": "not trained"}},
        "k3c.transfer(source, target, plan, cast=True)": {"cast": True},
        "k3c.convert(module, inputs=torch.zeros(1, 3, 224, 224))": {"shape": [1, 3, 224, 224]},
    }
    for line, keys in lines.items():
        assert tomllib.loads(as_keys(line)) == keys
        assert set(keys) <= set(KEYS)


@pytest.mark.slow
def test_a_sweep_runs_each_model_in_its_own_process_with_its_backend_and_its_dtype(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "sweep.toml").write_text(TASKS)
    overview = sweep(tmp_path / "sweep.toml", tmp_path / "results")
    rows = {row.name: row for row in overview.rows}
    messages = "\n".join(row.message for row in overview.rows)
    assert {name: row.status for name, row in rows.items()} == {"to-keras": "passed", "wrong-jax": "failed"}, messages
    assert (rows["wrong-jax"].first_failure, rows["wrong-jax"].steps[-1].name) == ("float64", "validate")
    assert rows["wrong-jax"].backend == "jax"
    report = Report.from_json((tmp_path / "results" / "tasks" / "wrong-jax" / "report.json").read_text())
    assert report.environment["KERAS_BACKEND"] == "jax"
    assert {"structure", "outputs", "float64"} <= rows["to-keras"].proven
    assert str((tmp_path / "nets.py").resolve()) in rows["to-keras"].sources
    assert rows["to-keras"].dtype == "float16"
    converted = tmp_path / "results" / "tasks" / "to-keras" / "converted"
    assert {"model.py", "model.weights.h5", "report.json"} <= {path.name for path in converted.iterdir()}


@pytest.mark.slow
def test_a_task_converts_a_keras_model_to_torch(tmp_path: Path) -> None:
    nets = tmp_path / "nets_to_torch.py"
    nets.write_text(NETS)
    result = run(Task(name="a", model=f"{nets}:keras_net", do=("convert",)), tmp_path)
    assert (result["status"], [step["name"] for step in result["steps"]]) == ("passed", ["convert"]), result
    found = {path.name for path in (tmp_path / "converted").iterdir()}
    assert {"model.py", "weights.safetensors", "report.json"} <= found


@pytest.mark.slow
def test_a_task_aligns_transfers_and_validates(tmp_path: Path) -> None:
    nets = tmp_path / "nets_to_move.py"
    nets.write_text(NETS)
    task = Task(
        name="moved",
        torch=f"{nets}:net",
        keras=f"{nets}:keras_net",
        do=("align", "transfer", "validate"),
        write=("net.safetensors",),
    )
    result = run(task, tmp_path)
    assert result["status"] == "passed", result
    assert [(step["name"], step["status"]) for step in result["steps"]] == [
        ("align", "passed"),
        ("transfer", "passed"),
        ("validate", "passed"),
    ]
    proven = {proof["name"] for proof in result["proofs"] if proof["status"] == "passed"}
    assert {"structure", "outputs", "float64"} <= proven


@pytest.mark.parametrize(
    ("task", "left"),
    [
        ({"do": ("align", "transfer", "validate")}, "\nFix:  accept_difference = true"),
        ({"do": ("align",)}, '\nFix:  do = ["align", "transfer", "validate"]     or     accept_difference = true'),
        ({"do": ("align", "validate", "transfer"), "accept_difference": True}, ""),
    ],
)
def test_a_task_is_not_told_to_take_options_that_it_has(task: dict[str, object], left: str) -> None:
    lines = 'do = ["align", "transfer", "validate"]     or     accept_difference = true'
    assert without_present(f"AlignmentError: they differ\nFix:  {lines}\nmore", task) == (
        f"AlignmentError: they differ{left}\nmore"
    )
