"""Merge two statements in a row into one: two reshapes, two slices of different axes, or a tile and an operator.

A tile before an operator is left out, because the operator itself broadcasts an axis of size one.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keras3conv.builder.program.operation import INDEX, Operation, operator
from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import Ref, Shape

_RESHAPE, _TILE = "keras.ops.reshape", "keras.ops.tile"
_WHOLE = slice(None)


def with_fused_forms(program: Program) -> Program:
    """Return the program with two reshapes, two slices, or a tile and an operator merged into one statement.

    They are merged only if nothing but the second statement uses the result of the first.
    """
    steps: dict[str, Step] = {}
    for step in program.steps:
        found = _fused(step, steps, program.uses) or _broadcast(program, step, steps)
        if found is not None:
            del steps[found[0]]
        steps[step.outputs[0]] = step if found is None else replace(step, expression=found[1])
    return replace(program, steps=tuple(steps.values()))


def _fused(step: Step, steps: Mapping[str, Step], uses: Mapping[str, int]) -> tuple[str, Operation] | None:
    """Merge a reshape or slice with the reshape or slice that computes its input.

    Args:
        step: The second statement.
        steps: The statements, by the value that they compute.
        uses: The number of times that each value is used.

    Returns:
        The name of the value between the two statements, which is not needed any more, and the merged expression; None
        if nothing can be merged.
    """
    match step.expression:
        case Operation("function", name, (Ref(given), shape)) if name == _RESHAPE and uses[given] == 1:
            match steps[given].expression if given in steps else None:
                case Operation("function", first, (Ref() as before, _)) if first == _RESHAPE:
                    return given, replace(step.expression, args=(before, shape))
        case Operation("operator", sign, (Ref(given), tuple() as key)) if sign == INDEX and uses[given] == 1:
            match steps[given].expression if given in steps else None:
                case Operation("operator", other, (Ref() as before, tuple() as first_key)) if other == INDEX:
                    joined = _joined(first_key, key)
                    return (given, operator(INDEX, before, joined)) if joined else None
    return None


def _broadcast(program: Program, step: Step, steps: Mapping[str, Step]) -> tuple[str, Operation] | None:
    """Leave out a tile (repetition of an axis of size one) before an operator, which itself broadcasts this axis.

    The other operand must have the shape of the result.

    Args:
        program: The program.
        step: The statement with the operator.
        steps: The statements by the value that they compute.

    Returns:
        The name of the tiled value, which is not needed any more, and the operator applied to the value before the
        tile; None if there is no such tile.
    """
    expression = step.expression
    if (
        not isinstance(expression, Operation)
        or expression.name not in ("+", "-", "*", "/")
        or len(expression.args) != 2
    ):
        return None
    for place, tiled in enumerate(expression.args):
        other = expression.args[1 - place]
        match steps[tiled.name].expression if isinstance(tiled, Ref) and tiled.name in steps else None:
            case Operation("function", name, (Ref(before), tuple() as times)) if name == _TILE:
                shape = program.values[before].target_shape
                grown = all(size == 1 or count == 1 for size, count in zip(shape, times, strict=True))
                is_whole = isinstance(other, Ref) and _shape(program, other.name) == _shape(program, step.outputs[0])
                if grown and is_whole and program.uses[tiled.name] == 1:
                    args = tuple(Ref(before) if at == place else one for at, one in enumerate(expression.args))
                    return tiled.name, replace(expression, args=args)
    return None


def _shape(program: Program, name: str) -> Shape:
    return program.values[name].target_shape


def _joined(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[slice, ...] | None:
    """Combine two successive indexings: `x[:, 1:][:3]` is `x[:3, 1:]`. None if both select a part of the same axis."""
    if not all(isinstance(one, slice) for one in (*first, *second)):
        return None
    count = max(len(first), len(second))
    pairs = zip(*(key + (_WHOLE,) * (count - len(key)) for key in (first, second)), strict=True)
    found = [other if one == _WHOLE else one if other == _WHOLE else None for one, other in pairs]
    return None if None in found else tuple(one for one in found if one is not None)
