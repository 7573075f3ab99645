"""A pair of models whose right alignment is known, and how well it is found."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import keras3conv as k3c
from keras3conv.alignment import tensors_by_path
from keras3conv.frameworks import keras_side
from keras3conv.report import Report

LIMIT = 1e-10
"""The relative error in float64 up to which two models compute the same function."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models, and how the right alignment is known.

    Attributes:
        torch: The torch module.
        keras: The Keras model; if it holds the right weights already (`restores`), they are scrambled first.
        inputs: What the torch module is called with; None where that follows from the Keras model.
        keras_inputs: What the Keras model is called with; None where that follows from `inputs`.
        restores: Whether the Keras model came with the torch module's weights, put there by a converter that is not
            ours: then the transfer must bring back every variable, bit for bit.
        without: Torch layers that the Keras model has no place for, each with the reason.
        named: What the certificate must say of the pair, where the two architectures differ.
        repaired: Makes the Keras model without those differences; with it the pair must compute one function.
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
    """A line of the table.

    Attributes:
        name: What it is called.
        build: Makes the pair.
        needs: The packages that it needs.
    """

    name: str
    build: Callable[[], Pair]
    needs: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a pair.

    Attributes:
        name: The pair.
        tensors: How many variables the Keras model has, random generators aside.
        right: How many of them were placed right, as far as that was proven.
        decided: How many pairs of layers each kind of evidence decided.
        unconfirmed: How many pairs of layers the plan marks as not confirmed.
        seconds: How long the alignment took.
        float64: The largest relative error of an output in float64 under probe weights, differences repaired.
        noise: The difference in float32 as a multiple of the noise floor, differences repaired.
        named: The differences of architecture that the certificate named.
        misses: Where the pair falls short, in words.
    """

    name: str
    tensors: int = 0
    right: int = 0
    decided: Mapping[str, int] = field(default_factory=dict)
    unconfirmed: int = 0
    seconds: float = 0.0
    float64: float | None = None
    noise: float | None = None
    named: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()


def measure(name: str, pair: Pair) -> Result:
    """Aligns a pair without a hint, transfers, and compares with what is known to be right."""
    before = _variables(pair.keras) if pair.restores else {}
    if pair.restores:
        _scramble(pair.keras)
    start = time.perf_counter()
    plan = k3c.align(pair.torch, pair.keras, inputs=pair.inputs, keras_inputs=pair.keras_inputs)
    seconds = time.perf_counter() - start
    for path, reason in pair.without.items():
        plan = plan.ignore(path, reason, side="torch")
    tensors = [tensor for tensor in plan.keras.tensors() if not tensor.is_seed]
    result = Result(
        name=name,
        tensors=len(tensors),
        decided=_decided(plan),
        unconfirmed=sum(entry.unconfirmed for entry in plan.pairs),
        seconds=seconds,
    )
    if plan.problems():
        return replace(result, misses=tuple(str(problem.fact) for problem in plan.problems()[:3]))
    k3c.transfer(pair.torch, pair.keras, plan)
    report = _certificate(pair, pair.keras, plan)
    facts = " ".join(problem.fact for problem in report.section("float64").problems)
    named = tuple(text for text in pair.named if text in facts)
    misses = [f"the certificate does not name: {text}" for text in pair.named if text not in named]
    if pair.repaired is not None:
        model = pair.repaired(pair.keras)
        proven = k3c.align(pair.torch, model, inputs=pair.inputs, keras_inputs=pair.keras_inputs)
        k3c.transfer(pair.torch, model, proven)
        report = _certificate(pair, model, proven)
        right = len(_placed(plan) & _placed(proven))
    else:
        right = len(tensors)
    if pair.restores:
        # A backbone returns what its authors chose, in an order of their own: its layers are compared.
        error, noise = _largest(report, "float64", "layers", "relative error"), None
        after = _variables(pair.keras)
        right = sum(np.array_equal(after[path], value) for path, value in before.items())
    else:
        error = _largest(report, "float64", "outputs", "relative error")
        noise = _largest(report, "outputs", "outputs", "ratio")
    if not pair.restores and not report.ok:
        misses += [problem.fact for section in report.sections for problem in section.problems[:1]]
        right = 0
    if right < len(tensors):
        misses.append(f"{len(tensors) - right} of {len(tensors)} variables are not placed right")
    if error is None or not error <= LIMIT:
        misses.append(f"the float64 error is {error}")
    return replace(result, right=right, float64=error, noise=noise, named=named, misses=tuple(misses))


def _certificate(pair: Pair, model: Any, plan: k3c.Alignment) -> Report:
    proofs = ("structure", "float64") if pair.restores else ("structure", "roundtrip", "float64", "outputs")
    return k3c.validate(
        pair.torch, model, inputs=pair.inputs, keras_inputs=pair.keras_inputs, alignment=plan, proofs=proofs
    )


def _largest(report: Report, section: str, title: str, column: str) -> float | None:
    """The largest figure in a column of one of a certificate's tables; None where one is missing."""
    tables = [table for table in report.section(section).tables if table.title == title]
    values = [row[table.columns.index(column)] for table in tables for row in table.rows]
    numbers = [float(str(value)) for value in values if value is not None]
    return max(numbers) if numbers and len(numbers) == len(values) else None


def _decided(plan: k3c.Alignment) -> dict[str, int]:
    kinds = [pair.decided_by for pair in plan.pairs]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _placed(plan: k3c.Alignment) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    return {(mapping.torch, (path,)) for mapping in plan.mappings for path in mapping.keras}


def _variables(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    view = keras_side.view(model)
    return {path: np.array(view.read(path)) for path, tensor in tensors_by_path(view).items() if not tensor.is_seed}


def _scramble(model: Any) -> None:
    generator = np.random.default_rng(7)
    values = {
        path: generator.uniform(0.5, 1.5, value.shape).astype(value.dtype)
        for path, value in _variables(model).items()
        if value.dtype.kind == "f"
    }
    keras_side.write(model, values)


def randomised(module: Any) -> Any:
    """A torch module in evaluation mode whose parameters and statistics hide nothing: no zero biases, no unit scales.

    What must have one value because the other side does without (see `Drop`) is left to whoever calls this.
    """
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point() and tensor.ndim < 2:
                low, high = (0.5, 1.5) if name.endswith(("weight", "var")) else (-0.5, 0.5)
                tensor.uniform_(low, high, generator=generator)
    return module.eval()
