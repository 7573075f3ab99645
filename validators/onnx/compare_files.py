"""Two ONNX files, whoever made them: both are run in onnxruntime on the same inputs, and compared."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import MissingExtra, ModelError, Problem
from keras3conv.frameworks.shared.inputs import SEED
from keras3conv.messages import count
from keras3conv.numerics.difference import Diff, Tolerance, compare, resolution
from keras3conv.report.report import Report, current_environment
from keras3conv.report.values import Section
from keras3conv.transforms import Array
from keras3conv.validators.onnx.crosscheck import table
from keras3conv.validators.onnx.opinions import Verdict, verdicts
from keras3conv.validators.onnx.pairing import Fed, feed, moved, pair_outputs, wanted
from keras3conv.validators.onnx.preflight import check_file
from keras3conv.validators.running.steadiness import SUSPICIOUS

CLAIM = (
    "Run in onnxruntime on the same inputs, both files return the same values, up to the noise that the first makes "
    "itself against its own run in float64."
)

FEATURE = "compare_onnx"

_Make = Callable[..., Section]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What running a file of somebody else may cost.

    Attributes:
        seconds: How long one run may take.
        memory: How many bytes of memory its process may have.
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
    """Compares two ONNX files; see `keras3conv.compare_onnx`."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(FEATURE, package, "onnx")
    models = check_file(first), check_file(second)
    fed = feed((first, second), wanted(first, models[0]), wanted(second, models[1]), inputs)
    sizes = ", ".join(str(array.shape) for array in fed.first)
    facts = {"first": _told(first, models[0]), "second": _told(second, models[1]), "inputs": fed.told}
    facts |= {"tolerance": f"the caller's: {tolerance}"} if tolerance else {}
    section = _judged(first, second, fed, limits or Limits(), tolerance)
    return Report(
        title=f"{first.name} (ONNX) <-> {second.name} (ONNX)",
        sections=(replace(section, facts={**facts, **section.facts}),),
        environment=current_environment(),
        notes=("inputs given" if inputs is not None else f"random inputs of shape {sizes}, seed {SEED}",),
    )


def _judged(first: Path, second: Path, fed: Fed, limits: Limits, tolerance: Tolerance | None) -> Section:
    section = partial(Section, name="onnx files", claim=CLAIM)
    try:
        ours, theirs = _run(first, fed.first, "own", limits), _run(second, fed.second, "own", limits)
    except ModelError as error:
        return section(status="skipped", summary="not run", reason=str(error))
    if len(ours) != len(theirs):
        counts = [f"{count(len(outputs), 'array')} ({', '.join(outputs)})" for outputs in (ours, theirs)]
        fact = f"the first returns {counts[0]}, the second {counts[1]}"
        return section(status="failed", summary="they return other things", problems=(Problem(fact=fact),))
    pairs, how = pair_outputs(ours, theirs)
    told = [f"{name} <-> {other}{f' ({layout})' if layout else ''}" for name, other, layout in pairs]
    section = partial(section, facts={"outputs": f"{', '.join(told)}, {how}"})
    both = [_Both(name=name, layout=layout, first=ours[name], second=theirs[other]) for name, other, layout in pairs]
    try:
        truths = _truths(first, fed, ours, limits)
    except ModelError as error:
        return _without_floor(section, both, error) if tolerance is None else _by_numbers(section, both, {}, tolerance)
    return _by_numbers(section, both, truths, tolerance)


@dataclass(frozen=True, kw_only=True)
class _Both:
    """An output of both files: its name in the first, and what layout that one's values are brought into."""

    name: str
    layout: str
    first: Array
    second: Array

    @property
    def diff(self) -> Diff | None:
        """How they differ; None where they have other shapes, or there is nothing to compare."""
        here = moved(self.first, self.layout)
        return compare(here, self.second) if here.shape == self.second.shape and here.size else None


