"""Make blocks (classes) from calls of source layers: equivalent calls of layers of one class become one block.

The innermost calls come first, so that the block of a layer calls the blocks of its inner layers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from keras3conv.builder.passes.blocks import with_block
from keras3conv.builder.passes.lifting import Arguments
from keras3conv.builder.passes.segments import Segment, apart, with_modules
from keras3conv.builder.program.operation import INDEX, Operation, signature, walk
from keras3conv.builder.program.program import Program, Step
from keras3conv.builder.program.structure import Argument, Structure
from keras3conv.model.graph import refs

_MOST_INPUTS, _MOST_ARGUMENTS = 4, 9
"""The largest numbers of inputs and of constructor arguments that a block may have, to keep its code readable."""

_SAVED = 4
"""The least number of statements that a new block must save."""

_ONES = "keras.ops.ones_like"

_ABOUT_AXES = frozenset({"axis", "axes", "keepdims", "num_heads"})
_EXACT = frozenset({"transpose", "squeeze", "expand_dims", "moveaxis", "split", "einsum", "array"})
"""Operations whose number arguments are axes; statements with different axes are never equivalent."""


def nested(structure: Structure, classes: Mapping[str, str], taken: Iterable[str] = ()) -> Structure:
    """Return the program with a block (a class) for each set of equivalent layer calls that saves enough statements.

    Args:
        structure: The program.
        classes: The class of each source layer, by its path.
        taken: Names that no block may have.
    """
    structure = replace(structure, program=gathered(structure.program))
    names = frozenset({"name", *taken})
    for depth in range(max((len(step.calls) for step in structure.program.steps), default=0) - 1, -1, -1):
        refused: set[object] = set()
        while found := _best(structure.program, classes, depth, refused):
            key, segments = found
            arguments = Arguments(taken=names, with_multiples=True)
            made = with_block(structure, segments, taken, classes, arguments)
            if len(arguments.named) > _MOST_ARGUMENTS:
                refused.add(key)
            else:
                structure = made
    return structure


def gathered(program: Program) -> Program:
    """Return the program in which the statements of each layer call are adjacent.

    A statement between them that does not belong to the call moves before the call. A statement outside of all calls
    that uses no input, such as one that only reads a parameter, moves into the call that uses its result.
    """
    steps = _with_users(program)
    for depth in range(max((len(step.calls) for step in steps), default=0)):
        for call in dict.fromkeys(step.calls[depth] for step in steps if len(step.calls) > depth):
            steps = _gathered(steps, call)
    return replace(program, steps=tuple(steps))


def _with_users(program: Program) -> list[Step]:
    """Return the statements of a program, some of them moved into the layer calls that use them.

    A statement moves if it is outside of all layer calls and depends on no input. It moves into the innermost layer
    call that contains all statements that use its result; but into no layer that is called several times, because then
    its calls would differ.
    """
    independent = _independent_of_inputs(program)
    calls_of: dict[str, set[str]] = {}
    for call in {call for step in program.steps for call in step.calls}:
        calls_of.setdefault(call.rpartition(":")[0], set()).add(call)
    around: dict[str, tuple[str, ...]] = {ref.name: () for ref in refs(program.outputs)}
    moved: dict[str, Step] = {}
    for step in reversed(program.steps):
        common = _common([around[output] for output in step.outputs if output in around])
        common = tuple(takewhile(lambda call: len(calls_of[call.rpartition(":")[0]]) == 1, common))
        if common and step.outputs[0] in independent and not step.calls:
            moved[step.outputs[0]] = replace(step, calls=common)
        calls = common if step.outputs[0] in moved else step.calls
        for name in step.inputs:
            around[name] = _common([around[name], calls]) if name in around else calls
    steps: list[Step] = []
    for step in program.steps:
        if not {*step.outputs} & {*moved}:
            _append(steps, step, moved)
    return steps


def _common(calls: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the layer calls that contain all of several statements, the outermost call first.

    Args:
        calls: For each statement, the layer calls that contain it, the outermost first.
    """
    return tuple(level[0] for level in takewhile(lambda level: len({*level}) == 1, zip(*calls, strict=False)))


def _independent_of_inputs(program: Program) -> set[str]:
    """Return the names of the values that depend on parameters and constants only, not on an input."""
    ones: set[str] = set()
    independent: set[str] = set()
    for step in program.steps:
        if any(isinstance(node, Operation) and node.name == _ONES for node in walk(step.expression)):
            ones.update(step.outputs)
        elif step.inputs and {*step.inputs} <= ones | independent:
            independent.update(step.outputs)
    return independent


def _append(steps: list[Step], step: Step, moved: dict[str, Step]) -> None:
    """Append a statement to a list, after the moved statements whose results it uses.

    Args:
        steps: The list.
        step: The statement.
        moved: The moved statements, by the value that they compute; a statement that is appended is removed from it.
    """
    for name in step.inputs:
        if name in moved:
            _append(steps, moved.pop(name), moved)
    steps.append(step)


def _gathered(steps: list[Step], call: str) -> list[Step]:
    places = [place for place, step in enumerate(steps) if call in step.calls]
    start, stop = places[0], places[-1] + 1
    if stop - start == len(places):
        return steps
    inside = [steps[place] for place in places]
    made = {output for step in inside for output in step.outputs}
    others = [step for step in steps[start:stop] if call not in step.calls]
    if any(made & {*step.inputs} for step in others):
        return steps
    return [*steps[:start], *others, *inside, *steps[stop:]]


