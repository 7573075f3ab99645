"""The fourth opinion: each side is exported to ONNX by its own exporter, run in onnxruntime, and all are compared."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.numerics.difference import Tolerance
from keras3conv.report.values import Section, Table
from keras3conv.validators.onnx import export as onnx_export
from keras3conv.validators.onnx import session as onnx_session
from keras3conv.validators.onnx.export import Exported, ExportFailed
from keras3conv.validators.onnx.inputs import keras_feeds, one_more, torch_feeds
from keras3conv.validators.onnx.opinions import (
    KERAS,
    KERAS_ONNX,
    TORCH,
    TORCH_ONNX,
    Verdict,
    where_to_look,
    who_disagrees,
)
from keras3conv.validators.onnx.outputs import Opinion, judged
from keras3conv.validators.running.steadiness import unsteady
from keras3conv.validators.running.subject import Subject

NAME = "onnx"

CLAIM = (
    "Exported to ONNX by their own exporters and run in onnxruntime, both models still return what they return in "
    "their own frameworks, up to the noise that the torch module itself makes against its own float64 run."
)


def check(subject: Subject) -> Section:
    """Compares torch, Keras, the ONNX file of torch and the ONNX file of Keras, each with each.

    A side that cannot be exported makes the section skipped, with the reason: it is never passed then.

    Raises:
        MissingExtra: onnx, onnxruntime or what an exporter needs is not installed.
    """
    if subject.not_run:
        return Section(name=NAME, status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    from keras3conv.frameworks.keras import model as keras_side

    onnx_export.require_packages(keras_side.backend())
    with tempfile.TemporaryDirectory(prefix="keras3conv-onnx-") as folder:
        opinions = _opinions(subject, Path(folder))
        found = judged(subject, opinions)
        larger, size = _larger(subject)
        batches = tuple(_in_another_batch(larger, size, opinion) for opinion in opinions)
    return _section(opinions, found, batches, (*unsteady(subject),), subject.options.tolerance)


def _opinions(subject: Subject, folder: Path) -> tuple[Opinion, Opinion]:
    inputs = subject.inputs
    assert inputs is not None, "a subject that is run has inputs"

    def of_torch() -> Exported:
        return onnx_export.export_torch(subject.torch, inputs.torch, folder / "torch.onnx")

    def of_keras() -> Exported:
        return onnx_export.export_keras(subject.keras, inputs.keras, folder / "keras.onnx")

    exported = _export(TORCH_ONNX, of_torch), _export(KERAS_ONNX, of_keras)
    return _run(subject, exported[0], inputs), _run(subject, exported[1], inputs)


def _export(name: str, export: Callable[[], Exported]) -> Opinion:
    try:
        return Opinion(name=name, exported=export())
    except ExportFailed as error:
        return Opinion(name=name, failure=str(error))


def _run(subject: Subject, opinion: Opinion, inputs: Inputs) -> Opinion:
    """What the file of one side returns for these inputs."""
    if opinion.exported is None:
        return opinion
    of_torch = opinion.name == TORCH_ONNX
    feeds = torch_feeds(inputs.torch) if of_torch else keras_feeds(subject.keras, inputs.keras)
    try:
        return replace(opinion, outputs=onnx_session.run(opinion.exported.path, feeds))
    except ModelError as error:
        return replace(opinion, outputs=None, failure=str(error))


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """How a file did with another batch size: a line for the report, and whether it disagrees."""

    name: str
    told: str
    failed: bool = False


def _larger(subject: Subject) -> tuple[Subject | None, int]:
    """The models with one sample more, and how many that are; None where the inputs share no batch axis."""
    inputs = subject.given
    arrays = [*torch_feeds(inputs.torch).values(), *keras_feeds(subject.keras, inputs.keras).values()]
    larger, size = one_more(inputs, arrays)
    return (replace(subject, inputs=larger) if larger else None), size


def _in_another_batch(larger: Subject | None, size: int, opinion: Opinion) -> _Batch:
    """Runs a file that takes any batch size with one sample more, and compares it with the model that it is of."""
    if opinion.exported is None or opinion.outputs is None:
        return _Batch(name=opinion.name, told="not tried: there is no file that runs")
    if not opinion.exported.free_batch:
        return _Batch(name=opinion.name, told="not tried: the file was exported for one batch size")
    if larger is None:
        return _Batch(name=opinion.name, told="not tried: the inputs share no batch axis")
    again = _run(larger, opinion, larger.given)
    if again.outputs is None:
        return _Batch(name=opinion.name, told=f"takes any batch size, it says, but {again.failure}", failed=True)
    try:
        found = judged(larger, (again,))
    except ModelError as error:
        return _Batch(name=opinion.name, told=f"not judged: {str(error).splitlines()[0]}")
    own = {opinion.name, TORCH if opinion.name == TORCH_ONNX else KERAS}
    if apart := [verdict for verdict in found if {verdict.first, verdict.second} == own and not verdict.agrees]:
        return _Batch(name=opinion.name, told=f"differs in a batch of {size}: {apart[0]}", failed=True)
    return _Batch(name=opinion.name, told=f"agrees in a batch of {size} too")


def _section(
    opinions: tuple[Opinion, Opinion],
    found: list[Verdict],
    batches: tuple[_Batch, ...],
    random: tuple[Problem, ...],
    tolerance: Tolerance | None,
) -> Section:
    exporters = {opinion.name: str(opinion.exported) for opinion in opinions if opinion.exported}
    missing = {opinion.name: opinion.failure for opinion in opinions if opinion.failure}
    facts = {opinion.name: missing.get(opinion.name) or exporters[opinion.name] for opinion in opinions}
    facts["onnxruntime"] = f"{version('onnxruntime')}, CPU"
    facts |= {"tolerance": f"the caller's: {tolerance}"} if tolerance else {}
    facts |= {f"{batch.name}, another batch": batch.told for batch in batches}
    apart = [verdict for verdict in found if not verdict.agrees]
    line = who_disagrees(found)
    problems = [_problem(line, where_to_look(found, exporters), apart)] if apart else []
    problems += [Problem(fact=f"{batch.name} {batch.told}") for batch in batches if batch.failed]
    problems += random
    worst = max((verdict.judgement.ratio or 0.0 for verdict in found if verdict.judgement), default=0.0)
    return Section(
        name=NAME,
        status="failed" if problems else "skipped" if missing else "passed",
        claim=CLAIM,
        summary=line if problems else f"{line}: at most {worst:.2g} x the noise floor",
        reason="; ".join(f"there is no {name}: {why}" for name, why in missing.items()),
        facts=facts,
        tables=(table(found),),
        problems=tuple(problems),
    )


def _problem(line: str, look: str, apart: list[Verdict]) -> Problem:
    told = [line, *([look] if look else []), *map(str, apart[:3])]
    return Problem(torch="outputs", keras="outputs", fact="\n      ".join(told))


def table(found: list[Verdict]) -> Table:
    """Every pair of opinions on every output, with what was measured."""
    rows = tuple(
        (
            verdict.output,
            verdict.first,
            verdict.second,
            verdict.judgement.deviation if verdict.judgement else None,
            verdict.judgement.floor if verdict.judgement else None,
            verdict.judgement.ratio if verdict.judgement else None,
            verdict.odd or ("agree" if verdict.agrees else "differ"),
        )
        for verdict in found
    )
    columns = ("output", "one", "other", "largest difference", "noise floor", "ratio", "verdict")
    failed = tuple(place for place, verdict in enumerate(found) if not verdict.agrees)
    return Table(title="the opinions, pairwise", columns=columns, rows=rows, failed=failed)
