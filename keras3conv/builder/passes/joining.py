"""Reuse earlier concatenations: with `ab = cat(a, b)`, replace `cat(a, b, c)` by `cat(ab, c)`.

In a DenseNet every layer concatenates all earlier outputs. After this pass its layers have the same form, so that they
can become instances of one class.
"""

from dataclasses import replace
from typing import Any

from keras3conv.builder.program.operation import Operation
from keras3conv.builder.program.program import Program
from keras3conv.model.graph import Ref

_CONCATENATE = "keras.ops.concatenate"


def with_joined_parts(program: Program) -> Program:
    """Return the program in which a concatenation `cat(a, b, c)` reuses the result of an earlier `cat(a, b)`."""
    known: dict[tuple[Any, ...], str] = {}
    steps = []
    for step in program.steps:
        match step.expression:
            case Operation("function", name, (list(parts),), kwargs) if name == _CONCATENATE and _are_values(parts):
                made = _shortened(parts, kwargs, known)
                known[(*(part.name for part in parts), str(kwargs))] = step.outputs[0]
                steps.append(replace(step, expression=replace(step.expression, args=(made,))))
            case _:
                steps.append(step)
    return replace(program, steps=tuple(steps))


def _are_values(parts: list[Any]) -> bool:
    return all(isinstance(part, Ref) for part in parts)


def _shortened(parts: list[Ref], kwargs: Any, known: dict[tuple[Any, ...], str]) -> list[Ref]:
    for end in range(len(parts) - 1, 1, -1):
        found = known.get((*(part.name for part in parts[:end]), str(kwargs)))
        if found:
            return [Ref(found), *parts[end:]]
    return parts
