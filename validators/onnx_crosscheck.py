"""The fourth opinion: each side is exported to ONNX by its own exporter, run in onnxruntime, and all are compared."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.compare import Tolerance
from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.inputs import Inputs
from keras3conv.frameworks.record import Recording
from keras3conv.report import Section, Table
from keras3conv.transforms import Array
from keras3conv.validators import onnx_export, onnx_session
from keras3conv.validators.ends import output_pairs
from keras3conv.validators.onnx_export import Exported, ExportFailed
from keras3conv.validators.onnx_opinions import (
    KERAS,
    KERAS_ONNX,
    TORCH,
    TORCH_ONNX,
    Verdict,
    groups,
    verdicts,
    where_to_look,
    who_disagrees,
)
from keras3conv.validators.subject import Subject

NAME = "onnx"

CLAIM = (
    "Exported to ONNX by their own exporters and run in onnxruntime, both models still return what they return in "
    "their own frameworks, up to the noise that the torch module itself makes against its own float64 run."
)


@dataclass(frozen=True, kw_only=True)
class _Opinion:
    """What the ONNX file of one side returned, or why it returned nothing."""

    name: str
    exported: Exported | None = None
    outputs: Mapping[str, Array] | None = None
    failure: str = ""


def check(subject: Subject) -> Section:
    """Compares torch, Keras, the ONNX file of torch and the ONNX file of Keras, each with each.

    A side that cannot be exported makes the section skipped, with the reason: it is never passed then.

    Raises:
        MissingExtra: onnx, onnxruntime or what an exporter needs is not installed.
    """
    if subject.not_run:
        return Section(name=NAME, status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    from keras3conv.frameworks import keras_side

    onnx_export.require_packages(keras_side.backend())
    with tempfile.TemporaryDirectory(prefix="keras3conv-onnx-") as folder:
        opinions = _opinions(subject, Path(folder))
        judged = _judged(subject, opinions)
        batches = tuple(_in_another_batch(subject, opinion) for opinion in opinions)
    return _section(opinions, judged, batches, subject.options.tolerance)


def _opinions(subject: Subject, folder: Path) -> tuple[_Opinion, _Opinion]:
    inputs = subject.inputs
    assert inputs is not None, "a subject that is run has inputs"

    def of_torch() -> Exported:
        return onnx_export.export_torch(subject.torch, inputs.torch, folder / "torch.onnx")

    def of_keras() -> Exported:
        return onnx_export.export_keras(subject.keras, inputs.keras, folder / "keras.onnx")

    return _run(_export(TORCH_ONNX, of_torch), inputs), _run(_export(KERAS_ONNX, of_keras), inputs)


def _export(name: str, export: Callable[[], Exported]) -> _Opinion:
    try:
        return _Opinion(name=name, exported=export())
    except ExportFailed as error:
        return _Opinion(name=name, failure=str(error))


def _run(opinion: _Opinion, inputs: Inputs) -> _Opinion:
    """What the file of one side returns for these inputs."""
    if opinion.exported is None:
        return opinion
    flat = onnx_export.flat_torch(inputs.torch) if opinion.name == TORCH_ONNX else onnx_export.flat_keras(inputs.keras)
    try:
        return replace(opinion, outputs=onnx_session.run(opinion.exported.path, flat))
    except ModelError as error:
        return replace(opinion, outputs=None, failure=str(error))


def _judged(subject: Subject, opinions: tuple[_Opinion, ...]) -> list[Verdict]:
    """Every pair of opinions on every output, in Keras' layout."""
    torch, keras = subject.torch_run, subject.keras_run
    truths = {pair.name: pair.torch for pair in output_pairs(subject.torch_truth, keras)}
    heard: dict[str, dict[str, Array]] = {}
    for opinion in opinions:
        of_torch = opinion.name == TORCH_ONNX
        outputs = _named(opinion, torch if of_torch else keras)
        pairs = output_pairs(outputs, keras) if of_torch else output_pairs(torch, outputs)
        for pair in pairs if outputs.outputs else ():
            heard.setdefault(pair.name, {})[opinion.name] = pair.torch if of_torch else pair.keras
    found: list[Verdict] = []
    for pair in output_pairs(torch, keras):
        if pair.odd:
            found.append(Verdict(output=pair.name, first=TORCH, second=KERAS, odd=pair.odd))
        else:
            given = {TORCH: pair.torch, KERAS: pair.keras, **heard.get(pair.name, {})}
            found += verdicts(pair.name, given, pair.torch, truths[pair.name], subject.options.tolerance)
    return found


def _named(opinion: _Opinion, run: Recording) -> Recording:
    """The outputs of an ONNX file under the names that the framework gives them."""
    outputs = opinion.outputs or {}
    if set(outputs) == set(run.outputs):
        return Recording(outputs={name: outputs[name] for name in run.outputs})
    names = list(run.outputs)
    if opinion.name == KERAS_ONNX and not any(name.rpartition(".")[2].isdigit() for name in names):
        names.sort()  # Keras exports a dict of outputs in the order of its keys
    if len(names) != len(outputs):
        return Recording(outputs=outputs)
    by_name = dict(zip(names, outputs.values(), strict=True))
    return Recording(outputs={name: by_name[name] for name in run.outputs})


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """How a file did with another batch size: a line for the report, and what disagrees."""

    name: str
    told: str
    apart: tuple[Verdict, ...] = ()
    failed: bool = False


