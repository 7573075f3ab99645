"""Replace consecutive repetitions of statements by loops over a table of the values that differ."""

from collections.abc import Iterator, Sequence

from keras3conv.builder.passes.nested import shape_of
from keras3conv.builder.passes.repetition import Repetition
from keras3conv.builder.program.loop import Body, Loop
from keras3conv.builder.program.program import Program, Step

_LONGEST = 80
"""The largest number of statements in the body of a generated loop."""

_SAVED = 2
"""The least number of lines that a generated loop must save."""


def rolled(program: Program, taken: frozenset[str] = frozenset()) -> Body:
    """Return the statements of a program, with loops in place of consecutive statements that repeat.

    Args:
        program: The program; names of modules are unique in it.
        taken: Names that no variable of a loop may have.
    """
    tokens = [_token(program, step) for step in program.steps]
    return _rolled(program, tokens, 0, len(tokens), taken)


def _rolled(
    program: Program, tokens: Sequence[object], first: int, end: int, taken: frozenset[str]
) -> list[Step | Loop]:
    found = _best(program, tokens, first, end, taken)
    if found is None:
        return [*program.steps[first:end]]
    start, stop, made = found
    before, after = (_rolled(program, tokens, *part, taken) for part in ((first, start), (stop, end)))
    return [*before, *made, *after]


def _best(
    program: Program, tokens: Sequence[object], first: int, end: int, taken: frozenset[str]
) -> tuple[int, int, list[Step | Loop]] | None:
    """Return the loop that saves the most lines within a range of statements.

    Args:
        program: The program.
        tokens: For each statement of the program, a key; only statements with equal keys can repeat each other.
        first: The index of the first statement of the range.
        end: The index after its last statement.
        taken: Names that no variable of the loop may have.

    Returns:
        The start and the end of the statements that the loop replaces, and the loop, preceded by copies of values that
        it would overwrite; None if no loop saves enough.
    """
    found = ((first + start, length, iterations) for start, length, iterations in _repetitions(tokens[first:end]))
    candidates = sorted(found, key=lambda one: (-one[1] * (one[2] - 1), one[1], one[0]))
    best: tuple[tuple[int, int], int, int, list[Step | Loop]] | None = None
    for start, length, iterations in candidates:
        if best is not None and 3 * length * (iterations - 1) <= best[0][0]:
            break
        for count in range(iterations, 1, -1):
            loop = Repetition(program, start, length, count).loop(taken)
            if loop is None or not isinstance(loop[-1], Loop):
                continue
            lines = sum(_lines(program, step) for step in program.steps[start : start + length])
            saved = lines * (count - 1) - _head_lines(loop[-1], count) - len(loop) + 1
            # An iteration that starts in the middle passes more values to the next one.
            score = saved, -len(loop[-1].carried)
            if saved >= _SAVED and (best is None or score > best[0]):
                best = score, start, start + length * count, loop
            break
    return best[1:] if best else None


def _head_lines(loop: Loop, count: int) -> int:
    """Return the approximate number of lines of a loop besides its statements: its table of values, and its lists."""
    width = sum(len(repr(value)) + 4 for values in loop.columns.values() for value in values)
    return (1 if width < 60 else count + 2) + 2 * len(loop.collected)


def _lines(program: Program, step: Step) -> int:
    """Return the approximate number of lines of a statement: a call with many arguments takes three."""
    module = program.modules.get(step.module)
    if module is None or not module.spec.kind.startswith("."):
        return 1
    given = [*map(str, step.inputs), module.spec.kind, module.name, *module.spec.config]
    width = sum(len(text) + 4 for text in given) + sum(len(repr(value)) for value in module.spec.config.values())
    return 1 if width < 80 else 3


def _repetitions(tokens: Sequence[object]) -> Iterator[tuple[int, int, int]]:
    """Yield every repetition in a sequence: its start, the statements in an iteration, the iterations (all as numbers).

    Args:
        tokens: For each statement, a key; only statements with equal keys can repeat each other.
    """
    for length in range(1, min(_LONGEST, len(tokens) // 2) + 1):
        run = 0
        for place in range(len(tokens) - length - 1, -2, -1):
            if place >= 0 and tokens[place] == tokens[place + length]:
                run += 1
                if run >= length:
                    yield place, length, run // length + 1
            else:
                run = 0


def _token(program: Program, step: Step) -> object:
    module = program.modules.get(step.module)
    kind, keys = (module.spec.kind, frozenset(module.spec.config)) if module else ("", frozenset())
    return kind, keys, shape_of(step.expression), len(step.outputs), step.comment
