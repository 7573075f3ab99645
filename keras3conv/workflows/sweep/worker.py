"""Run one task in this process: `python -m keras3conv.workflows.sweep.worker FOLDER PARENT`.

The folder contains `task.json`. The process writes its files and `result.json` into the folder. A process that ends
without `result.json` has crashed; the process that started it then writes the result.
"""

import ctypes
import faulthandler
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras3conv.errors import AlignmentError, Keras3ConvError, ProofError
from keras3conv.report.headline import counted, first_cause, most_telling_first
from keras3conv.report.overview import StepResult
from keras3conv.report.report import Report
from keras3conv.workflows.imports import is_installed
from keras3conv.workflows.sweep.outcomes import as_keys, of_error, with_cause, without_present
from keras3conv.workflows.sweep.running import Run, inputs_of, path_of, plan_of, sides_of, weights_of
from keras3conv.workflows.sweep.task import STEPS, Task

RESULT = "result.json"

_DIE_WITH_PARENT = 1
"""The number of Linux's option PR_SET_PDEATHSIG: the signal that a process gets when its parent ends."""


def main(out: Path, parent: int) -> None:
    """Read the task in the file `task.json` of a folder, run it, and write its result into the folder.

    Args:
        out: The folder.
        parent: The identifier of the process that started this one; if it ends, this process is killed, too.
    """
    faulthandler.enable()
    _end_with(parent)
    task = Task.from_json(json.loads((out / "task.json").read_text(encoding="utf-8")))
    os.chdir(task.folder)
    result = run(task, out)
    result["sources"] = dict(_own_sources())
    temporary = out / f"{RESULT}.tmp"
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(out / RESULT)


def run(task: Task, out: Path) -> dict[str, Any]:
    """Run the steps of a task up to the first one that fails, and return the result as JSON data.

    If the outputs of the two models are known to differ, the task has failed, but `validate` runs if the task asks for
    it, because it finds the layer and the cause. Nothing is written by a transfer then.

    Args:
        task: The task.
        out: The folder for its files; the report is saved in it.
    """
    running = Run(task=task, out=out)
    status, outcome, messages = "passed", "", list[str]()
    if task.dtype != "float32":
        from keras3conv.frameworks.default_dtype import set_default_dtype

        set_default_dtype(task.dtype)
    for step in (step for step in STEPS if step in task.do):
        if status != "passed" and step != "validate":
            running.steps.append(StepResult(name=step, status="skipped", outcome="the outputs are known to differ"))
            continue
        try:
            step_outcome = _DO[step](running)
        except (Keras3ConvError, OSError, MemoryError) as error:
            messages.append(without_present(as_keys(f"{type(error).__name__}: {error}"), vars(task)))
            sys.stderr.write(f"{step}: {messages[-1]}\n")  # into log.txt, to which the overview points
            step_outcome = as_keys(f"{step}: {of_error(error)}")
            running.steps.append(StepResult(name=step, status="failed", outcome=step_outcome))
            if status == "passed":
                status, outcome = _status_of(error), step_outcome
            if not (isinstance(error, AlignmentError) and _is_worth_validating(running)):
                break
        else:
            running.steps.append(StepResult(name=step, status="passed", outcome=step_outcome))
            outcome = step_outcome if status == "passed" else outcome
    report = running.report
    if report is not None:
        report.save(out / "report.html")
        report.save(out / "report.json")
    if status == "failed" and report is not None and (failed := most_telling_first(report)):
        outcome = with_cause(f"{failed[0].name}: {failed[0].outcome}", first_cause(report))
    proofs = [StepResult(name=one.name, status=one.status, outcome=one.outcome) for one in _sections(report)]
    return {
        "status": status,
        "outcome": outcome,
        "message": "\n".join(messages),
        "steps": [asdict(step) for step in running.steps],
        "proofs": [asdict(proof) for proof in proofs],
        "files": running.files,
    }


def _is_worth_validating(running: Run) -> bool:
    """Return whether `validate` should run although the task stopped, because the outputs are known to differ."""
    task, plan = running.task, running.plan
    is_known = plan is not None and bool(plan.difference) and not plan.problems()
    return is_known and "validate" in task.do and not task.accept_difference


