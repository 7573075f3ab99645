"""Cross-check with ONNX: export each model with its own exporter, run the files in onnxruntime, compare all outputs."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from keras3conv.errors import ModelError, Problem, message_of
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.numerics.judgement import Tolerance, worst_difference
from keras3conv.report.values import EACH_PAIR, Section, Status, Table
from keras3conv.validators.onnx import export as onnx_export
from keras3conv.validators.onnx import session as onnx_session
from keras3conv.validators.onnx.export import Exported, ExportFailed
from keras3conv.validators.onnx.inputs import keras_feeds, torch_feeds, with_one_more_sample
from keras3conv.validators.onnx.opinions import (
    KERAS,
    KERAS_ONNX,
    TORCH,
    TORCH_ONNX,
    Verdict,
    suspected_part,
    who_disagrees,
)
from keras3conv.validators.onnx.outputs import Opinion, judge_opinions
from keras3conv.validators.running.determinism import nondeterminism
from keras3conv.validators.running.subject import Subject
from keras3conv.writing.digests import digest
from keras3conv.writing.outputs import replacing_folder

NAME = "onnx"

CLAIM = (
    "Exported to ONNX by their own exporters and run in onnxruntime, both models still return what they return in "
    "their own frameworks, up to the noise that the torch module itself makes against its own float64 run."
)


def check(subject: Subject) -> Section:
    """Compare the outputs of torch, Keras, the ONNX file of torch and the ONNX file of Keras pairwise.

    If a side cannot be exported and the others agree, the section is skipped with the reason, never passed.

    Raises:
        MissingExtra: onnx, onnxruntime or a package that an exporter needs is not installed.
    """
    if subject.skip_reason:
        return Section(name=NAME, status="skipped", claim=CLAIM, summary="not run", reason=subject.skip_reason)
    from keras3conv.frameworks.keras import model as keras_side

    onnx_export.require_packages(keras_side.backend())
    kept_in = subject.options.onnx_folder
    with _folder(kept_in) as folder:
        opinions = _export_and_run(subject, folder)
        verdicts = judge_opinions(subject, opinions)
        larger, size = _with_larger_batch(subject)
        batches = tuple(_check_batch_size(larger, size, opinion) for opinion in opinions)
        files = _files(folder, kept_in)
    section = _section(opinions, verdicts, batches, (*nondeterminism(subject),), subject.options.tolerance)
    return replace(section, facts={**section.facts, **files})


@contextmanager
def _folder(kept_in: Path | None) -> Iterator[Path]:
    """Yield a folder for the exported files: one that is deleted, or a new one that is kept.

    Args:
        kept_in: The new folder; None for one that is deleted.
    """
    if kept_in is None:
        with tempfile.TemporaryDirectory(prefix="keras3conv-onnx-") as folder:
            yield Path(folder)
        return
    with replacing_folder(kept_in, overwrite=True, replaced=()) as new:
        yield new


def _files(folder: Path, kept_in: Path | None) -> dict[str, str]:
    """Return digest and size of every exported file, by its name: {"torch.onnx": "sha256 ..., 1,204 bytes, not kept"}.

    Args:
        folder: The folder in which the files are now.
        kept_in: The folder in which they will be; None if they are deleted.
    """
    fate = f"kept in {kept_in}" if kept_in else "not kept"
    written = (digest(file) for file in sorted(folder.iterdir()) if file.is_file())
    return {Path(file.path).name: f"sha256 {file.sha256}, {file.size:,} bytes, {fate}" for file in written}


def _export_and_run(subject: Subject, folder: Path) -> tuple[Opinion, Opinion]:
    """Export torch and Keras to ONNX and run the files; return for each file its outputs, or why there are none."""
    inputs = subject.required_inputs

    def export_torch() -> Exported:
        return onnx_export.export_torch(subject.torch, inputs.torch, folder / "torch.onnx")

    def export_keras() -> Exported:
        return onnx_export.export_keras(subject.keras, inputs.keras, folder / "keras.onnx")

    torch_opinion, keras_opinion = _export(TORCH_ONNX, export_torch), _export(KERAS_ONNX, export_keras)
    return _run(subject, torch_opinion, inputs), _run(subject, keras_opinion, inputs)


def _export(name: str, export: Callable[[], Exported]) -> Opinion:
    try:
        return Opinion(name=name, exported=export())
    except ExportFailed as error:
        return Opinion(name=name, failure=message_of(error))


def _run(subject: Subject, opinion: Opinion, inputs: Inputs) -> Opinion:
    """Run the ONNX file of one side.

    Return the given `Opinion` (a file and its outputs) with the outputs, or with the reason why the file does not run.
    """
    if opinion.exported is None:
        return opinion
    is_torch = opinion.name == TORCH_ONNX
    feeds = torch_feeds(inputs.torch) if is_torch else keras_feeds(subject.keras, inputs.keras)
    try:
        return replace(opinion, outputs=onnx_session.run(opinion.exported.path, feeds))
    except ModelError as error:
        return replace(opinion, outputs=None, failure=message_of(error))


@dataclass(frozen=True, kw_only=True)
class _BatchCheck:
    """The result of running an ONNX file with another batch size.

    Attributes:
        name: The name of the file: "ONNX of torch" or "ONNX of Keras".
        result: The result in words.
        failed: Whether the file does not run, or its outputs differ.
    """

    name: str
    result: str
    failed: bool = False


def _with_larger_batch(subject: Subject) -> tuple[Subject | None, int]:
    """Return the models with one more sample, and the batch size.

    The models are None if the inputs have no common batch axis.
    """
    inputs = subject.required_inputs
    arrays = [*torch_feeds(inputs.torch).values(), *keras_feeds(subject.keras, inputs.keras).values()]
    larger, size = with_one_more_sample(inputs, arrays)
    return (replace(subject, inputs=larger) if larger else None), size


def _check_batch_size(larger: Subject | None, size: int, opinion: Opinion) -> _BatchCheck:
    """Run an ONNX file with one more sample, and compare its outputs with those of its model.

    Only a file that declares a dynamic batch size is run. `larger` has the models and the inputs with one more sample;
    `size` is the batch size of these inputs.
    """
    if opinion.exported is None or opinion.outputs is None:
        return _BatchCheck(name=opinion.name, result="not tried: there is no file that runs")
    if not opinion.exported.free_batch:
        return _BatchCheck(name=opinion.name, result="not tried: the file was exported for one batch size")
    if larger is None:
        return _BatchCheck(name=opinion.name, result="not tried: the inputs share no batch axis")
    again = _run(larger, opinion, larger.required_inputs)
    if again.outputs is None:
        return _BatchCheck(name=opinion.name, result=f"declares a dynamic batch size, but {again.failure}", failed=True)
    try:
        verdicts = judge_opinions(larger, (again,))
    except ModelError as error:
        return _BatchCheck(name=opinion.name, result=f"not judged: {message_of(error).splitlines()[0]}")
    file_and_model = {opinion.name, TORCH if opinion.name == TORCH_ONNX else KERAS}
    for verdict in verdicts:
        if {verdict.first, verdict.second} == file_and_model and not verdict.agrees:
            return _BatchCheck(name=opinion.name, result=f"differs in a batch of {size}: {verdict}", failed=True)
    return _BatchCheck(name=opinion.name, result=f"agrees in a batch of {size} too")


def _section(
    opinions: tuple[Opinion, Opinion],
    verdicts: list[Verdict],
    batches: tuple[_BatchCheck, ...],
    random: tuple[Problem, ...],
    tolerance: Tolerance | None,
) -> Section:
    exporters = {opinion.name: str(opinion.exported) for opinion in opinions if opinion.exported}
    missing = {opinion.name: opinion.failure for opinion in opinions if opinion.failure}
    facts = {opinion.name: missing.get(opinion.name) or exporters[opinion.name] for opinion in opinions}
    facts["onnxruntime"] = f"{version('onnxruntime')}, CPU"
    facts |= {"tolerance": f"the caller's: {tolerance}"} if tolerance else {}
    facts |= {f"{check.name}, another batch": check.result for check in batches}
    disagreeing = [verdict for verdict in verdicts if not verdict.agrees]
    line = who_disagrees(verdicts)
    problems = [_problem(line, suspected_part(verdicts, exporters), disagreeing)] if disagreeing else []
    problems += [Problem(fact=f"{check.name} {check.result}") for check in batches if check.failed]
    problems += random
    other_batches = "" if disagreeing else _other_batches(batches)
    worst = worst_difference(verdict.judgement for verdict in verdicts)
    status: Status = "skipped" if missing else "passed"
    return Section(
        name=NAME,
        status="failed" if problems else status,
        claim=CLAIM,
        summary=f"{line}{other_batches}" if problems else f"{line}: {worst}",
        reason="; ".join(f"there is no {name}: {reason}" for name, reason in missing.items()),
        facts=facts,
        tables=tuple(_tables(verdicts)),
        problems=tuple(problems),
    )


def _tables(verdicts: list[Verdict]) -> Iterator[Table]:
    """Yield a table with the worst output of each pair, and if there are several outputs, one with all of them."""
    pairs: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        pairs.setdefault((verdict.first, verdict.second), []).append(verdict)
    worst = [max(found, key=_badness) for found in pairs.values()]
    yield replace(table(worst), title=EACH_PAIR)
    if len(worst) < len(verdicts):
        yield table(verdicts)


def _badness(verdict: Verdict) -> tuple[bool, bool, float]:
    """Return a key that is the larger, the worse a comparison is: one that cannot be made is the worst."""
    judgement = verdict.judgement
    size = 0.0 if judgement is None else judgement.deviation if judgement.ratio is None else judgement.ratio
    return bool(verdict.mismatch), not verdict.agrees, size


def _other_batches(batches: tuple[_BatchCheck, ...]) -> str:
    """Return the end of a summary that names the files which fail with another batch size; empty if none does."""
    names = [check.name for check in batches if check.failed]
    return f"; with another batch size {' and '.join(names)} {'fail' if len(names) > 1 else 'fails'}" if names else ""


def _problem(line: str, suspected: str, disagreeing: list[Verdict]) -> Problem:
    lines = [line, suspected, *map(str, disagreeing[:3])]
    return Problem(torch="outputs", keras="outputs", fact="\n      ".join(filter(None, lines)))


def table(verdicts: list[Verdict]) -> Table:
    """Return a table of all comparisons: every output of torch, Keras and their ONNX files, compared pairwise."""
    rows = tuple(
        (
            verdict.output,
            verdict.first,
            verdict.second,
            verdict.judgement.deviation if verdict.judgement else None,
            verdict.judgement.floor if verdict.judgement else None,
            verdict.judgement.ratio if verdict.judgement else None,
            verdict.mismatch or ("agree" if verdict.agrees else "differ"),
        )
        for verdict in verdicts
    )
    columns = ("output", "first", "second", "largest difference", "noise floor", "ratio", "verdict")
    failed = tuple(index for index, verdict in enumerate(verdicts) if not verdict.agrees)
    return Table(title="pairwise comparison", columns=columns, rows=rows, failed=failed)
