"""Make functions of computations without layers that a program repeats, such as the division of an image into windows.

Sequences of adjacent statements become calls of one function if they differ only in names and in numbers. The numbers
that differ become arguments of the function.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from keras3conv.builder.passes.lifting import Arguments, type_of
from keras3conv.builder.passes.nested import shape_of
from keras3conv.builder.program.names import class_identifier, function_identifier, unique
from keras3conv.builder.program.operation import Operation
from keras3conv.builder.program.program import Program, Step
from keras3conv.builder.program.structure import Block, Structure
from keras3conv.model.graph import Ref

_SHORTEST, _LONGEST = 5, 60
"""The least and the largest number of statements in a function."""

_MOST_INPUTS, _MOST_ARGUMENTS = 4, 4
"""The largest numbers of tensors and of other arguments that a function may have, to keep its code readable."""

_AROUND = 8
"""The number of statements before and after a computation that are compared, to see if two are iterations of a loop."""

_OVERHEAD = 6
"""The number of lines of a function besides its statements: its head, its docstring, its return, the blank lines."""

_SAVED = 4
"""The least number of lines that a function must save."""


@dataclass(frozen=True)
class _Computation:
    """A sequence of adjacent statements without layers, of which later statements use only the last result.

    Attributes:
        program: The program.
        owner: The index of the program: 0 for the whole model, else the index of the block, from 1.
        start: The index of the first statement.
        stop: The index after the last statement.
        inputs: The values from earlier statements that these statements use, in order of use.
        key: A hash that is equal for computations that differ only in names and numbers.
        around: A hash of the statements before and after. Computations with an equal hash are probably iterations of
            one loop, whose source code has them only once, so a function would save nothing.
    """

    program: Program
    owner: int
    start: int
    stop: int
    inputs: tuple[str, ...]
    key: int
    around: int

    @property
    def steps(self) -> tuple[Step, ...]:
        """The statements of the computation."""
        return self.program.steps[self.start : self.stop]

    @property
    def output(self) -> str:
        """The name of the value that the computation returns."""
        return self.steps[-1].outputs[0]

    @property
    def length(self) -> int:
        """The number of statements."""
        return self.stop - self.start

    def exact_key(self) -> object:
        """Return a key that is equal for computations that differ only in names and numbers."""
        names: dict[str, tuple[int, int]] = {name: (-1, place) for place, name in enumerate(self.inputs)}
        key: list[object] = []
        for place, step in enumerate(self.steps):
            key.append((shape_of(step.expression), tuple(names[name] for name in step.inputs), len(step.outputs)))
            names |= {output: (place, number) for number, output in enumerate(step.outputs)}
        return tuple(key)

    def variable(self, name: str) -> str:
        """Return the name of the variable in the user's code that holds a value; empty if there is none."""
        return self.program.input_names.get(name) or self.program.variable(name)


def with_computations(structure: Structure, taken: Iterable[str]) -> Structure:
    """Return the program with a function for each computation that repeats, in the program or in its blocks.

    Args:
        structure: The program and its blocks.
        taken: Names that no class of a block may have.
    """
    taken = [*taken]
    refused: set[int] = set()
    while computations := _best(structure, refused):
        arguments = Arguments(taken=frozenset({"name"}), with_multiples=True)
        block, calls = _function(computations, arguments, {*structure.class_names, *taken})
        number = len(arguments.named)
        if number > _MOST_ARGUMENTS or _saved(computations, number) < _SAVED:
            refused.add(computations[0].key)
        else:
            structure = _replaced(structure, computations, block, calls)
    return structure


def _best(structure: Structure, refused: set[int]) -> list[_Computation]:
    """Return the sequences of statements that one function can replace and that save the most lines; empty if none do.

    Args:
        structure: The program and its blocks.
        refused: The keys of computations that no function may replace.
    """
    groups: dict[int, list[_Computation]] = {}
    for owner, program in enumerate((structure.program, *(block.program for block in structure.blocks))):
        for computation in _computations(program, owner):
            groups.setdefault(computation.key, []).append(computation)
    found = (
        _apart(computations) for key, computations in groups.items() if len(computations) > 1 and key not in refused
    )
    best = max(found, key=_saved, default=[])
    return best if best and _saved(best) >= _SAVED else []


def _saved(computations: Sequence[_Computation], number: int = 0) -> int:
    """Return approximately how many lines a function saves that replaces these sequences of statements.

    Args:
        computations: The computations.
        number: The number of arguments of the function that are not tensors.
    """
    width = len(computations[0].inputs) + number
    lines = 1 if width < 4 else 3 if width < 6 else width + 2  # of a call of the function
    count = len({computation.around for computation in computations})
    return (count - 1) * computations[0].length - count * lines - _OVERHEAD


