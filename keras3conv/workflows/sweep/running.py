"""Define a running task of a sweep: its models, its inputs and its plan, loaded when a step first needs them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras3conv.report.overview import StepResult
from keras3conv.report.report import Report
from keras3conv.workflows.sweep.task import Task

if TYPE_CHECKING:
    from keras3conv.workflows.factories import Weights


@dataclass(kw_only=True)
class Run:
    """The state of a running task: the models and the plan, which its steps share, and the results of the steps."""

    task: Task
    out: Path
    sides: "tuple[Any, Any] | None" = None
    plan: Any = None
    steps: list[StepResult] = field(default_factory=list)
    report: Report | None = None
    files: list[dict[str, Any]] = field(default_factory=list)


def weights_of(task: Task) -> "Weights":
    """Return the files of weights that are loaded into the models of the task's factories."""
    from keras3conv.workflows.factories import Weights

    return Weights(torch=path_of(task.torch_weights), keras=path_of(task.keras_weights), entry=task.entry)


def sides_of(running: Run) -> tuple[Any, Any]:
    """Return the adapters of the torch model and of the Keras model; the first call loads the models.

    An adapter is the interface through which a model is read and written, independent of its framework.
    """
    if running.sides is None:
        from keras3conv.frameworks.sides import Sides
        from keras3conv.workflows.factories import require_used, resolve

        task = running.task
        weights = weights_of(task)
        torch, keras = resolve(task.torch, weights), resolve(task.keras, weights)
        require_used(weights, (task.torch, torch), (task.keras, keras))
        sides = Sides.of(torch.source, keras.source, entry=task.entry)
        running.sides = sides.torch, sides.keras
    return running.sides


def plan_of(running: Run) -> Any:
    """Return the plan of the task (the pairs of tensors); it is read or computed by the first call."""
    if running.plan is None:
        from keras3conv.workflows.align import align
        from keras3conv.workflows.files import read_inputs, read_plan

        task = running.task
        torch, keras = sides_of(running)
        if task.plan:
            plan = read_plan(Path(task.plan))
        else:
            plan = align(
                torch.source,
                keras.source,
                inputs=inputs_of(task),
                keras_inputs=read_inputs(path_of(task.keras_inputs)),
                hints=dict(task.hints) or None,
                probe=None,
                entry=task.entry,
            )
        for path, reason in task.ignore.items():
            plan = plan.ignore(path, reason)
        running.plan = plan
    return running.plan


def inputs_of(task: Task) -> Any:
    """Return the inputs of a task: random ones of its shape, or those of its file."""
    from keras3conv.workflows.files import random_inputs, read_inputs

    return random_inputs(task.shape, task.dtype) if task.shape else read_inputs(path_of(task.inputs))


def path_of(text: str) -> Path | None:
    """Return the path that a text of a task names; None for an empty text."""
    return Path(text) if text else None
