"""The order of statements: whatever leads to a value stands together, so that a branch can be read from its beginning.

Keras runs the branches of a model side by side; a person writes one after the other.
"""

from dataclasses import replace

from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs


def arranged(program: Program) -> Program:
    """The program with every statement as late as the one that first needs it, branch after branch."""
    maker = {output: place for place, step in enumerate(program.steps) for output in step.outputs}
    done: set[int] = set()
    steps: list[Step] = []
    wanted = [maker[ref.name] for ref in refs(program.outputs) if ref.name in maker]
    stack = list(reversed(wanted))
    while stack:
        place = stack[-1]
        step = program.steps[place]
        missing = [maker[name] for name in step.inputs if name in maker and maker[name] not in done]
        if place in done or not missing:
            stack.pop()
            if place not in done:
                done.add(place)
                steps.append(step)
        else:
            stack.extend(reversed(missing))
    return replace(program, steps=tuple(steps))