def _best(
    program: Program, classes: Mapping[str, str], depth: int, refused: set[object]
) -> tuple[object, tuple[Segment, ...]] | None:
    """Return the key of the block that saves the most statements, and the layer calls that this block replaces.

    Args:
        program: The program.
        classes: The class of each source layer, by its path.
        depth: The nesting depth that at least one of the calls has; equivalent calls at smaller depths are replaced,
            too.
        refused: Keys of blocks that cannot be made.

    Returns:
        The key, and the calls as segments (sequences of statements) of the program; None if no block saves enough.
    """
    groups: dict[object, list[Segment]] = {}
    for level in range(depth, -1, -1):
        for segment in _calls(program, classes, level):
            key = classes[segment.path], _key(program, segment)
            if level == depth or key in groups:
                groups.setdefault(key, []).append(segment)
    ordered = {
        key: apart(sorted(found, key=lambda one: (one.start, one.stop)))
        for key, found in groups.items()
        if key not in refused
    }
    saved = {key: (len(found) - 1) * (found[0].length - 1) for key, found in ordered.items() if len(found) > 1}
    best = max(saved, key=lambda key: saved[key], default=None)
    return (best, ordered[best]) if best is not None and saved[best] >= _SAVED else None


def _calls(program: Program, classes: Mapping[str, str], depth: int) -> Iterator[Segment]:
    """Yield the layer calls, each as a series of statements, that can become calls of a generated class (a block).

    A layer call can become the call of a block if it has one output, and calls no module that is also called elsewhere.

    Args:
        program: The program.
        classes: The class of each source layer, by its path.
        depth: The number of layer calls that contain the call.
    """
    places: dict[str, list[int]] = {}
    for place, step in enumerate(program.steps):
        if len(step.calls) > depth:
            places.setdefault(step.calls[depth], []).append(place)
    for call, found in places.items():
        path, start, stop = call.rpartition(":")[0], found[0], found[-1] + 1
        if path not in classes or stop - start != len(found):
            continue
        while start < stop - 1 and program.last_use(program.steps[start]) >= stop:
            start += 1  # a statement that others need moves before the call
        steps = program.steps[start:stop]
        made = {output for step in steps for output in step.outputs}
        given = dict.fromkeys(name for step in steps for name in step.inputs if name not in made)
        is_single = len(steps[-1].outputs) == 1 and program.last_use(steps[-1]) >= stop
        is_single = is_single and not any(program.last_use(step) >= stop for step in steps[:-1])
        if is_single and len(steps) > 2 and 0 < len(given) <= _MOST_INPUTS and _owns_its_modules(program, steps):
            yield Segment(start=start, stop=stop, inputs=tuple(given), path=path, calls=steps[0].calls[:depth])


def _owns_its_modules(program: Program, steps: tuple[Step, ...]) -> bool:
    """Return True if no other statement of the program calls a module that the given statements call."""
    called = [step.module for step in steps if step.module]
    return bool(called) and all(program.module_uses[name] == called.count(name) for name in called)


def _key(program: Program, segment: Segment) -> object:
    """Return a key of a segment (a sequence of statements), equal for two segments if one block can replace both.

    The two may differ only in names and in values that can be constructor arguments of the block.
    """
    names: dict[str, int] = {name: -1 - place for place, name in enumerate(segment.inputs)}
    modules: dict[str, int] = {}
    key: list[object] = []
    for place, step in enumerate(program.steps[segment.start : segment.stop]):
        kind = program.modules[step.module].spec.kind if step.module else ""
        wiring = tuple(names[name] for name in step.inputs)
        key.append((kind, shape_of(step.expression), wiring, modules.setdefault(step.module, len(modules))))
        names |= {output: place * 8 + number for number, output in enumerate(step.outputs)}
    return tuple(key)


def shape_of(expression: Any) -> object:
    """Return a hashable value, equal for two expressions that differ only in names and in numbers other than axes."""
    return signature(_without_numbers(with_modules(expression, lambda _: ""), is_exact=False))


def _without_numbers(node: Any, *, is_exact: bool) -> Any:
    if isinstance(node, Operation):
        is_exact = node.name.rpartition(".")[2] in _EXACT
        if node.name == INDEX:
            key = _without_numbers(node.args[1], is_exact=True)
            return replace(node, args=(_without_numbers(node.args[0], is_exact=False), key))
        kwargs = {
            name: _without_numbers(one, is_exact=is_exact or name in _ABOUT_AXES) for name, one in node.kwargs.items()
        }
        return replace(node, args=tuple(_without_numbers(one, is_exact=is_exact) for one in node.args), kwargs=kwargs)
    if isinstance(node, slice):  # the bounds of a slice are sizes
        return slice(*(_without_numbers(one, is_exact=False) for one in (node.start, node.stop, node.step)))
    if isinstance(node, tuple | list):
        return tuple(_without_numbers(one, is_exact=is_exact) for one in node)
    if isinstance(node, Argument) and not is_exact:
        return "argument"
    is_number = isinstance(node, int | float) and not isinstance(node, bool) and not is_exact
    return type(node) if is_number and (node > 0 or isinstance(node, float)) else node
