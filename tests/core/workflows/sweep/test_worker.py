"""The order of the steps of a task in its process, with stand-ins for the steps, without frameworks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keras3conv.errors import AlignmentError, InputError, ProofError
from keras3conv.workflows.sweep import worker
from keras3conv.workflows.sweep.task import Task

TASK = Task(name="a", torch="t", keras="k", do=("align", "transfer", "validate"), write=("w.h5",))


class Steps:
    """Stand-ins for the steps; `errors` has the error that a step raises, `problems` those of the plan."""

    def __init__(self, **errors: Exception) -> None:
        self.errors, self.done, self.problems = errors, list[str](), list[str]()

    def step(self, name: str) -> Any:
        def run(running: Any) -> str:
            running.plan = SimpleNamespace(difference="they differ", problems=lambda: self.problems)
            self.done.append(name)
            if name in self.errors:
                raise self.errors[name]
            return f"{name} is done"

        return run


def run(monkeypatch: pytest.MonkeyPatch, out: Path, steps: Steps, task: Task = TASK) -> dict[str, Any]:
    monkeypatch.setattr(worker, "_DO", {name: steps.step(name) for name in task.do})
    return worker.run(task, out)


def test_a_known_difference_fails_the_task_skips_the_transfer_and_goes_on_to_validate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = Steps(align=AlignmentError("first line\n  they differ"), validate=ProofError("the cause"))
    result = run(monkeypatch, tmp_path, steps)
    assert steps.done == ["align", "validate"]
    assert [step["status"] for step in result["steps"]] == ["failed", "skipped", "failed"]
    assert (result["status"], result["outcome"]) == ("failed", "align: first line: they differ")
    assert result["message"].splitlines()[-1] == "ProofError: the cause"


def test_a_task_with_a_known_difference_has_failed_also_if_its_proofs_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run(monkeypatch, tmp_path, Steps(align=AlignmentError("they differ")))
    assert [step["status"] for step in result["steps"]] == ["failed", "skipped", "passed"]
    assert (result["status"], result["outcome"]) == ("failed", "align: they differ")


def test_a_plan_with_problems_or_another_error_stops_the_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(align=AlignmentError("unpaired"))
    steps.problems.append("fc is unpaired")
    run(monkeypatch, tmp_path, steps)
    assert steps.done == ["align"]
    broken = Steps(align=InputError("no inputs"))
    assert run(monkeypatch, tmp_path, broken)["status"] == "unusable"
    assert broken.done == ["align"]


def test_a_task_that_does_not_ask_for_validate_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(align=AlignmentError("they differ"))
    task = Task(name="a", torch="t", keras="k", do=("align", "transfer"), write=("w.h5",))
    assert run(monkeypatch, tmp_path, steps, task)["status"] == "failed"
    assert steps.done == ["align"]
