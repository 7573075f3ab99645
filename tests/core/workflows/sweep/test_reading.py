"""Sweep files: their expansion to tasks, and the problems that are reported before any task runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import InputError
from keras3conv.workflows.sweep import checks
from keras3conv.workflows.sweep.reading import Sweep, read_file, read_tasks
from keras3conv.workflows.sweep.run import sweep
from tests.support.sweeps import write_files


def read(folder: Path, text: str) -> Sweep:
    path = folder / "sweep.toml"
    path.write_text(text)
    return read_file(path)


def names(found: Sweep) -> list[str]:
    assert found.faults == ()
    return [one.task.name for one in found.placed]


def facts(found: Sweep) -> list[str]:
    return [f"{fault.where}: {fault.fact}" for fault in sorted(found.faults)]


def test_a_glob_becomes_a_task_for_each_file_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoints=11)
    found = read(tmp_path, '[[task]]\ntorch = "checkpoints/*.safetensors"\nkeras = "fc.h5"\n')
    assert names(found) == [f"step{place}" for place in range(11)]
    assert found.placed[10].task.torch == "checkpoints/step10.safetensors"


def test_the_other_keys_can_name_the_file_of_a_glob(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoints=2)
    text = '[[task]]\nname = "net-{stem}"\ntorch = "checkpoints/*.safetensors"\nkeras = "{stem}.h5"\n'
    found = read(tmp_path, text)
    assert names(found) == ["net-step0", "net-step1"]
    assert [one.task.keras for one in found.placed] == ["step0.h5", "step1.h5"]


def test_a_matrix_becomes_a_task_for_each_combination(tmp_path: Path) -> None:
    text = '[[task]]\nmodel = "nets.py:make"\nmatrix = { backend = ["torch", "jax"], dtype = ["float32", "float64"] }\n'
    found = read(tmp_path, text)
    assert names(found) == [
        "make-torch-float32",
        "make-torch-float64",
        "make-jax-float32",
        "make-jax-float64",
    ]
    assert [(one.task.backend, one.task.dtype) for one in found.placed][1:3] == [
        ("torch", "float64"),
        ("jax", "float32"),
    ]


def test_a_matrix_of_models_makes_their_names(tmp_path: Path) -> None:
    text = '[[task]]\ntorch = ["nets.py:a", "nets.py:b"]\nkeras = "k.py:{stem}"\n[task.matrix]\nbackend = ["jax"]\n'
    assert names(read(tmp_path, text)) == ["a-jax", "b-jax"]


def test_defaults_hold_for_every_task_that_does_not_say_otherwise(tmp_path: Path) -> None:
    text = """