def _apart(computations: Sequence[_Computation]) -> list[_Computation]:
    """Return the computations equal to the first one, without those that overlap an earlier one.

    Their hashes are all equal; this function compares the statements themselves.
    """
    found: list[_Computation] = []
    key = computations[0].exact_key()
    for computation in computations:
        is_apart = not found or found[-1].owner != computation.owner or computation.start >= found[-1].stop
        if is_apart and computation.exact_key() == key:
            found.append(computation)
    return found


def _computations(program: Program, owner: int) -> Iterator[_Computation]:
    """Yield the sequences of statements of a program that a function could replace, in the order of their starts.

    Args:
        program: The program.
        owner: The index of the program: 0 for the whole model, else the index of the block, from 1.
    """
    latest = list(map(program.last_use, program.steps))
    tokens = [None if step.module else hash((shape_of(step.expression), len(step.outputs))) for step in program.steps]
    for start, first in enumerate(program.steps):
        names: dict[str, tuple[int, int]] = {}
        given: list[str] = []
        key, needed = 0, -1
        for stop in range(start + 1, min(start + _LONGEST, len(program.steps)) + 1):
            step = program.steps[stop - 1]
            if tokens[stop - 1] is None or step.calls != first.calls:
                break
            for name in step.inputs:
                if name not in names:
                    names[name] = -1, len(given)
                    given.append(name)
            if len(given) > _MOST_INPUTS:
                break
            key = hash((key, tokens[stop - 1], tuple(names[name] for name in step.inputs)))
            names |= {output: (stop - 1 - start, number) for number, output in enumerate(step.outputs)}
            is_whole = len(step.outputs) == 1 and needed < stop <= latest[stop - 1]
            if is_whole and given and stop - start >= _SHORTEST:
                around = hash((owner, *tokens[max(start - _AROUND, 0) : start], *tokens[stop : stop + _AROUND]))
                computation = (start, stop, tuple(given), key, around)
                yield _Computation(program, owner, *computation)
            needed = max(needed, latest[stop - 1])


def _function(
    computations: Sequence[_Computation], arguments: Arguments, taken: set[str]
) -> tuple[Block, list[Operation]]:
    """Return the function that replaces equal computations, and for each of them the expression that calls it.

    Args:
        computations: The computations.
        arguments: The collection to which an argument is added for each number that differs between the computations.
        taken: The names that are in use already, which the function must not get.
    """
    first = computations[0]
    variable = _usual([computation.variable(computation.output) for computation in computations])
    steps = tuple(
        replace(
            step,
            expression=arguments.lifted([one.expression for one in alike], first.program.variable(step.outputs[0])),
        )
        for step, alike in zip(
            first.steps, zip(*(computation.steps for computation in computations), strict=True), strict=True
        )
    )
    inputs = zip(*(computation.inputs for computation in computations), strict=True)
    named = [
        _usual([computation.variable(name) for computation, name in zip(computations, alike, strict=True)])
        for alike in inputs
    ]
    name = unique(class_identifier(f"compute_{variable or 'part'}"), taken, "")
    body = Program(
        name=variable,
        inputs=tuple(first.program.values[name] for name in first.inputs),
        input_names=dict(zip(first.inputs, named, strict=True)),
        steps=steps,
        outputs=Ref(first.output),
        values=first.program.values,
        variables=first.program.variables,
    )
    block = Block(
        name=name,
        program=body,
        arguments={argument: type_of(values) for argument, values in arguments.named.items()},
        uses=(),
        calls=len(computations),
    )
    calls = [
        Operation(
            "function",
            function_identifier(name),
            tuple(map(Ref, computation.inputs)),
            {argument: values[number] for argument, values in arguments.named.items()},
        )
        for number, computation in enumerate(computations)
    ]
    return block, calls


def _usual(names: Sequence[str]) -> str:
    """Return the most frequent name, if at least half of the names are equal to it; else an empty text."""
    name, count = Counter(names).most_common(1)[0]
    return name if 2 * count >= len(names) else ""


def _replaced(
    structure: Structure, computations: Sequence[_Computation], block: Block, calls: Sequence[Operation]
) -> Structure:
    """Return the structure in which each sequence of statements is one statement that calls the function.

    Args:
        structure: The program and its blocks.
        computations: The computations.
        block: The function.
        calls: For each computation, the expression that calls the function.
    """
    programs = [structure.program, *(one.program for one in structure.blocks)]
    for computation, called in reversed([*zip(computations, calls, strict=True)]):
        program = programs[computation.owner]
        step = replace(computation.steps[-1], expression=called)
        steps = (*program.steps[: computation.start], step, *program.steps[computation.stop :])
        programs[computation.owner] = replace(program, steps=steps)
    blocks = [replace(one, program=program) for one, program in zip(structure.blocks, programs[1:], strict=True)]
    return replace(structure, program=programs[0], blocks=(block, *blocks))