def _truths(path: Path, fed: Fed, ours: Mapping[str, Array], limits: Limits) -> Mapping[str, Array]:
    """What a file computes in float64; raises `ModelError` where that is not its own computation, more exactly.

    An operator that the evaluator computes in another way than onnxruntime would make the noise floor so high that
    nothing was found against it.
    """
    truths = _run(path, fed.first, "float64", limits)
    for name, source in ours.items():
        truth = truths[name]
        if source.shape != truth.shape:
            raise ModelError(f"onnx's reference evaluator returns {name} {truth.shape}, and onnxruntime {source.shape}")
        noise = compare(source, truth) if source.size else None
        if noise and noise.max_abs > SUSPICIOUS * resolution(source) * noise.scale:
            raise ModelError(
                f"onnx's reference evaluator computes {name} of {path.name} otherwise than onnxruntime does, by "
                f"{noise.max_rel:.2g} of the largest value, which is more than rounding"
            )
    return truths


def _without_floor(section: _Make, both: list[_Both], error: ModelError) -> Section:
    """Only equal bits pass where there is nothing to judge by."""
    diffs = [pair.diff for pair in both]
    if all(diff is not None and diff.identical and not diff.nonfinite for diff in diffs):
        return section(status="passed", summary="bit-identical")
    told = "; ".join(str(diff) if diff else "the shapes differ" for diff in diffs)
    reason = f"there is no noise floor to judge by: {error}"
    return section(status="skipped", reason=reason, summary=f"they differ: {told}")


def _by_numbers(section: _Make, both: list[_Both], truths: Mapping[str, Array], tolerance: Tolerance | None) -> Section:
    judged: list[Verdict] = []
    for pair in both:
        if not pair.first.size or not pair.second.size:
            odd = f"{pair.first.shape} and {pair.second.shape}: there is nothing to compare"
            judged.append(Verdict(output=pair.name, first="first", second="second", odd=odd))
            continue
        here = moved(pair.first, pair.layout)
        truth = moved(truths[pair.name], pair.layout) if truths else None
        judged += verdicts(pair.name, {"first": here, "second": pair.second}, here, truth, tolerance)
    apart = [verdict for verdict in judged if not verdict.agrees]
    worst = max(((verdict.judgement.ratio or 0.0) for verdict in judged if verdict.judgement), default=0.0)
    measured = f"at most {worst:.2g} x the noise floor" if truths else "within the tolerance given"
    outputs = count(len(judged), "output")
    differ = "differs" if len(apart) == 1 else "differ"
    return section(
        status="failed" if apart else "passed",
        summary=f"{len(apart)} of {outputs} {differ} by more than {'was allowed' if tolerance else 'noise'}"
        if apart
        else f"{outputs} {'agrees' if len(judged) == 1 else 'agree'}: {measured}",
        tables=(table(judged),),
        problems=tuple(Problem(fact=f"{verdict.output}: {verdict.odd or verdict.judgement}") for verdict in apart),
    )


def _run(path: Path, arrays: list[Array], mode: str, limits: Limits) -> dict[str, Array]:
    """Runs a file in a process of its own, with limits."""
    with tempfile.TemporaryDirectory(prefix="keras3conv-onnx-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, *arrays)
        command = [sys.executable, "-m", "keras3conv.validators.onnx.child", str(path.resolve())]
        command += [str(inputs), str(outputs), mode, str(limits.memory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limits.seconds, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{path.name} ran for more than {limits.seconds:g} seconds") from None
        if done.returncode != 0:
            said = [line for line in done.stderr.strip().splitlines() if line.strip()]
            last = said[-1][:400] if said else "nothing was said"
            told = last if path.name in last else f"{path.name}: {last}"
            raise ModelError(
                told if done.returncode == 3 else f"{path.name} ended with status {done.returncode}: {last}"
            )
        with np.load(outputs) as found:
            names, *values = (found[name] for name in found.files)
            return dict(zip(map(str, names), values, strict=True))


def _told(path: Path, model: Any) -> str:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    producer = f"{model.producer_name} {model.producer_version}".strip() or "an unnamed producer"
    return f"{path.name}, of {producer}, opset {opset}"
