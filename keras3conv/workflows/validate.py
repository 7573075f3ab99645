"""`validate`: the two sides are brought to life, and every judge is asked."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs import Inputs, refuse_unprovable
from keras3conv.frameworks.sides import side_and_form
from keras3conv.planner.plan import plan as make_plan
from keras3conv.report.report import Report, current_environment
from keras3conv.report.values import Section
from keras3conv.validators.judges import Judge, judges
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject
from keras3conv.workflows import align as api_plan
from keras3conv.workflows.sides import (
    Model,
    Views,
    both_given,
    build,
    check_sides,
    opened,
    origin_notes,
    outline,
    traced_views,
    view,
)

Progress = Callable[[str, int, int], None]
"""Told before every judge: its name, how many are done, how many there are."""


CLAIMED_AFTER_STRUCTURE = "the plan has problems, so the models cannot be compared"


def validate(
    torch: Model,
    keras: Model,
    *,
    inputs: Any,
    keras_inputs: Any,
    plan: Alignment | None,
    options: Options,
    progress: Progress | None = None,
) -> Report:
    """See `keras3conv.validate`; `progress` hears of every judge before it is asked."""
    asked = judges(options)
    check_sides(torch, keras)
    if options.expected and inputs is None:
        fix = 'Fix:  validate(torch, keras, inputs=inputs, expected="outputs.npz")'
        raise InputError(f"golden outputs are given without the inputs that they are for\n{fix}")
    subject, notes = _subject(torch, _alive(keras), inputs, keras_inputs, plan, options)
    return Report(
        title=f"Certificate: {' <-> '.join(view.title for view in subject.outlines)}",
        sections=tuple(_sections(subject, asked, progress)),
        environment=current_environment(),
        notes=tuple(notes),
    )


def _sections(subject: Subject, asked: tuple[tuple[str, Judge], ...], progress: Progress | None) -> list[Section]:
    sections: list[Section] = []
    for name, check in asked:
        if progress:
            progress(name, len(sections), len(asked))
        if sections and sections[0].status == "failed":
            reason = CLAIMED_AFTER_STRUCTURE
            sections.append(Section(name=name, status="skipped", claim="", summary="not judged", reason=reason))
        else:
            sections.append(check(subject))
            _require_fitting(subject, sections)
    return sections


def _require_fitting(subject: Subject, sections: list[Section]) -> None:
    """Raises `InputError` for labels that fit no output: as soon as the plan is right, not after all the proofs."""
    from keras3conv.validators import accuracy

    if len(sections) == 1 and sections[0].status != "failed" and subject.options.wants("accuracy"):
        accuracy.require_fitting(subject)


def _alive(keras: Model) -> Model:
    """A Keras file with an architecture is made a model of; anything else is left as it is."""
    keras = opened(keras)
    if side_and_form(keras)[1] == "live" or not any(layer.config for layer in view(keras).layers):
        return keras
    from keras3conv.frameworks.keras import files as keras_files

    return keras_files.load(Path(keras))


def _subject(
    torch: Model, keras: Model, inputs: Any, keras_inputs: Any, plan: Alignment | None, options: Options
) -> tuple[Subject, list[str]]:
    build(keras, inputs, keras_inputs)
    outlines = outline(torch), outline(keras)
    files = [name for name, model in (("torch", torch), ("keras", keras)) if side_and_form(model)[1] == "file"]
    if files:
        reason = f"the {' and the '.join(files)} side is a file of weights: there is nothing to run"
        views = view(torch), view(keras)
        plan = plan or make_plan(*views)
        return Subject(plan=plan, outlines=outlines, views=lambda: views, skip_reason=reason, options=options), []
    given = both_given(*outlines, inputs, keras_inputs)
    refuse_unprovable(given)
    plan = plan or api_plan.planned(torch, keras, (view(torch), view(keras)), inputs, keras_inputs)
    subject = Subject(
        plan=plan,
        outlines=outlines,
        views=partial(_views, torch, keras, given if options.wants("hyperparameters") else None),
        torch=torch,
        keras=keras,
        inputs=given,
        options=options,
    )
    return subject, [given.note, *origin_notes(keras), *_mode_notes(torch)]


def _views(torch: Model, keras: Model, given: Inputs | None) -> Views:
    """Both sides with all that can be told of them; with inputs also what a run tells."""
    views = view(torch), view(keras)
    return views if given is None else traced_views(torch, keras, views, given)


def _mode_notes(torch: Model) -> list[str]:
    from keras3conv.frameworks.torch import module as torch_side

    notes = []
    if torch_side.training_modules(torch):
        notes.append("the torch module is in training mode; it was judged in evaluation mode, and is as it was")
    if torch_side.is_compiled(torch):
        notes.append("the torch module is compiled; it was judged as it was written, uncompiled")
    return notes


__all__ = ["judges", "validate"]
