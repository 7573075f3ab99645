"""Order the statements branch by branch, so that each branch can be read from its start to its end.

The recorded calls of a Keras model, from which the program was made, alternate between its branches.
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


def with_early_results(program: Program) -> Program:
    """Return the program in which statements that only outputs need, such as permutations of outputs, come early.

    Such a statement directly follows the statement whose result it uses, so that both are in one iteration of a loop.
    Statements in the calls of layers stay where they are.
    """
    late: set[int] = set()
    needed: set[str] = set()  # by other statements than these
    for place in reversed(range(len(program.steps))):
        step = program.steps[place]
        if step.module or step.calls or needed & {*step.outputs}:
            needed.update(step.inputs)
        else:
            late.add(place)
    waiting = [program.steps[place] for place in sorted(late)]
    made = {value.name for value in program.inputs} | {*program.weights}
    steps: list[Step] = []
    for place, step in enumerate(program.steps):
        if place not in late:
            steps.append(step)
            made.update(step.outputs)
        for one in [*waiting]:
            if {*one.inputs} <= made:
                steps.append(one)
                made.update(one.outputs)
                waiting.remove(one)
    return replace(program, steps=tuple(steps))
