"""Prove that both models have the same weights, bit for bit, except for losses that a transform declares."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras3conv.alignment.text import declared_loss
from keras3conv.errors import Problem
from keras3conv.messages import count, how_many_differ
from keras3conv.model.views import Side
from keras3conv.report.values import WITHOUT_WEIGHTS, Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.transferred import stored_weights, transfers, weight_difference

CLAIM = "After the transforms the weights of both models are bit-identical, in both directions."


def check(subject: Subject) -> Section:
    """Transform every tensor of the plan from torch to Keras and from Keras to torch, and compare the bytes.

    Returns:
        The section of the report.
    """
    problems: list[Problem] = []
    lossy: list[tuple[str, str]] = []
    nonfinite: list[str] = []
    drawn: dict[Side, list[bool]] = {"torch": [], "keras": []}
    elements = 0
    for pair in subject.plan.pairs:
        for mapping in pair.weights:
            torch, keras = stored_weights(subject, mapping)
            elements += sum(array.size for array in keras)
            nonfinite += [name for name, array in zip(mapping.torch, torch, strict=True) if not _is_finite(array)]
            if not mapping.transform.lossless:
                lossy.append((", ".join(mapping.torch), ", ".join(mapping.keras)))
            fact = weight_difference(mapping, torch, keras)
            drawn["torch"] += [bool(fact)] if any(map(_varies, torch)) else []
            drawn["keras"] += [bool(fact)] if any(map(_varies, keras)) else []
            if fact:
                problems.append(Problem(torch=pair.torch, keras=pair.keras, fact=fact))
    total = sum(len(mapping.keras) for mapping in subject.plan.mappings)
    differing = len(problems)
    new = _new_weights(subject.options.factories, drawn) if problems else {}
    again = transfers(subject.port)
    problems = [_without_file(new), *problems] if new else [replace(problem, fixes=again) for problem in problems]
    facts = {"declared loss": declared_loss(subject.plan.mappings)} if lossy else {}
    facts |= {"NaN or infinities": f"in {', '.join(nonfinite)} (torch)"} if nonfinite else {}
    facts |= {WITHOUT_WEIGHTS: " and ".join(new.values())} if new else {}
    losses = {"declared loss": tuple(lossy), _COMPUTED: _computed_weights(subject)}
    tables = tuple(Table(title=title, columns=("torch", "keras"), rows=rows) for title, rows in losses.items() if rows)
    return Section(
        name="roundtrip",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=_summary(differing, total, elements) + _without_weights(new),
        facts=facts,
        tables=tables,
        problems=tuple(problems),
    )


def _summary(differing: int, total: int, elements: int) -> str:
    if not differing:
        return f"{count(total, 'variable')}, {count(elements, 'element')}"
    return how_many_differ(differing, total, "variable")


def _without_weights(new: Mapping[Side, str]) -> str:
    """Return the end of the summary: ": net.py:build was called without ..."; "" without such factories."""
    names = " and ".join(new.values())
    return (
        f": {names} {'was' if len(new) == 1 else 'were'} called without a file of weights, so these are random ones"
        if new
        else ""
    )


_NEARLY_ALL = 0.9
"""The share of differing tensors from which the weights count as newly drawn; a few may differ for another reason."""


def _new_weights(factories: Mapping[Side, str], drawn: Mapping[Side, list[bool]]) -> dict[Side, str]:
    """Return the factories, by side, whose models do not have the weights that were transferred.

    A factory without a file of weights draws new random weights in every call. Tensors with a single value are left
    out: biases and the statistics of a batch normalisation start with constants, which are equal after every call.

    Args:
        factories: The factories without a file of weights, by side.
        drawn: For each side, a boolean for each of its tensors with several values: whether it differs from the other
            side's.
    """
    return {
        side: name for side, name in factories.items() if sum(drawn[side]) >= max(1, _NEARLY_ALL * len(drawn[side]))
    }


def _without_file(new: Mapping[Side, str]) -> Problem:
    """Return the problem of factories that were called without files of weights.

    Args:
        new: The factories, by side.
    """
    options = [f"--{side}-weights" for side in new]
    if len(new) == 1:
        (side,) = new
        fact = (
            f"was called without {options[0]}, so its weights are new random ones, not those of the other model. "
            "Give the file of its weights, or let the function load them"
        )
        return Problem.on(side, new[side], fact, (f"{options[0]} FILE",))
    fact = f"were called without {' and '.join(options)}, so neither model has the weights of the other: transfer them"
    line = (
        "keras3conv transfer TORCH KERAS -o keras.weights.h5  # then this command with --keras-weights keras.weights.h5"
    )
    return Problem(torch=new["torch"], keras=new["keras"], fact=fact, fixes=(line,))


def _varies(array: Array) -> bool:
    return array.size > 1 and bool((array != array.flat[0]).any())


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


_COMPUTED = "declared loss: torch computes the weight from other tensors, which Keras does not have"


def _computed_weights(subject: Subject) -> tuple[tuple[str, str], ...]:
    """Return the torch and Keras paths of weights that torch computes from other tensors (weight norm)."""
    names = {tensor.path for tensor in subject.torch_view.tensors() if tensor.is_computed}
    return tuple(
        (", ".join(mapping.torch), ", ".join(mapping.keras))
        for mapping in subject.plan.mappings
        if names.intersection(mapping.torch)
    )