def _in_another_batch(subject: Subject, opinion: _Opinion) -> _Batch:
    """Runs a file that takes any batch size with one sample more, and compares it with torch and Keras."""
    if opinion.exported is None or opinion.outputs is None:
        return _Batch(name=opinion.name, told="not tried: there is no file that runs")
    if not opinion.exported.free_batch:
        return _Batch(name=opinion.name, told="not tried: the file was exported for one batch size")
    assert subject.inputs is not None
    larger, size = _one_more(subject.inputs)
    if larger is None:
        return _Batch(name=opinion.name, told="not tried: the inputs share no batch axis")
    again = _run(opinion, larger)
    if again.outputs is None:
        return _Batch(name=opinion.name, told=f"takes any batch size, it says, but {again.failure}", failed=True)
    try:
        judged = _judged(replace(subject, inputs=larger), (again,))
    except ModelError as error:
        return _Batch(name=opinion.name, told=f"not judged: {str(error).splitlines()[0]}")
    apart = tuple(
        verdict for verdict in judged if opinion.name in (verdict.first, verdict.second) and not verdict.agrees
    )
    if apart:
        told = f"differs in a batch of {size}: {apart[0]}"
        return _Batch(name=opinion.name, told=told, apart=apart, failed=True)
    return _Batch(name=opinion.name, told=f"agrees in a batch of {size} too")


def _one_more(inputs: Inputs) -> tuple[Inputs | None, int]:
    """The inputs with the first sample once more at the end; None where not every array has the same first axis."""
    arrays = [*onnx_export.flat_torch(inputs.torch), *onnx_export.flat_keras(inputs.keras)]
    sizes = {array.shape[:1] for array in arrays}
    if len(sizes) != 1 or () in sizes:
        return None, 0

    def longer(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: longer(item) for name, item in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(longer(item) for item in value)
        if not hasattr(value, "shape"):
            return value
        (array,) = onnx_export.flat_keras(value) if not _is_torch(value) else onnx_export.flat_torch(value)
        return np.concatenate([array, array[:1]])

    larger = Inputs(torch=longer(inputs.torch), keras=longer(inputs.keras), note=inputs.note)
    return larger, next(iter(sizes))[0] + 1


def _is_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def _section(
    opinions: tuple[_Opinion, _Opinion],
    judged: list[Verdict],
    batches: tuple[_Batch, ...],
    tolerance: Tolerance | None,
) -> Section:
    names = (TORCH, KERAS, *(opinion.name for opinion in opinions if opinion.outputs is not None))
    made = groups(names, judged)
    exporters = {opinion.name: str(opinion.exported) for opinion in opinions if opinion.exported}
    missing = {opinion.name: opinion.failure for opinion in opinions if opinion.failure}
    facts = {opinion.name: missing.get(opinion.name) or exporters[opinion.name] for opinion in opinions}
    facts["onnxruntime"] = f"{version('onnxruntime')}, CPU"
    facts |= {"tolerance": f"the caller's: {tolerance}"} if tolerance else {}
    facts |= {f"{batch.name}, another batch": batch.told for batch in batches}
    problems = [_problem(made, judged, exporters)] if len(made) > 1 else []
    problems += [Problem(fact=f"{batch.name} {batch.told}") for batch in batches if batch.failed]
    line = who_disagrees(made)
    worst = max((verdict.judgement.ratio or 0.0 for verdict in judged if verdict.judgement), default=0.0)
    return Section(
        name=NAME,
        status="failed" if problems else "skipped" if missing else "passed",
        claim=CLAIM,
        summary=line if problems else f"{line}: at most {worst:.2g} x the noise floor",
        reason="; ".join(f"there is no {name}: {why}" for name, why in missing.items()),
        facts=facts,
        tables=(table(judged),),
        problems=tuple(problems),
    )


def _problem(made: list[tuple[str, ...]], judged: list[Verdict], exporters: Mapping[str, str]) -> Problem:
    apart = [verdict for verdict in judged if not verdict.agrees]
    look = where_to_look(made, exporters)
    told = [who_disagrees(made), *([look] if look else []), *map(str, apart[:3])]
    return Problem(torch="outputs", keras="outputs", fact="\n      ".join(told))


def table(judged: list[Verdict]) -> Table:
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
        for verdict in judged
    )
    columns = ("output", "one", "other", "largest difference", "noise floor", "ratio", "verdict")
    failed = tuple(place for place, verdict in enumerate(judged) if not verdict.agrees)
    return Table(title="the opinions, pairwise", columns=columns, rows=rows, failed=failed)
