"""Validate a conversion, and return the certificate, which is the report of the validation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keras3conv.builder.program.own_rules import layout_hint, own_classes_note
from keras3conv.builder.source.moved_outputs import moved_outputs
from keras3conv.builder.to_torch.build import Built
from keras3conv.builder.to_torch.proof_inputs import finite_proof_inputs, proof_inputs
from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.inputs_random import SEED
from keras3conv.report.digests import digest_note
from keras3conv.report.report import Report
from keras3conv.report.stages import Stages
from keras3conv.report.values import NOT_CONVERTED, Section
from keras3conv.transforms import Array
from keras3conv.writing.digests import ReadFile

if TYPE_CHECKING:
    from keras3conv.builder.to_keras import build as to_keras


def certified(
    built: Built, model: Any, stages: Stages, sources: tuple[ReadFile, ...]
) -> tuple[Report, tuple[Array, ...]]:
    """Validate a module on random inputs of a usual size, or of a larger one that it needs.

    Args:
        built: The module.
        model: The Keras model.
        stages: The times of the conversion's stages.
        sources: The files that the Keras model was made of.

    Returns:
        The certificate (the report), and the inputs of the module.
    """
    given, keras_given = finite_proof_inputs(built.model, built.graph, built.program)
    larger, keras_larger = proof_inputs(built.graph, built.program, larger=True)
    try:
        return _proven(built, model, given, keras_given, stages, sources), given
    except ModelError:
        if [array.shape for array in larger] == [array.shape for array in given]:
            raise
    return _proven(built, model, larger, keras_larger, stages, sources), larger  # the model crops its input


def _proven(
    built: Built, model: Any, inputs: Any, keras_given: Any, stages: Stages, sources: tuple[ReadFile, ...]
) -> Report:
    """Validate a module that was made from a Keras model, and return the certificate (the report).

    Args:
        built: The module.
        model: The Keras model.
        inputs: The inputs of the module.
        keras_given: The same inputs for the Keras model.
        stages: The times of the conversion's stages.
        sources: The files that the Keras model was made of.

    Raises:
        ModelError: A model cannot run on the inputs.
    """
    shapes = ", ".join(str(array.shape) for array in inputs)
    origin = f"random inputs of shape {shapes}, seed {SEED}, made by convert"
    try:
        report = certificate(built, built.model, model, inputs, keras_given, stages, sources=sources, origin=origin)
    except ModelError as error:
        if hint := layout_hint(built.program):
            raise ModelError(f"{error.message}\n{hint}") from error
        raise
    further = (*moved_outputs(built.program), *own_classes_note(built.program, "model.py needs"))
    return replace(report, notes=(*report.notes, *further))


def _with_remarks(section: Section, remarks: Sequence[str]) -> Section:
    """Return the section "hyperparameters" with a fact that lists what acts in training and was not converted.

    Other sections are returned unchanged.
    """
    if not remarks or section.name != "hyperparameters":
        return section
    return replace(section, facts={**section.facts, NOT_CONVERTED: "; ".join(remarks)})


def certificate(
    built: "Built | to_keras.Built",
    torch: Any,
    keras: Any,
    inputs: Any,
    keras_inputs: Any,
    stages: Stages,
    *,
    sources: tuple[ReadFile, ...],
    origin: str,
) -> Report:
    """Validate a conversion and return the certificate (the report of the validation).

    Args:
        built: The new model, with the plan (the pairs of tensors) and the remarks of the graph.
        torch: The torch model.
        keras: The Keras model.
        inputs: The inputs of the torch model.
        keras_inputs: The inputs of the Keras model.
        stages: The times of the conversion's stages, which come first among the times in the certificate.
        sources: The files that the source model was made of, whose digests the certificate states.
        origin: The origin of the inputs, for the report.
    """
    from keras3conv.validators.running.options import Options
    from keras3conv.workflows.validate import validate

    given = {"inputs": inputs, "keras_inputs": keras_inputs, "origin": origin}
    report = validate(torch, keras, **given, plan=built.alignment, options=Options())
    remarks = built.graph.remarks
    return replace(
        report,
        sections=tuple(_with_remarks(section, remarks) for section in report.sections),
        notes=(*report.notes, *map(digest_note, sources), *remarks),
        sources=(*report.sources, *sources),
        seconds={**stages.seconds, **report.seconds},
    )