def _status_of(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    return "failed" if isinstance(error, AlignmentError | ProofError) else "unusable"


def _sections(report: Report | None) -> tuple[Any, ...]:
    return () if report is None else report.sections


def _align(running: Run) -> str:
    from keras3conv.messages import count
    from keras3conv.workflows.files import write_plan

    plan = plan_of(running)
    write_plan(plan, running.out / "plan.json", overwrite=True)
    _accepted(running).check()
    known = f"; {plan.difference}" if plan.difference else ""
    return f"{count(len(plan.pairs), 'pair')}{known}"


def _accepted(running: Run) -> Any:
    """Return the plan of the task.

    If the task accepts different outputs, the remark that the outputs differ is removed from the plan.
    """
    plan = plan_of(running)
    return plan.accepting_difference() if running.task.accept_difference else plan


def _transfer(running: Run) -> str:
    plan = _accepted(running)
    plan.check()
    report = _moved(running, plan, tuple(running.out / name for name in running.task.write))
    running.files += [{**asdict(file), "path": Path(file.path).name} for file in report.files]
    running.report = running.report or report
    return report.sections[0].outcome


def _moved(running: Run, plan: Any, paths: tuple[Path, ...]) -> Report:
    """Transfer the weights in the direction that the task asks for, and return the report of the transfer.

    Args:
        running: The task.
        plan: The pairs of tensors.
        paths: The files to write; without any, only a live target is filled.
    """
    from keras3conv import formats
    from keras3conv.workflows.factories import files_of_factory
    from keras3conv.workflows.transfer import Options, transfer

    task = running.task
    torch, keras = sides_of(running)
    source, target = (keras, torch) if formats.side_of(Path(task.write[0])) == "torch" else (torch, keras)
    options = Options(out=paths, overwrite=True, cast=task.cast)
    named = task.torch if source is torch else task.keras
    loaded = files_of_factory(named, weights_of(task), source.side) if source.is_live else ()
    return transfer(source.source, target.source, plan, options, entry=task.entry, loaded=loaded)


def _convert(running: Run) -> str:
    from keras3conv.formats.identify import is_architecture
    from keras3conv.workflows.convert import convert
    from keras3conv.workflows.factories import files_of_factory, require_used_by_convert, resolve
    from keras3conv.workflows.files import random_origin

    task = running.task
    weights = weights_of(task)
    found = None if is_architecture(task.model) else resolve(task.model, weights)
    require_used_by_convert(weights, task.model, found)
    is_live = found is not None and found.is_live
    conversion = convert(
        found.source if found is not None and is_live else Path(task.model),
        weights=None if is_live else task.keras_weights or None,
        channels=task.channels or None,  # type: ignore[arg-type]
        inputs=inputs_of(task),
        dynamic=None,
        validate=True,
        read=files_of_factory(task.model, weights, found.side) if found is not None and is_live else (),
        origin=random_origin(task.shape) if task.shape else "",
    )
    written = conversion.save(running.out / "converted")
    running.files += [{**asdict(file), "path": f"converted/{Path(file.path).name}"} for file in written]
    assert conversion.report is not None
    running.report = conversion.report
    conversion.report.raise_if_failed()
    return counted(conversion.report)


def _validate(running: Run) -> str:
    from keras3conv.numerics.judgement import Tolerance
    from keras3conv.validators.running.options import Options
    from keras3conv.workflows.factories import code_of_factories
    from keras3conv.workflows.files import read_class_names, read_inputs, read_labels
    from keras3conv.workflows.validate import validate

    task = running.task
    torch, keras = sides_of(running)
    if _is_refused(running) and torch.is_live and keras.is_live:
        _moved(
            running, plan_of(running).accepting_difference(), ()
        )  # the proofs compare both models with equal weights
    options = Options(
        proofs=task.proofs,
        tolerance=Tolerance(absolute=task.tolerance[0], relative=task.tolerance[1]) if task.tolerance else None,
        training=task.training,
        labels=read_labels(path_of(task.labels)),
        class_names=read_class_names(path_of(task.class_names)) or (),
        onnx=task.onnx,
        backends=task.backends,
        expected=path_of(task.expected),
    )
    running.report = validate(
        torch.source,
        keras.source,
        inputs=inputs_of(task),
        keras_inputs=read_inputs(path_of(task.keras_inputs)),
        plan=plan_of(running),
        options=options,
        entry=task.entry,
        weight_files=(path_of(task.torch_weights), path_of(task.keras_weights)),
        code=code_of_factories(task.torch, task.keras),
        data=[path_of(one) for one in (task.inputs, task.keras_inputs, task.labels, task.expected)],
    )
    running.report.raise_if_failed()
    return counted(running.report)


def _is_refused(running: Run) -> bool:
    """Return whether the task asks for a transfer that was not done, because the outputs are known to differ."""
    return "transfer" in running.task.do and any(one.status != "passed" for one in running.steps)


_DO: dict[str, Callable[[Run], str]] = {
    "align": _align,
    "transfer": _transfer,
    "convert": _convert,
    "validate": _validate,
}


def _own_sources() -> Iterator[tuple[str, str]]:
    """Yield the path and sha256 of every imported Python file that belongs to no installed package."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        is_ours = name.partition(".")[0] in ("keras3conv", "__main__")
        if is_ours or not isinstance(file, str) or is_installed(Path(file)) or not Path(file).is_file():
            continue
        path = Path(file).resolve()
        yield str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def _end_with(parent: int) -> None:
    """Let Linux kill this process when its parent ends, so that no task runs on after its sweep was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit("the process that started this task has ended, so the task ends, too")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
