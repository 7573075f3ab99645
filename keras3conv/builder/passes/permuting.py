"""Merge an einsum and the permutation of its result into one einsum."""

from dataclasses import replace

from keras3conv.builder.program.operation import Operation
from keras3conv.builder.program.program import Program, Step, Value
from keras3conv.model.graph import Ref

_EINSUM, _TRANSPOSE = "keras.ops.einsum", "keras.ops.transpose"


def without_permuted_products(program: Program) -> Program:
    """Return the program in which an einsum followed by a permutation is one einsum with another equation.

    The result of the einsum must have no other use. It may be multiplied or divided by numbers before the permutation.
    """
    steps = {step.outputs[0]: step for step in program.steps}
    values = dict(program.values)
    for step in program.steps:
        match step.expression:
            case Operation("function", name, (Ref(given), tuple() as axes)) if name == _TRANSPOSE:
                chain = _chain(program, steps, given)
                if chain:
                    _merge(steps, values, chain, axes, step)
    return replace(program, steps=tuple(steps.values()), values=values)


def _chain(program: Program, steps: dict[str, Step], name: str) -> list[str]:
    """Return the names of the values from an einsum's result to a given value; empty if no einsum leads to it.

    Each value is the one before it, multiplied or divided by a number. No other statement uses these values.

    Args:
        program: The program.
        steps: The statements, by the value that they compute.
        name: The name of the given value.
    """
    found: list[str] = []
    while program.uses[name] == 1 and name in steps:
        found.insert(0, name)
        match steps[name].expression:
            case Operation("function", function) if function == _EINSUM:
                return found
            case Operation("operator", "*" | "/", (Ref(before), int() | float()) | (int() | float(), Ref(before))):
                name = before
            case _:
                return []
    return []


def _merge(
    steps: dict[str, Step], values: dict[str, Value], chain: list[str], axes: tuple[int, ...], last: Step
) -> None:
    """Let an einsum return its output permuted, and remove the step that permutes this output later.

    Args:
        steps: The statements of the program, by the name of their result; changed in place.
        values: The values of the program by name; changed in place.
        chain: The names of the values from the result of the einsum to the value that the removed step permutes; see
            `_chain`.
        axes: The permutation.
        last: The removed step. Its result is now computed by the step of the last value in `chain`.
    """
    product = steps[chain[0]]
    steps[chain[0]] = replace(product, expression=_permuted(product.expression, axes))
    for name in chain:
        values[name] = replace(values[name], order=tuple(values[name].order[axis] for axis in axes))
    end = steps[chain[-1]]
    moved = {key: step for key, step in steps.items() if key not in (chain[-1], last.outputs[0])}
    place = [*steps].index(chain[-1])
    ordered = list(moved.items())
    ordered.insert(place, (last.outputs[0], replace(end, outputs=last.outputs)))
    steps.clear()
    steps.update(ordered)


def _permuted(product: Operation, axes: tuple[int, ...]) -> Operation:
    equation, *others = product.args
    given, _, made = equation.partition("->")
    return replace(product, args=(f"{given}->{''.join(made[axis] for axis in axes)}", *others))
