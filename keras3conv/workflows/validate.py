"""Implement `keras3conv.validate`: check the plan, then run the proofs on two models."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError, ModelError
from keras3conv.frameworks.adapter import KerasFile, Model
from keras3conv.frameworks.shared.inputs_given import in_keras_layout
from keras3conv.frameworks.shared.ports import is_port
from keras3conv.frameworks.sides import Sides
from keras3conv.garbage import rare_collections
from keras3conv.model.views import Side
from keras3conv.report.digests import digest_note, weights_note
from keras3conv.report.report import Report, current_environment
from keras3conv.report.stages import Stages
from keras3conv.report.values import NAMED, WITHOUT_WEIGHTS, Section
from keras3conv.validators.judges import REQUESTED_BY, Judge, judges, without_effect
from keras3conv.validators.running.left_to_float64 import settled
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject
from keras3conv.workflows.named import with_names_of
from keras3conv.workflows.recorded import recorded_plan
from keras3conv.workflows.sources import other_state_dict, read_file
from keras3conv.workflows.subject import subject_of
from keras3conv.writing.digests import ReadFile

CLAIMED_AFTER_STRUCTURE = "the plan has problems, so the models cannot be compared"


_GIVEN = "inputs given"
"""The start of the note on inputs that the user gave."""


@rare_collections()
def validate(  # noqa: PLR0913 - the two models, their inputs and files
    torch: Model,
    keras: Model,
    *,
    inputs: Any,
    keras_inputs: Any,
    plan: Alignment | None,
    options: Options,
    entry: str = "",
    weight_files: Sequence[Path | None] = (),
    code: Sequence[Path] = (),
    data: Sequence[Path | None] = (),
    origin: str = "",
) -> Report:
    """Return the certificate of two models; see `keras3conv.validate`.

    Args:
        torch: The torch side.
        keras: The Keras side.
        inputs: The inputs of the torch module.
        keras_inputs: The inputs of the Keras model.
        plan: The plan; by default `align` creates it.
        options: The proofs, and how strict they are.
        entry: The name of the state dict in a torch checkpoint that holds several.
        weight_files: The files that were loaded into live models, to state their digests; with `options.local`, the
            files from which the values of live models are read.
        code: The Python files of the factories that made live models, to state their digests.
        data: The files of `inputs`, `keras_inputs`, the labels and the expected outputs; None for no file.
        origin: The origin of inputs that the user did not give.
    """
    asked = judges(options)
    if options.expected and inputs is None and keras_inputs is None:
        fix = "Fix:  inputs=inputs"
        raise InputError(f"expected is given without inputs, but the expected outputs belong to certain inputs\n{fix}")
    sides = Sides.of(torch, keras, entry=entry)
    port = _port((sides.torch.source, sides.keras.source), weight_files)
    read, others = _files_read(sides, weight_files, (*code, *data), entry, plan)
    sides, plan, remarks = _opened(sides, plan, (*weight_files, *code))
    stages = Stages()
    with stages.stage("read the models" if plan else "read and align the models"):
        if options.local:
            subject, notes = _of_layers_alone(sides, weight_files, plan, options, entry)
        else:
            with _layout_named(sides, inputs, keras_inputs):
                subject, notes = subject_of(sides, inputs, keras_inputs, plan, options, port, origin)
    with _layout_named(sides, inputs, keras_inputs):
        sections = tuple(_sections(subject, asked, stages))
    return Report(
        title=f"Certificate: {' <-> '.join(view.title for view in subject.outlines)}",
        sections=sections,
        sources=read,
        environment=current_environment(),
        notes=(
            *dict.fromkeys((*(_with_files(note, data[:2]) for note in notes), *others, *remarks)),
            *(*without_effect(options), *weights_note(_loaded(weight_files, read))),
            *other_state_dict(plan, [file.entry for file in read]),
            *map(digest_note, read),
        ),
        seconds=stages.seconds,
    )


def _loaded(weight_files: Sequence[Path | None], read: Sequence[ReadFile]) -> dict[str, ReadFile]:
    """Return the file of weights that was loaded into a model, by the name of its framework.

    Args:
        weight_files: The files for torch and for Keras; None for no file.
        read: All files that were read, with their digests and without their folders.
    """
    by_name = {file.path: file for file in read}
    sides = zip(("torch", "Keras"), weight_files, strict=False)
    return {side: by_name[path.name] for side, path in sides if path is not None and path.name in by_name}


def _with_files(note: str, files: Sequence[Path | None]) -> str:
    """Return a note of a report; if it says that inputs were given, with the names of their files."""
    named = " and ".join(path.name for path in files if path is not None)
    return note.replace(_GIVEN, f"inputs from {named}", 1) if named and note.startswith(_GIVEN) else note


def _opened(
    given: Sides, plan: Alignment | None, files: Sequence[Path | None]
) -> tuple[Sides, Alignment | None, tuple[str, ...]]:
    """Return three things: the sides with a Keras file loaded, the plan with these models' names, notes for the report.

    Args:
        given: The two models as the user gave them.
        plan: The plan; None to look for the one that `convert` saved beside a file.
        files: Further files that belong to the models.
    """
    sides = replace(given, keras=given.keras.loaded()) if isinstance(given.keras, KerasFile) else given
    if plan is None:
        return sides, *recorded_plan(given, sides, files)
    return sides, with_names_of(plan, sides.torch, sides.keras), ()


@contextmanager
def _layout_named(sides: Sides, inputs: Any, keras_inputs: Any) -> Iterator[None]:
    """Add a hint to a `ModelError` from the `with` block if the torch inputs have the layout of Keras.

    For example, the inputs have shape (1, 32, 32, 3), and the torch module takes (1, 3, 32, 32).

    Args:
        sides: The two models.
        inputs: The user's inputs of the torch module; None for random ones.
        keras_inputs: The user's inputs of the Keras model; None if they follow from those of the torch module.
    """
    try:
        yield
    except ModelError as error:
        if inputs is None or keras_inputs is not None or not sides.keras.is_live:
            raise
        slip = in_keras_layout(inputs, sides.keras.view(described=False).input_specs)
        if not slip:
            raise
        raise ModelError(f"{error.message}\n{slip}") from error


def _files_read(
    sides: Sides, weight_files: Sequence[Path | None], more: Sequence[Path | None], entry: str, plan: Alignment | None
) -> tuple[tuple[ReadFile, ...], tuple[str, ...]]:
    """Return every file that was read, with its digests: the models, the weights loaded into live ones, and more.

    The second result has notes on the other state dicts of a torch checkpoint.

    Args:
        sides: The two models.
        weight_files: The files that were loaded into live models, torch first.
        more: The Python files of factories, and the files of arrays; None for no file.
        entry: The state dict that was asked for, if a torch checkpoint holds several.
        plan: The plan, whose state dict is read if none was asked for; None if there is no plan.
    """
    torch_weights = next(iter(weight_files), None)
    paths = [one for one in (sides.torch.source, sides.keras.source, *weight_files, *more) if isinstance(one, Path)]
    found, notes = [], list[str]()
    for path in dict.fromkeys(path for path in paths if path.is_file()):
        name = ""
        if path in (sides.torch.source, torch_weights):
            planned = None if plan is None or sides.torch.is_live else plan.torch
            view = formats.read(path, entry=entry, planned=planned)
            name, notes = view.state_dict, [*notes, *view.notes]
        found.append(read_file(path, name))
    return tuple(found), tuple(notes)


def _sections(subject: Subject, asked: tuple[tuple[str, Judge], ...], stages: Stages) -> list[Section]:
    sections: list[Section] = []
    for name, check in asked:
        if sections and sections[0].status == "failed":
            reason = CLAIMED_AFTER_STRUCTURE
            sections.append(Section(name=name, status="skipped", claim="", summary="not run", reason=reason))
        elif name in _OF_THEIR_WEIGHTS and (factories := _without_weights(sections)):
            reason = f"the weights of {factories} are random ones, not those that were transferred: see roundtrip"
            sections.append(Section(name=name, status="skipped", claim="", summary="not run", reason=reason))
        else:
            with stages.stage(name):
                sections.append(check(subject))
            _require_fitting(subject, sections)
    float64 = next((section.status for section in sections if section.name == "float64"), None)
    proven = [settled(section, float64) if section.name == "hyperparameters" else section for section in sections]
    return [_with_question(section, (*subject.options.proofs, *REQUESTED_BY)) for section in proven]


def _with_question(section: Section, named: Sequence[str]) -> Section:
    """Return a section; if it was skipped, and the user asked for its proof, with a fact that says so."""
    if section.status != "skipped" or section.name not in named:
        return section
    return replace(section, facts={**section.facts, NAMED: "so the verdict is not Passed while this proof is skipped"})


_OF_THEIR_WEIGHTS = ("activations", "outputs")
"""The proofs that compare the layers and outputs of models with their own weights, which must be the same."""


def _without_weights(sections: Sequence[Section]) -> str:
    """Return the factories whose models have other weights than those that were transferred; empty if none has."""
    return next((section.facts[WITHOUT_WEIGHTS] for section in sections if WITHOUT_WEIGHTS in section.facts), "")


def _require_fitting(subject: Subject, sections: list[Section]) -> None:
    """Raise `InputError` if the labels fit no output of the models, or if an output lacks its expected values.

    `validate` calls this function after each proof, and the function checks once: after the first proof, so that the
    error comes before the slow proofs. If the first proof failed, nothing is checked.

    Args:
        subject: The models, their inputs, and the options `labels` and `expected` of the user.
        sections: The results of the proofs so far.
    """
    from keras3conv.validators import accuracy, expected

    if len(sections) != 1 or sections[0].status == "failed":
        return
    if subject.options.wants("accuracy"):
        accuracy.require_fitting(subject)
    if subject.options.wants("expected"):
        expected.require_fitting(subject)


def _port(sources: Sequence[Any], weight_files: Sequence[Path | None]) -> Side | None:
    """Return the side ("torch" or "keras") that a transfer wrote, so that its weights are a copy of the other side.

    A live model was written if `transfer` wrote to it in this process. A file was written if a manifest is beside
    the file. Return None if a transfer wrote neither side, or both.

    Args:
        sources: The torch model and the Keras model: live models or paths.
        weight_files: The files of weights that were loaded into the torch and the Keras model; None for no file.
    """
    files = (*weight_files, None, None)
    written = [any(map(is_port, (source, file))) for source, file in zip(sources, files, strict=False)]
    return None if written[0] == written[1] else "torch" if written[0] else "keras"


def _of_layers_alone(*arguments: Any) -> tuple[Subject, tuple[str, ...]]:
    """Return the `Subject` whose layers run alone; it may need the planner, which is imported only then."""
    from keras3conv.workflows.local import local_subject

    return local_subject(*arguments)


__all__ = ["judges", "validate"]