[defaults]
time_limit = 5
memory_limit = "2 GiB"
shape = [1, 3]
[[task]]
model = "nets.py:a"
[[task]]
model = "nets.py:b"
shape = [2, 4]
"""
    first, second = (one.task for one in read(tmp_path, text).placed)
    assert (first.time_limit, first.memory_limit, first.shape) == (5.0, 2 * 1024**3, (1, 3))
    assert (second.time_limit, second.shape) == (5.0, (2, 4))


def test_golden_outputs_may_come_with_the_inputs_of_keras(tmp_path: Path) -> None:
    text = '[[task]]\ntorch = "nets.py:b"\nkeras = "nets.py:c"\nexpected = "y.npz"\nkeras_inputs = "x.npz"\n'
    assert not [one for one in facts(read(tmp_path, text)) if "without inputs" in one]
    text = text.replace("keras_inputs", "labels")
    assert [one for one in facts(read(tmp_path, text)) if "expected is given without inputs" in one]


def test_one_model_is_converted_and_two_are_validated_by_default(tmp_path: Path) -> None:
    text = '[[task]]\nmodel = "nets.py:a"\n[[task]]\ntorch = "nets.py:b"\nkeras = "nets.py:c"\n'
    assert [one.task.do for one in read(tmp_path, text).placed] == [("convert",), ("validate",)]


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ('tolerence = [1, 2]', "line 4: tolerence is not a key; did you mean tolerance?"),
        ('transfer = true', 'line 4: transfer is not a key, but a step of a task: do = ["transfer"]'),
        ('channels = "middle"', "line 4: channels: 'middle' is not allowed here; the allowed values are first, last"),
        ("shape = [1, 0]", "line 4: shape: the value must be a list of sizes, as [1, 3, 224, 224], but is [1, 0]"),
        ("shape = [[1, 2], [3]]",
            ("line 4: shape: the value must be a list of sizes, as [1, 3, 224, 224] (a model with several inputs needs "
            'a file of them: inputs = "inputs.npz"), but is [[1, 2], [3]]')
        ),
        ("shape = true", "line 4: shape: the value must be a list of sizes, as [1, 3, 224, 224], but is True"),
        ('do = ["validate", "prove"]',
            "line 4: do: 'prove' is not allowed here; the allowed values are align, transfer, convert, validate"
        ),
        ('backend = "mxnet"',
            "line 4: backend: 'mxnet' is not allowed here; the allowed values are torch, jax, tensorflow"
        ),
        ('memory_limit = "lots"', "line 4: memory_limit: 'lots' is not an amount of memory; write it as \"4 GiB\""),
        ("time_limit = 0", "line 4: time_limit: the value must be a number of seconds, but is 0"),
        ("tolerance = 1e-5",
            "line 4: tolerance: the value must be two numbers, the absolute and the relative tolerance, but is 1e-05"
        ),
        ('write = ["x.h5"]', 'line 4: t: the key write is only for a transfer: do = ["transfer"]'),
        ('do = ["transfer"]',
            'line 4: t: a transfer needs the key write, the files to write: write = ["weights.safetensors"]'
        ),
        ('do = ["convert"]',
            "line 4: t: convert makes the second model, so the task needs the key model, not torch and keras"
        ),
        ('expected = "x.npz"',
            "line 4: t: expected is given without inputs, but the expected outputs belong to certain inputs"
        ),
        ('class_names = "x.txt"', "line 4: t: class_names is given without labels, which it needs"),
        ("matrix = { name = [\"a\"] }", "line 4: name is not a key that a matrix can vary"),
        ("matrix = { backend = \"jax\" }",
            "line 4: the key backend of the matrix must be a list of values, but is 'jax'"
        ),
        ('torch_weights = "none/*.pt"', "line 4: no file matches the pattern none/*.pt"),
        ("torch_weights = []", "line 4: the list of files is empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, line: str, fact: str) -> None:
    text = f'[[task]]\nname = "t"\ntorch = "nets.py:a"\n{line}\nkeras = "nets.py:b"\n'
    assert facts(read(tmp_path, text)) == [fact]


def test_a_wrong_value_makes_no_second_problem(tmp_path: Path) -> None:
    text = '[[task]]\nname = "t"\ntorch = "n.py:a"\nkeras = "n.py:b"\ndo = ["transfer", "validat"]\nwrite = ["x.h5"]\n'
    (fact,) = facts(read(tmp_path, text))
    assert fact.startswith("line 5: do: 'validat' is not allowed here")


def test_an_unknown_proof_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    (fact,) = facts(read(tmp_path, '[[task]]\nmodel = "nets.py:a"\nproofs = ["flaot64"]\n'))
    assert fact.startswith(
        "line 3: proofs: 'flaot64' is not allowed here; the allowed values are structure, roundtrip, "
    )


def test_the_same_name_twice_is_reported_with_both_lines(tmp_path: Path) -> None:
    text = '[[task]]\nname = "a"\nmodel = "n.py:a"\n[[task]]\nname = "A"\nmodel = "n.py:b"\n'
    assert facts(read(tmp_path, text)) == [
        "line 5: A: the name of this task is taken: line 1 has a task of the same name"
    ]


def test_two_keys_with_several_files_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoints=2)
    text = '[[task]]\ntorch = "checkpoints/*.safetensors"\nkeras = ["a.h5", "b.h5"]\n'
    assert facts(read(tmp_path, text)) == [
        'line 3: torch has several files too, so name the file of this key with "{stem}", its name'
    ]


def test_unknown_tables_and_settings_are_reported(tmp_path: Path) -> None:
    text = '[sweep]\njob = 2\n[default]\n[[task]]\nmodel = "n.py:a"\n'
    assert facts(read(tmp_path, text)) == [
        "line 2: job is not a key; did you mean jobs?",
        "line 3: the table [default] is unknown; a sweep file has [sweep], [defaults] and [[task]]",
    ]


@pytest.mark.parametrize(("text", "message"), [("x = ", "is not TOML"), ("", r"the file has no table \[\[task\]\]")])
def test_a_file_without_tasks_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        sweep(tmp_path / "sweep.toml", tmp_path / "results")


def test_all_problems_are_reported_at_once_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"\x10")
    (tmp_path / "quits.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    path = tmp_path / "sweep.toml"
    path.write_text("""\
