"""Order the statements branch by branch, so that each branch can be read from its start to its end.

The trace of a Keras model interleaves the statements of its branches.
"""

from dataclasses import replace

from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs


def arranged(program: Program) -> Program:
    """Return the program with its statements in depth-first order, one branch after the other.

    Before each statement come the statements that compute its inputs.
    """
    maker = {output: place for place, step in enumerate(program.steps) for output in step.outputs}
    done: set[int] = set()
    steps: list[Step] = []
    stack = [maker[ref.name] for ref in refs(program.outputs) if ref.name in maker][::-1]
    while stack:
        place = stack[-1]
        step = program.steps[place]
        missing = [maker[name] for name in program.masks_last(step) if name in maker and maker[name] not in done]
        if place in done or not missing:
            stack.pop()
            if place not in done:
                done.add(place)
                steps.append(step)
        else:
            stack.extend(reversed(missing))
    return replace(program, steps=tuple(steps))
