"""The weights are the same bits on both sides, there and back, or the declared loss and nothing more."""

import numpy as np

from keras3conv.alignment.staging import direction
from keras3conv.errors import Problem, TransformError
from keras3conv.numerics.difference import compare, same_bits
from keras3conv.report.values import Section, Table
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

CLAIM = "The weights of both models are the same bits after the transforms, there and back."


def check(subject: Subject) -> Section:
    """Compares every tensor of the plan, both ways."""
    problems: list[Problem] = []
    lossy: list[tuple[str, str]] = []
    broken: list[str] = []
    numbers = 0
    for pair in subject.plan.pairs:
        for mapping in pair.weights:
            torch = tuple(subject.torch_view.read(path) for path in mapping.torch)
            keras = tuple(subject.keras_view.read(path) for path in mapping.keras)
            numbers += sum(array.size for array in keras)
            broken += [name for name, array in zip(mapping.torch, torch, strict=True) if not _is_finite(array)]
            if not mapping.transform.lossless:
                lossy.append((", ".join(mapping.torch), ", ".join(mapping.keras)))
            try:
                fact = _difference(mapping, torch, keras)
            except TransformError as error:  # values that the other side has no place for
                fact = str(error)
            if fact:
                problems.append(Problem(torch=pair.torch, keras=pair.keras, fact=fact, fixes=_FIXES))
    total = sum(len(mapping.keras) for mapping in subject.plan.mappings)
    differing = len(problems)
    facts = {"declared loss": f"{len(lossy)} mappings"} if lossy else {}
    facts |= {"NaN or infinities": f"in {', '.join(broken)} (torch)"} if broken else {}
    losses = (("declared loss", tuple(lossy)), (_COMPUTED, _computed(subject)))
    tables = tuple(Table(title=title, columns=("torch", "keras"), rows=rows) for title, rows in losses if rows)
    return Section(
        name="roundtrip",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=f"{differing} of {total} variables differ" if problems else f"{total} variables, {numbers:,} numbers",
        facts=facts,
        tables=tables,
        problems=tuple(problems),
    )


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


_FIXES = ("k3c.transfer(torch, keras, plan)", "k3c.transfer(keras, torch, plan)")


_COMPUTED = "declared loss: computed in torch; what it is computed of has no place in Keras"


def _computed(subject: Subject) -> tuple[tuple[str, str], ...]:
    """The mappings of weights that torch computes of other tensors (weight norm, a standardised kernel)."""
    names = {tensor.path for tensor in subject.torch_view.tensors() if tensor.is_computed}
    return tuple(
        (", ".join(mapping.torch), ", ".join(mapping.keras))
        for mapping in subject.plan.mappings
        if names.intersection(mapping.torch)
    )


def _difference(mapping: WeightMapping, torch: tuple[Array, ...], keras: tuple[Array, ...]) -> str:
    """What is wrong with one mapping, in words; empty if nothing is."""
    moved = direction(mapping, "keras")(torch)
    for path, array, there in zip(mapping.keras, moved, keras, strict=True):
        if not same_bits(array.astype(there.dtype), there):
            return f"{path}: {compare(array, there)}"
    back = direction(mapping, "torch")(keras)
    again = direction(mapping, "keras")(back)
    if not all(same_bits(first.astype(second.dtype), second) for first, second in zip(again, keras, strict=True)):
        return f"{', '.join(mapping.keras)}: does not come back with the same bits"
    if mapping.transform.lossless:
        for path, array, there in zip(mapping.torch, back, torch, strict=True):
            if not same_bits(array.astype(there.dtype), there):
                return f"{path}: does not come back with the same bits"
    return ""