[[task]]
name = "good"
torch = "net.safetensors"
keras = "fc.h5"
chanels = "first"

[[task]]
name = "good"
torch = "broken.safetensors"
keras = "missing.h5"

[[task]]
name = "factories"
torch = "planted.py:absent"
keras = "quits.py:make"

[[task]]
name = "more"
torch = "planted.py:needs"
keras = "raises.py:make"
inputs = "x.npz"

[[task]]
name = "last"
torch = "no_such_module_of_anyone:make"
keras = "fc.h5"
torch_weights = "fc.h5"
""")
    with monkeypatch.context() as patch:
        patch.delattr("keras3conv.workflows.sweep.run.faults_of_factories")  # a mistyped key is told without imports
        with pytest.raises(InputError, match=r"6 problems(.*\n)+.*line 5 +chanels is not a key; did you mean channels"):
            sweep(path, tmp_path / "results")
    mended = (
        path.read_text().replace("chanels", "channels").replace('"good"\ntorch = "broken', '"second"\ntorch = "broken')
    )
    path.write_text(mended)
    with pytest.raises(InputError) as caught:
        sweep(path, tmp_path / "results")
    said = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert said[0] == "sweep.toml: 9 problems, so nothing was run"
    assert [re.sub(" +", " ", line.strip()).partition(": ")[0] for line in said[1:]] == [
        "line 9 second",
        "line 10 second",
        "line 14 factories",
        "line 15 factories",
        "line 19 more",
        "line 20 more",
        "line 21 more",
        "line 25 last",
        "line 27 last",
    ]
    text = "\n".join(said)
    for fact in (
        "broken.safetensors",
        "missing.h5 does not exist",
        "planted.py has no model or function absent; it has crash, hang, grow, raises, needs",
        "quits.py:make cannot be imported: the process ended with exit status 7",
        "planted.py:needs needs the argument argument",
        "ZeroDivisionError",
        "x.npz does not exist",
        "no_such_module_of_anyone is neither in",
        "fc.h5 is a keras file",
    ):
        assert fact in text
    assert not (tmp_path / "results" / "tasks").exists()


def test_a_factory_that_takes_too_long_to_import_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "IMPORT_SECONDS", 0.2)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    answers = checks.import_factories([(str(tmp_path), "slow.py:make")], "")
    assert answers == {
        (str(tmp_path), "slow.py:make"): "slow.py:make cannot be imported: the import takes longer than 0.2 seconds"
    }


def test_tasks_of_a_program_are_named_by_their_index() -> None:
    tasks: list[dict[str, Any]] = [{"model": "nets.py:a"}, {"model": "nets.py:b", "shpe": [1]}]
    found = read_tasks(tasks, "mine")
    assert [f"{fault.where}: {fault.fact}" for fault in found.faults] == [
        "task 2: shpe is not a key; did you mean shape?"
    ]
