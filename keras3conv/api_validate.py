"""`validate`: the two sides are brought to life, and every judge is asked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras3conv.alignment import Alignment
from keras3conv.api import Model, both_given, build, check_sides, traced_views, view
from keras3conv.errors import InputError
from keras3conv.frameworks.detect import side_and_form
from keras3conv.planner import plan as make_plan
from keras3conv.report import Report, Section, current_environment
from keras3conv.validators.subject import Subject

Judge = Callable[[Subject], Section]

Progress = Callable[[str, int, int], None]
"""Told before every judge: its name, how many are done, how many there are."""

CLAIMED_AFTER_STRUCTURE = "the plan has problems, so the models cannot be compared"


def judges(*, onnx: bool = False) -> tuple[tuple[str, Judge], ...]:
    """The judges, in the order in which a certificate lists them; the cross-check through ONNX where it is wanted."""
    from keras3conv.validators import activations, float64, outputs, roundtrip, structure

    fourth: tuple[tuple[str, Judge], ...] = ()
    if onnx:
        from keras3conv.validators import onnx_crosscheck

        fourth = ((onnx_crosscheck.NAME, onnx_crosscheck.check),)
    return (
        ("structure", structure.check),
        ("roundtrip", roundtrip.check),
        ("float64", float64.check),
        ("activations", activations.check),
        ("outputs", outputs.check),
        *fourth,
    )


def validate(
    torch: Model,
    keras: Model,
    *,
    inputs: Any,
    keras_inputs: Any,
    plan: Alignment | None,
    onnx: bool,
    backends: Sequence[str] | None,
    progress: Progress | None = None,
) -> Report:
    """See `keras3conv.validate`; `progress` hears of every judge before it is asked."""
    if backends:
        raise InputError("validate does not run other backends yet: leave backends out")
    check_sides(torch, keras)
    subject, notes = _subject(torch, _alive(keras), inputs, keras_inputs, plan)
    return Report(
        title=f"Certificate: {subject.torch_view.title} <-> {subject.keras_view.title}",
        sections=tuple(_sections(subject, progress, onnx=onnx)),
        environment=current_environment(),
        notes=tuple(notes),
    )


def _sections(subject: Subject, progress: Progress | None, *, onnx: bool) -> list[Section]:
    sections: list[Section] = []
    asked = judges(onnx=onnx)
    for name, check in asked:
        if progress:
            progress(name, len(sections), len(asked))
        if sections and sections[0].status == "failed":
            reason = CLAIMED_AFTER_STRUCTURE
            sections.append(Section(name=name, status="skipped", claim="", summary="not judged", reason=reason))
        else:
            sections.append(check(subject))
    return sections


def _alive(keras: Model) -> Model:
    """A Keras file with an architecture is made a model of; anything else is left as it is."""
    if side_and_form(keras)[1] == "live" or not any(layer.config for layer in view(keras).layers):
        return keras
    from keras3conv.frameworks import keras_files

    return keras_files.load(Path(keras))


def _subject(
    torch: Model, keras: Model, inputs: Any, keras_inputs: Any, plan: Alignment | None
) -> tuple[Subject, list[str]]:
    build(keras, inputs, keras_inputs)
    torch_view, keras_view = view(torch), view(keras)
    files = [name for name, model in (("torch", torch), ("keras", keras)) if side_and_form(model)[1] == "file"]
    if files:
        plan = plan or make_plan(torch_view, keras_view)
        reason = f"the {' and the '.join(files)} side is a file of weights: there is nothing to run"
        return Subject(plan=plan, torch_view=torch_view, keras_view=keras_view, not_run=reason), []
    given = both_given(torch_view, keras_view, inputs, keras_inputs)
    if plan is None:
        plan = make_plan(*traced_views(torch, keras, (torch_view, keras_view), given))
    subject = Subject(plan=plan, torch_view=torch_view, keras_view=keras_view, torch=torch, keras=keras, inputs=given)
    return subject, [given.note, *_mode_notes(torch)]


def _mode_notes(torch: Model) -> list[str]:
    from keras3conv.frameworks import torch_side

    if torch_side.training_modules(torch):
        return ["the torch module is in training mode; it was judged in evaluation mode, and is as it was"]
    return []


__all__ = ["judges", "validate"]
