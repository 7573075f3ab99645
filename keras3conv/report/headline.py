"""Choose the parts of a report that its page shows first: the cause of a failure, the main plot, and the key facts."""

import re
from collections.abc import Iterator

from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.report.digests import WEIGHTS_OF
from keras3conv.report.values import IN_TRAINING, NOT_CONVERTED, UNLIKE, WITHOUT_WEIGHTS, Document, Plot, Section

_PACKAGES = ("keras3conv", "python", "torch", "keras", "jax", "tensorflow", "onnxruntime")
_INPUTS = re.compile(r"^(random )?inputs\b")
_MOVED_OUTPUT = re.compile(r"^output \d+( \(.*?\))? is \(.*; Keras returns \(")
_DIGEST = re.compile(r"\bsha256 [0-9a-f]{64}\b")
_ERRORS = ("outputs", "float64", "onnx", "expected")
"""The names of the sections whose summary states the worst error; the page shows that of the first that passed."""

TELLING = "float64"
"""The name of the section whose problems name the first layer that differs, and the proven cause."""


def is_certificate(report: Document) -> bool:
    """Return True for a report of `validate`, recognised by its section "structure"."""
    return any(section.name == "structure" for section in report.sections)


def first_cause(report: Document) -> tuple[Section, Problem] | None:
    """Return the problem to show first, and the section that has it; None if no section failed.

    A problem with a fix is preferred, and of these that of the first layer that differs. Weights that were not given
    are no cause of a layer that differs under equal weights, and are left out then.
    """
    failed = most_telling_first(report)
    if failed and failed[0].name == TELLING:
        failed = [part for part in failed if WITHOUT_WEIGHTS not in part.facts] or failed
    problems = [(part, problem) for part in failed for problem in part.problems]
    return next((found for found in problems if found[1].fixes), problems[0] if problems else None)


def most_telling_first(report: Document) -> list[Section]:
    """Return the failed sections; float64, which names the first layer that differs and a tested cause, is first.

    The hyper-parameters are next: like float64 they do not depend on the weights, which may not be transferred yet.
    """
    failed = (part for part in report.sections if part.status == "failed")
    return sorted(failed, key=lambda part: (part.name != TELLING, part.name != "hyperparameters"))


def counted(report: Document) -> str:
    """Return the text beside the verdict: the number of sections with each status, and if the models train differently.

    For example: "7 passed; trains differently, see hyperparameters".
    """
    return f"{report.tally}; {mark}" if (mark := _training_mark(report)) else report.tally


def _training_mark(report: Document) -> str:
    facts = {IN_TRAINING, NOT_CONVERTED, UNLIKE}
    names = [part.name for part in report.sections if not facts.isdisjoint(part.facts)]
    return f"trains differently, see {names[0]}" if names and report.ok else ""


def main_plot(report: Document) -> Plot | None:
    """Return the plot that the page shows first: one with a noise floor, else one with failed layers, else any."""
    plots = [plot for section in report.sections for plot in section.plots]
    with_floor = [plot for plot in plots if any(series.is_floor for series in plot.series)]
    failed = [plot for plot in plots if plot.failed]
    return next(iter([*with_floor, *failed, *plots]), None)


def key_facts(report: Document) -> dict[str, str]:
    """Return the facts to show beside the overall status, by name: {"date": "...", "versions": "torch 2.7.0, ..."}."""
    return {name: fact for name, fact in _key_facts(report) if fact}


def _key_facts(report: Document) -> Iterator[tuple[str, str]]:
    environment = report.environment
    passed = {section.name: section.summary for section in report.sections if section.status == "passed"}
    yield "date", environment.get("date", "")
    if report.ok:
        yield "output difference", next((passed[name] for name in _ERRORS if name in passed), "")
    yield "inputs", next((note for note in report.notes if _INPUTS.match(note)), "")
    yield "loaded", next((note for note in report.notes if note.startswith(WEIGHTS_OF)), "")
    for number, note in enumerate(note for note in report.notes if _MOVED_OUTPUT.match(note)):
        yield f"order of axes {number + 1}" if number else "order of axes", note
    backend = environment.get("KERAS_BACKEND")
    versions = [f"{name} {environment[name]}" for name in _PACKAGES if name in environment]
    yield "versions", ", ".join([*versions, *([f"Keras on {backend}"] if backend else [])])
    if report.files:
        yield "files", count(len(report.files), "file") + ", with digests below"
    for number, note in enumerate(note for note in report.notes if _DIGEST.search(note)):
        yield f"source {number + 1}", note
