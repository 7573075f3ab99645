"""Measure how well the planner aligns a pair of models of which the right alignment (pairs of layers) is known."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import keras3conv as k3c
from keras3conv.alignment.pair import tensors_by_path
from keras3conv.errors import Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.report.report import Report
from keras3conv.rules.constants import is_constant

Values = np.ndarray[Any, Any]

LIMIT = 1e-10
"""The relative error in float64 up to which two models compute the same function."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models, and the facts that determine their right alignment.

    Attributes:
        torch: The torch module.
        keras: The Keras model; if it has the right weights already (`restores`), random values replace them first.
        inputs: The inputs of the torch module; None if they follow from the Keras model.
        keras_inputs: The inputs of the Keras model; None if they follow from `inputs`.
        restores: Whether the Keras model has the torch module's weights already, written by the converter of another
            project. The weights are then replaced by random values, and the transfer must restore them bit for bit.
        without: Torch layers without a counterpart in the Keras model, each with the reason.
        named: The differences between the two architectures, which the report of `validate` must name.
        repaired: A function that returns the Keras model without the differences in `named`; the returned model must
            compute the same function as the torch module.
    """

    torch: Any
    keras: Any
    inputs: Any = None
    keras_inputs: Any = None
    restores: bool = False
    without: Mapping[str, str] = field(default_factory=dict)
    named: Sequence[str] = ()
    repaired: Callable[[Any], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the table.

    Attributes:
        name: The name of the pair.
        build: A function that returns the pair.
        needs: The packages that the pair needs.
    """

    name: str
    build: Callable[[], Pair]
    needs: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measured result of a pair.

    Attributes:
        name: The pair.
        tensors: How many variables the Keras model has, without those of random generators.
        right: How many of them were proven to be paired with the right torch tensor.
        decided: How many pairs of layers were decided by each kind of evidence.
        unconfirmed: How many pairs of layers the plan marks as not confirmed.
        seconds: How long the alignment took.
        processor_seconds: How long it kept processors busy, which other work on the machine does not change.
        float64: The largest relative error in float64 with random weights, after known differences are removed.
        noise: The difference in float32 divided by torch's own rounding error, after known differences are removed.
        named: The differences of architecture that the report of `validate` names.
        misses: Sentences about what is wrong with the result.
    """

    name: str
    tensors: int = 0
    right: int = 0
    decided: Mapping[str, int] = field(default_factory=dict)
    unconfirmed: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    float64: float | None = None
    noise: float | None = None
    named: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()


def measure(name: str, pair: Pair) -> Result:
    """Align a pair without hints, transfer the weights, and compare the result with the right alignment."""
    before = _variables(pair.keras) if pair.restores else {}
    if pair.restores:
        _scramble(pair.keras)
    start, busy = time.perf_counter(), time.process_time()
    plan = k3c.align(pair.torch, pair.keras, inputs=pair.inputs, keras_inputs=pair.keras_inputs)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - busy
    for path, reason in pair.without.items():
        plan = plan.ignore(path, reason, side="torch")
    result = Result(
        name=name,
        tensors=sum(not tensor.is_seed for tensor in plan.keras.tensors()),
        decided=_decided(plan),
        unconfirmed=sum(entry.unconfirmed for entry in plan.pairs),
        seconds=seconds,
        processor_seconds=processor_seconds,
    )
    if problems := plan.problems():
        return replace(result, misses=tuple(map(_said, problems[:3])))
    k3c.transfer(pair.torch, pair.keras, plan, accept_difference=True)
    if pair.restores:
        return _restored(pair, result, plan, before)
    return _proven(pair, result, plan)


def _restored(pair: Pair, result: Result, plan: k3c.Alignment, before: Mapping[str, Values]) -> Result:
    """Check that each variable has the other converter's value, and that `validate` names all differences.

    The layers are compared, not the outputs, because the two libraries return different outputs in different orders.
    """
    after = _variables(pair.keras)
    report = _certificate(pair, pair.keras, plan)
    result = replace(
        result,
        right=sum(np.array_equal(after[path], value) for path, value in before.items()),
        float64=_largest(report, "float64", "layers", "relative error"),
        named=_named(report),
    )
    misses = _misplaced(result)
    if not result.named:
        misses += _too_far(result)
    return replace(result, misses=tuple(misses))


def _proven(pair: Pair, result: Result, plan: k3c.Alignment) -> Result:
    """Check that both models compute the same function after the known differences are removed (`Pair.repaired`)."""
    report = _certificate(pair, pair.keras, plan)
    named = _named(report) if pair.named else ()
    misses = [f"the certificate does not name: {text}" for text in pair.named if text not in " ".join(named)]
    right = result.tensors
    if pair.repaired is not None:
        model = pair.repaired(pair.keras)
        proven = k3c.align(pair.torch, model, inputs=pair.inputs, keras_inputs=pair.keras_inputs)
        k3c.transfer(pair.torch, model, proven, accept_difference=True)
        report = _certificate(pair, model, proven)
        right = len(_placed(plan) & _placed(proven))
    if not report.ok:
        misses += [_said(problem) for section in report.sections for problem in section.problems[:1]]
        right = 0
    result = replace(
        result,
        right=right,
        float64=_largest(report, "float64", "outputs", "relative error"),
        noise=_largest(report, "outputs", "outputs", "ratio"),
        named=named,
    )
    return replace(result, misses=(*misses, *_misplaced(result), *_too_far(result)))


def _misplaced(result: Result) -> list[str]:
    wrong = result.tensors - result.right
    return [f"{wrong} of {result.tensors} variables are not placed right"] if wrong else []


def _too_far(result: Result) -> list[str]:
    good = result.float64 is not None and result.float64 <= LIMIT
    return [] if good else [f"the float64 error is {result.float64}, and nothing names the cause"]


def _said(problem: Problem) -> str:
    where = "  <->  ".join(path for path in (problem.torch, problem.keras) if path)
    return f"{where}: {problem.fact}" if where else problem.fact


def _named(report: Report) -> tuple[str, ...]:
    """Return the causes that the report of `validate` names for differences in float64."""
    facts = [problem.fact for problem in report.section("float64").problems if problem.fixes]
    return tuple(dict.fromkeys(" ".join(fact.split("\n", 1)[1].split()) for fact in facts if "\n" in fact))


def _certificate(pair: Pair, model: Any, plan: k3c.Alignment) -> Report:
    proofs = ("structure", "float64") if pair.restores else ("structure", "roundtrip", "float64", "outputs")
    return k3c.validate(pair.torch, model, inputs=pair.inputs, keras_inputs=pair.keras_inputs, plan=plan, proofs=proofs)


def _largest(report: Report, section: str, title: str, column: str) -> float | None:
    """Return the largest number in a column of a table of the report; None if a number is missing."""
    found = report.section(section)
    named = {problem.keras for problem in found.problems}
    rows = [
        dict(zip(table.columns, row, strict=True))
        for table in found.tables
        if table.title == title
        for row in table.rows
    ]
    missing = [row for row in rows if row[column] is None and (row.get("keras") in named or "keras" not in row)]
    numbers = [float(str(row[column])) for row in rows if row[column] is not None]
    return max(numbers) if numbers and not missing else None


def _decided(plan: k3c.Alignment) -> dict[str, int]:
    kinds = [pair.decided_by for pair in plan.pairs]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _placed(plan: k3c.Alignment) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    return {(mapping.torch, (path,)) for mapping in plan.mappings for path in mapping.keras}


def _variables(model: Any) -> dict[str, Values]:
    view = keras_side.view(model)
    return {path: np.array(view.read(path)) for path, tensor in tensors_by_path(view).items() if not tensor.is_seed}


def _scramble(model: Any) -> None:
    """Replace every weight by random values, except constants that follow from the sizes (rotary frequencies)."""
    generator = np.random.default_rng(7)
    tensors = tensors_by_path(keras_side.view(model))
    values = {
        path: np.asarray(generator.uniform(0.5, 1.5, value.shape), value.dtype)
        for path, value in _variables(model).items()
        if value.dtype.kind == "f" and not is_constant(tensors[path])
    }
    keras_side.write(model, values)


def randomised(module: Any) -> Any:
    """Randomise parameters and statistics of a torch module (no zero biases, no unit scales); return it, in eval mode.

    A frozen parameter keeps its values, such as the ones that stand for the scale which a Keras normalization lacks.
    A tensor that must have a fixed value, because the Keras side lacks it (see `Drop`), is randomised too; the caller
    must restore it.
    """
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():  # not the buffers that the constructor computes
            frozen = isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad
            if tensor.is_floating_point() and tensor.ndim < 2 and not frozen:
                low, high = (0.5, 1.5) if name.endswith(("weight", "var", "variance")) else (-0.5, 0.5)
                tensor.uniform_(low, high, generator=generator)
    return module.eval()
