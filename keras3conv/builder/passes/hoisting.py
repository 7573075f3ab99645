"""Move constants that are repeated for each sample to the start of a program, if several statements use them.

Such a value is the product of a constant and ones of the batch size. At the start of the program it does not become a
part of the first iteration of a loop, which would then differ from the other iterations.
"""

from dataclasses import replace

from keras3conv.builder.program.operation import Operation, walk
from keras3conv.builder.program.program import Program, Step

_ONES = "keras.ops.ones_like"


def with_constants_first(program: Program) -> Program:
    """Return the program with the tensors of ones, and their products with constants, before all other values.

    A value that only one statement uses stays where it is.
    """
    ones = {name for step in program.steps if _is_ones(step) for name in step.outputs}
    known = {*program.weights, *ones}
    made = [not step.module and (_is_ones(step) or {*step.inputs} <= known) for step in program.steps]
    early = [
        is_made and any(program.uses[name] > 1 for name in step.outputs)
        for step, is_made in zip(program.steps, made, strict=True)
    ]
    needed = {name for step, is_early in zip(program.steps, early, strict=True) if is_early for name in step.inputs}
    first = [
        is_early or not needed.isdisjoint(step.outputs) for step, is_early in zip(program.steps, early, strict=True)
    ]
    places = sorted(range(len(first)), key=lambda place: not first[place])
    return replace(program, steps=tuple(program.steps[place] for place in places))


def _is_ones(step: Step) -> bool:
    """Return whether a statement only makes a tensor of ones with the batch size of an input."""
    return any(isinstance(node, Operation) and node.name == _ONES for node in walk((step.expression,)))
