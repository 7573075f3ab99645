"""`validate`: the two sides are brought to life, and every judge is asked."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from keras3conv import api_plan
from keras3conv.alignment import Alignment
from keras3conv.api import Model, Views, both_given, build, check_sides, outline, traced_views, view
from keras3conv.errors import InputError
from keras3conv.frameworks.detect import side_and_form
from keras3conv.frameworks.inputs import Inputs, refuse_unprovable
from keras3conv.planner import plan as make_plan
from keras3conv.report import Report, Section, current_environment
from keras3conv.validators.options import Options
from keras3conv.validators.subject import Subject

Judge = Callable[[Subject], Section]

Progress = Callable[[str, int, int], None]
"""Told before every judge: its name, how many are done, how many there are."""

CLAIMED_AFTER_STRUCTURE = "the plan has problems, so the models cannot be compared"

_ASKED_FOR_BY = {"backends": 'backends="all"', "onnx": "onnx=True", "accuracy": "labels=..."}
"""The proofs that a name alone does not ask for."""


def judges(options: Options | None = None) -> tuple[tuple[str, Judge], ...]:
    """The judges, in the order in which a certificate lists them; without options those that are always asked.

    Raises:
        InputError: The options name a proof that there is not.
    """
    from keras3conv.validators import (
        accuracy,
        activations,
        backends,
        float64,
        gradients,
        hyperparameters,
        outputs,
        roundtrip,
        structure,
    )

    options = options or Options()
    found: tuple[tuple[str, Judge], ...] = (
        ("structure", structure.check),
        ("roundtrip", roundtrip.check),
        ("hyperparameters", hyperparameters.check),
        ("float64", float64.check),
        ("activations", activations.check),
        ("outputs", outputs.check),
        ("gradients", gradients.check),
    )
    found += (("backends", backends.check),) if options.backends else ()
    found += (_fourth_opinion(),) if options.onnx else ()
    found += (("accuracy", accuracy.check),) if options.labels is not None else ()
    known = [name for name, _ in found]
    if unknown := [name for name in options.proofs if name not in known]:
        asked = f"\nFix:  validate(..., {_ASKED_FOR_BY[unknown[0]]})" if unknown[0] in _ASKED_FOR_BY else ""
        raise InputError(f"there is no proof {unknown[0]!r} here; there are {', '.join(known)}{asked}")
    # Without a plan that is right nothing else is worth running, so its judge is asked always.
    return tuple((name, check) for name, check in found if options.wants(name) or name == "structure")


def _fourth_opinion() -> tuple[str, Judge]:
    from keras3conv.validators import onnx_crosscheck

    return onnx_crosscheck.NAME, onnx_crosscheck.check


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
    if side_and_form(keras)[1] == "live" or not any(layer.config for layer in view(keras).layers):
        return keras
    from keras3conv.frameworks import keras_files

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
    return subject, [given.note, *_mode_notes(torch)]


def _views(torch: Model, keras: Model, given: Inputs | None) -> Views:
    """Both sides with all that can be told of them; with inputs also what a run tells."""
    views = view(torch), view(keras)
    return views if given is None else traced_views(torch, keras, views, given)


def _mode_notes(torch: Model) -> list[str]:
    from keras3conv.frameworks import torch_side

    notes = []
    if torch_side.training_modules(torch):
        notes.append("the torch module is in training mode; it was judged in evaluation mode, and is as it was")
    if torch_side.is_compiled(torch):
        notes.append("the torch module is compiled; it was judged as it was written, uncompiled")
    return notes


__all__ = ["judges", "validate"]
