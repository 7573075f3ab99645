"""Compare two ONNX files of any origin: run both in onnxruntime on the same inputs, in subprocesses with limits."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import ModelError, Problem, message_of, require
from keras3conv.frameworks.shared.inputs_named import only_array
from keras3conv.frameworks.shared.inputs_random import SEED
from keras3conv.messages import count
from keras3conv.numerics.difference import Diff, compare, resolution
from keras3conv.numerics.judgement import Tolerance, worst_difference
from keras3conv.report.digests import digest_note
from keras3conv.report.report import Report, current_environment
from keras3conv.report.values import Section
from keras3conv.transforms import Array
from keras3conv.validators.onnx.child import REFUSED
from keras3conv.validators.onnx.crosscheck import table
from keras3conv.validators.onnx.opinions import Verdict, compare_opinions
from keras3conv.validators.onnx.pairing import Match, PairedInputs, input_specs, pair_inputs, pair_outputs, to_layout
from keras3conv.validators.onnx.preflight import check_file
from keras3conv.validators.running.determinism import SUSPICIOUS
from keras3conv.writing.digests import ReadFile, digest

CLAIM = (
    "Run in onnxruntime on the same inputs, both files return the same values, up to the noise that the first file "
    "makes against its own float64 run."
)

FEATURE = "compare_onnx"

_MakeSection = Callable[..., Section]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on time and memory for running an untrusted ONNX file.

    Attributes:
        seconds: Longest duration of one run.
        memory: Largest number of bytes of memory that the process of a run may use.
    """

    seconds: float = 300.0
    memory: int = 16 << 30


def compare_files(
    first: Path,
    second: Path,
    inputs: Any = None,
    limits: Limits | None = None,
    tolerance: Tolerance | None = None,
) -> Report:
    """Run two ONNX files on the same inputs, and return a report on the differences of their outputs.

    Args:
        first: An ONNX file.
        second: Another ONNX file.
        inputs: The inputs of the first file: an array, a tuple of arrays, or a dict by name; random by default.
        limits: The limits on time and memory for each run.
        tolerance: The allowed difference, instead of the measured noise floor.
    """
    require(FEATURE, "onnx", "onnxruntime")
    models = check_file(first), check_file(second)
    specs = input_specs(first, models[0]), input_specs(second, models[1])
    names = [spec.name for spec in specs[0]]
    inputs, renamed = only_array(inputs, names, required=len(names))
    paired = pair_inputs((first, second), *specs, inputs)
    shapes = ", ".join(str(array.shape) for array in paired.first)
    facts = {
        "first": _description(first, models[0]),
        "second": _description(second, models[1]),
        "inputs": f"{first.name} <-> {second.name}: {paired.description}",
    }
    facts |= {"tolerance": f"the caller's: {tolerance}"} if tolerance else {}
    section = _judge(first, second, paired, limits or Limits(), tolerance)
    read = tuple(ReadFile(**{**vars(digest(file)), "path": file.name}) for file in (first, second))
    return Report(
        title=f"{first.name} (ONNX) <-> {second.name} (ONNX)",
        sections=(replace(section, facts={**facts, **section.facts}),),
        environment=current_environment(),
        notes=(
            "inputs given" if inputs is not None else f"random inputs of shape {shapes}, seed {SEED}",
            *([renamed] if renamed else []),
            *map(digest_note, read),
        ),
        sources=read,
    )


def _judge(first: Path, second: Path, inputs: PairedInputs, limits: Limits, tolerance: Tolerance | None) -> Section:
    section = partial(Section, name="onnx files", claim=CLAIM)
    try:
        first_outputs = _run(first, inputs.first, "native", limits)
        second_outputs = _run(second, inputs.second, "native", limits)
    except ModelError as error:
        return section(status="skipped", summary="not run", reason=message_of(error))
    if len(first_outputs) != len(second_outputs):
        counts = [
            f"{count(len(outputs), 'array')} ({', '.join(outputs)})" for outputs in (first_outputs, second_outputs)
        ]
        problem = Problem(fact=f"the first file returns {counts[0]}, but the second returns {counts[1]}")
        return section(status="failed", summary="the numbers of outputs differ", problems=(problem,))
    matches, how = pair_outputs(first_outputs, second_outputs)
    names = f"{first.name} <-> {second.name}"
    section = partial(section, facts={"outputs": f"{names}: {', '.join(map(str, matches))}, matched {how}"})
    pairs = [
        _Pair(match=match, first=first_outputs[match.first], second=second_outputs[match.second]) for match in matches
    ]
    try:
        truths = _float64_outputs(first, inputs, first_outputs, limits)
    except ModelError as error:
        if tolerance is None:
            return _judge_without_floor(section, pairs, error)
        truths = {}
    return _judge_values(section, pairs, truths, tolerance)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """One output of two ONNX files, with the values of both.

    Attributes:
        match: The names of the output in both files, and the conversion of the first file's values.
        first: Values of the first file.
        second: Values of the second file.
    """

    match: Match
    first: Array
    second: Array

    @property
    def diff(self) -> Diff | None:
        """The difference between the values of the two files; None if the shapes differ or values are missing."""
        first = to_layout(self.first, self.match.layout)
        return compare(first, self.second) if first.shape == self.second.shape and first.size else None


