"""Two ONNX files, whoever made them: both are run in onnxruntime on the same inputs, and compared."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.compare import compare
from keras3conv.errors import InputError, MissingExtra, ModelError, Problem
from keras3conv.frameworks.inputs import BATCH, SEED, derive
from keras3conv.frameworks.layout import output_like_keras
from keras3conv.model import InputSpec
from keras3conv.report import Report, Section, current_environment
from keras3conv.transforms import Array
from keras3conv.validators.onnx_crosscheck import table
from keras3conv.validators.onnx_opinions import Verdict, verdicts
from keras3conv.validators.onnx_preflight import check_file

CLAIM = (
    "Run in onnxruntime on the same inputs, both files return the same values, up to the noise that the first makes "
    "itself against its own run in float64."
)

FEATURE = "compare_onnx"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What running a file of somebody else may cost.

    Attributes:
        seconds: How long one run may take.
        memory: How many bytes of memory its process may have.
    """

    seconds: float = 300.0
    memory: int = 16 << 30


def compare_files(first: Path, second: Path, inputs: Any = None, limits: Limits | None = None) -> Report:
    """Compares two ONNX files; see `keras3conv.compare_onnx`."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(FEATURE, package, "onnx")
    models = {"first": check_file(first), "second": check_file(second)}
    specs = {name: _specs(model) for name, model in models.items()}
    given = _flat(inputs, specs["first"]) if inputs is not None else _made(first, specs["first"])
    note = "inputs given" if inputs is not None else f"random inputs, seed {SEED}, made from the first file's inputs"
    derived = derive({str(place): array for place, array in enumerate(given)}, specs["second"])
    others = derived if isinstance(derived, list) else [derived]
    section = _judged(first, second, given, others, limits or Limits())
    facts = {name: _told(path, models[name]) for name, path in (("first", first), ("second", second))}
    return Report(
        title=f"{first.name} (ONNX) <-> {second.name} (ONNX)",
        sections=(Section(**{**vars(section), "facts": {**facts, **section.facts}}),),
        environment=current_environment(),
        notes=(note,),
    )


def _judged(first: Path, second: Path, given: list[Array], others: list[Array], limits: Limits) -> Section:
    def section(**changed: Any) -> Section:
        return Section(
            **{"name": "onnx files", "status": "skipped", "claim": CLAIM, "summary": "not judged", **changed}
        )

    try:
        ours, theirs = _run(first, given, "own", limits), _run(second, others, "own", limits)
    except ModelError as error:
        return section(summary="not run", reason=str(error))
    if len(ours) != len(theirs):
        fact = (
            f"the first returns {len(ours)} arrays ({', '.join(ours)}), the second {len(theirs)} ({', '.join(theirs)})"
        )
        return section(status="failed", summary="they return other things", problems=(Problem(fact=fact),))
    pairs = _paired(ours, theirs)
    try:
        truths = _run(first, given, "float64", limits)
    except ModelError as error:
        diffs = [compare(_like(a, b), b) if _like(a, b).shape == b.shape else None for _, a, b in pairs]
        if all(diff is not None and diff.identical and not diff.nonfinite for diff in diffs):
            return section(status="passed", summary="bit-identical")
        told = "; ".join(str(diff) if diff else "the shapes differ" for diff in diffs)
        return section(reason=f"there is no noise floor to judge by: {error}", summary=f"they differ: {told}")
    return _by_the_floor(section, pairs, truths)


def _by_the_floor(section: Any, pairs: list[tuple[str, Array, Array]], truths: Mapping[str, Array]) -> Section:
    judged: list[Verdict] = []
    for name, ours, theirs in pairs:
        here, truth = _like(ours, theirs), _like(truths[name], theirs)
        judged += verdicts(name, {"first": here, "second": theirs}, here, truth)
    apart = [verdict for verdict in judged if not verdict.agrees]
    worst = max(((verdict.judgement.ratio or 0.0) for verdict in judged if verdict.judgement), default=0.0)
    agreed = f"{len(judged)} outputs agree: at most {worst:.2g} x the noise floor"
    made: Section = section(
        status="failed" if apart else "passed",
        summary=f"{len(apart)} of {len(judged)} outputs differ by more than noise" if apart else agreed,
        tables=(table(judged),),
        problems=tuple(Problem(fact=f"{verdict.output}: {verdict.odd or verdict.judgement}") for verdict in apart),
    )
    return made


def _paired(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> list[tuple[str, Array, Array]]:
    """The outputs of both: by name where the names are the same, else by order."""
    names = list(ours) if set(ours) == set(theirs) else list(theirs)
    return [(name, ours[name], theirs[other]) for name, other in zip(ours, names, strict=True)]


def _like(array: Array, other: Array) -> Array:
    return output_like_keras(array, other.shape)[0]


def _specs(model: Any) -> tuple[InputSpec, ...]:
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    made = []
    for entry in model.graph.input:
        if entry.name not in stored:
            kind = entry.type.tensor_type
            shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
            dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
            made.append(InputSpec(shape=shape, dtype=dtype, name=entry.name))
    return tuple(made)


def _flat(inputs: Any, specs: tuple[InputSpec, ...]) -> list[Array]:
    """The inputs in the order of the first file: an array, a tuple of them, or a dict by name."""
    if isinstance(inputs, Mapping):
        names = [spec.name for spec in specs]
        if set(inputs) != set(names):
            raise InputError(f"the first file takes {', '.join(names)}; given are {', '.join(map(str, inputs))}")
        return [np.asarray(inputs[name]) for name in names]
    given = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    if len(given) != len(specs):
        raise InputError(f"the first file takes {len(specs)} inputs; given are {len(given)}")
    return [np.asarray(array) for array in given]


def _made(path: Path, specs: tuple[InputSpec, ...]) -> list[Array]:
    generator = np.random.default_rng(SEED)
    made = []
    for spec in specs:
        if None in spec.shape[1:] or not spec.dtype.startswith("float"):
            raise InputError(
                f"{path}: {spec.name} is {spec.dtype} {spec.shape}, which cannot be made up: give inputs=..."
            )
        shape = (spec.shape[0] or BATCH, *(int(size or 1) for size in spec.shape[1:])) if spec.shape else ()
        made.append(np.asarray(generator.standard_normal(shape)).astype(spec.dtype))
    return made


def _run(path: Path, arrays: list[Array], mode: str, limits: Limits) -> dict[str, Array]:
    """Runs a file in a process of its own, with limits."""
    with tempfile.TemporaryDirectory(prefix="keras3conv-onnx-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, *arrays)
        command = [sys.executable, "-m", "keras3conv.validators.onnx_child", str(path.resolve())]
        command += [str(inputs), str(outputs), mode, str(limits.memory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limits.seconds, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{path.name} ran for more than {limits.seconds:g} seconds") from None
        if done.returncode != 0:
            said = [line for line in done.stderr.strip().splitlines() if line.strip()]
            how = "was refused" if done.returncode == 3 else f"ended with status {done.returncode}"
            raise ModelError(f"{path.name} {how}: {said[-1][:300] if said else 'nothing was said'}")
        with np.load(outputs) as found:
            names, *values = (found[name] for name in found.files)
            return dict(zip(map(str, names), values, strict=True))


def _told(path: Path, model: Any) -> str:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    producer = f"{model.producer_name} {model.producer_version}".strip() or "an unnamed producer"
    return f"{path.name}, of {producer}, opset {opset}"