def _float64_outputs(
    path: Path, inputs: PairedInputs, outputs: Mapping[str, Array], limits: Limits
) -> Mapping[str, Array]:
    """Return a file's float64 outputs; raise `ModelError` if they differ from the float32 ones beyond rounding.

    The two outputs of a file measure its noise floor, the limit for differences between files. If the evaluator
    computed an operator differently from onnxruntime, the limit would be so high that every difference would pass.

    Args:
        path: The file.
        inputs: The inputs of both files, of which those of the first file are used.
        outputs: The outputs of the file in onnxruntime, in float32, by name.
        limits: The limits on time and memory.
    """
    truths = _run(path, inputs.first, "float64", limits)
    for name, source in outputs.items():
        truth = truths[name]
        if source.shape != truth.shape:
            raise ModelError(
                f"onnx's reference evaluator returns the output {name} of {path.name} with the shape {truth.shape}, "
                f"but onnxruntime with {source.shape}"
            )
        noise = compare(source, truth) if source.size else None
        if noise and noise.max_abs > SUSPICIOUS * resolution(source) * noise.scale:
            raise ModelError(
                f"onnx's reference evaluator and onnxruntime differ in {name} of {path.name} by {noise.max_rel:.2g} of "
                "the largest value, which is more than rounding"
            )
    return truths


def _judge_without_floor(section: _MakeSection, pairs: list[_Pair], error: ModelError) -> Section:
    """Judge the outputs of two files if the noise floor cannot be measured; return the section of the report.

    The section is passed if all outputs are bit-identical, else it is skipped, with the reason.
    """
    diffs = [pair.diff for pair in pairs]
    if all(diff is not None and diff.identical and not diff.nonfinite for diff in diffs):
        return section(status="passed", summary="bit-identical")
    differences = "; ".join(str(diff) if diff else "the shapes differ" for diff in diffs)
    return section(
        status="skipped",
        reason=f"the noise floor is unknown: {error}",
        summary=f"the outputs differ: {differences}",
    )


def _judge_values(
    section: _MakeSection, pairs: list[_Pair], truths: Mapping[str, Array], tolerance: Tolerance | None
) -> Section:
    verdicts: list[Verdict] = []
    for pair in pairs:
        name, layout = pair.match.first, pair.match.layout
        if not pair.first.size or not pair.second.size:
            mismatch = (
                f"the outputs have no elements to compare: their shapes are {pair.first.shape} and {pair.second.shape}"
            )
            verdicts.append(Verdict(output=name, first="first", second="second", mismatch=mismatch))
            continue
        first = to_layout(pair.first, layout)
        truth = to_layout(truths[name], layout) if truths else None
        verdicts += compare_opinions(name, {"first": first, "second": pair.second}, first, truth, tolerance)
    differing = [verdict for verdict in verdicts if not verdict.agrees]
    outputs = count(len(verdicts), "output")
    if differing:
        verb = "differs" if len(differing) == 1 else "differ"
        limit = "the tolerance" if tolerance else "noise"
        summary = f"{len(differing)} of {outputs} {verb} by more than {limit}"
    else:
        verb = "agrees" if len(verdicts) == 1 else "agree"
        summary = f"{outputs} {verb}: {worst_difference(verdict.judgement for verdict in verdicts)}"
    return section(
        status="failed" if differing else "passed",
        summary=summary,
        tables=(table(verdicts),),
        problems=tuple(
            Problem(fact=f"{verdict.output}: {verdict.mismatch or verdict.judgement}") for verdict in differing
        ),
    )


def _run(path: Path, arrays: list[Array], mode: str, limits: Limits) -> dict[str, Array]:
    """Run an ONNX file in a subprocess with limits on time and memory, and return its outputs by name.

    Args:
        path: The file.
        arrays: The inputs, in the order of the file.
        mode: "native" for onnxruntime, "float64" for onnx's reference evaluator in float64.
        limits: The limits.
    """
    with tempfile.TemporaryDirectory(prefix="keras3conv-onnx-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, *arrays)
        command = [sys.executable, "-m", "keras3conv.validators.onnx.child", str(path.resolve())]
        command += [str(inputs), str(outputs), mode, str(limits.memory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limits.seconds, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{path.name} ran for more than {limits.seconds:g} seconds, which is the limit") from None
        if done.returncode != 0:
            raise ModelError(_failure(path, done.returncode, done.stderr))
        with np.load(outputs) as stored:
            names, *values = (stored[name] for name in stored.files)
            return dict(zip(map(str, names), values, strict=True))


def _failure(path: Path, status: int, stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    last_line = lines[-1][:400] if lines else "without a message"
    if status != REFUSED:
        return f"the process that ran {path.name} ended with the exit status {status}: {last_line}"
    return last_line if path.name in last_line else f"{path.name}: {last_line}"


def _description(path: Path, model: Any) -> str:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    producer = f"{model.producer_name} {model.producer_version}".strip() or "an unnamed producer"
    return f"{path.name}, written by {producer}, opset {opset}"
