"""Replace consecutive repetitions of statements by loops over a table of the values that differ."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from keras3conv.builder.passes.lifting import Arguments
from keras3conv.builder.passes.nested import shape_of
from keras3conv.builder.passes.segments import prefix_of
from keras3conv.builder.program.loop import Body, Loop
from keras3conv.builder.program.operation import Operation, transformed
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.builder.program.structure import simplified
from keras3conv.model.graph import Ref, refs
from keras3conv.rules.rule import LayerSpec

_LONGEST = 80
"""The largest number of statements in the body of a generated loop."""

_MOST_COLUMNS = 6
"""The largest number of variables that a generated loop may have."""

_SAVED = 2
"""The least number of lines that a generated loop must save."""

_MOST_COLLECTED = 2
"""The largest number of values that a generated loop may collect in lists."""

_Place = tuple[int, int, int]
"""The position at which a value is computed: the iteration, the statement in it, the output of the statement."""


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
            loop = _Repetition(program, start, length, count).loop(taken)
            if loop is None or not isinstance(loop[-1], Loop):
                continue
            lines = sum(_lines(program, step) for step in program.steps[start : start + length])
            saved = lines * (count - 1) - _head_lines(loop[-1], count) - len(loop) + 1
            score = (
                saved,
                -len(loop[-1].carried),
            )  # an iteration that starts in the middle passes more values to the next one
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
    return kind, keys, shape_of(step.expression), len(step.outputs)


@dataclass
class _Repetition:
    """Statements of a program that repeat in a row; each repetition can become an iteration of one loop.

    Attributes:
        program: The program that contains them.
        start: The index of the first statement.
        length: The number of statements in an iteration.
        count: The number of iterations.
    """

    program: Program
    start: int
    length: int
    count: int

    def __post_init__(self) -> None:
        self.stop = self.start + self.length * self.count
        self.steps = self.program.steps[self.start : self.stop]
        self.places: dict[str, _Place] = {}
        for place, step in enumerate(self.steps):
            for number, output in enumerate(step.outputs):
                self.places[output] = (*divmod(place, self.length), number)

    def loop(self, taken: frozenset[str]) -> list[Step | Loop] | None:
        """Return the loop that replaces the repetitions, with statements before it; None if no loop can replace them.

        These statements copy the values which the loop overwrites and later statements need.

        Args:
            taken: Names that no variable of the loop may have.
        """
        carried, collected = self._carried(), self._collected()
        if carried is None or collected is None:
            return None
        labels = self._labels()
        if labels is None:
            return None
        variable, shown, values = labels
        columns = Arguments(taken=frozenset({*taken, "name", "number"}))
        made = self._iteration(columns)
        if made is None or len(columns.named) > _MOST_COLUMNS:
            return None
        named = {variable: values} if variable else {}
        first = self._outputs(0)
        found = self._copies({first[place]: entry for place, entry in carried.items()})
        if found is None:
            return None
        copies, pairs = found
        steps, modules = made
        loop = Loop(
            steps=tuple(replace(step, expression=_renamed(step.expression, pairs)) for step in steps),
            modules=modules,
            labels=shown,
            variable=variable,
            columns=named | {name: tuple(column) for name, column in columns.named.items()},
            carried=tuple((pairs.get(entry, entry), first[place]) for place, entry in carried.items()),
            iterations=self.count,
            last={name: first[place] for place, name in self._outputs(self.count - 1).items()},
            collected=collected,
        )
        return [*copies, loop]

    def _iteration(self, columns: Arguments) -> tuple[tuple[Step, ...], dict[str, Module]] | None:
        """Return the statements of one iteration of the loop, and the modules that differ from iteration to iteration.

        The result is None if these modules are also used elsewhere.

        Args:
            columns: The variables of the loop; one is added for each value that differs between the iterations.
        """
        steps: list[Step] = []
        modules: dict[str, Module] = {}
        for place in range(self.length):
            alike = self.steps[place :: self.length]
            if alike[0].module and not self._is_shared(place):
                several = [self.program.modules[step.module] for step in alike]
                own = sum(step.module == alike[0].module for step in self.steps[: self.length])
                if any(self.program.module_uses[step.module] != own for step in alike):
                    return None  # a layer that is called in several iterations, or outside the loop
                modules[alike[0].module] = _merged(several, columns)
            name = self.program.variable(alike[0].outputs[0])
            expression = columns.lifted([_without_module(step.expression) for step in alike], name)
            steps.append(replace(alike[0], expression=_with_module(expression, alike[0].module)))
        return tuple(steps), modules

    def _outputs(self, iteration: int) -> dict[tuple[int, int], str]:
        return {place[1:]: name for name, place in self.places.items() if place[0] == iteration}

    def _carried(self) -> dict[tuple[int, int], str] | None:
        """Return the values that each iteration passes to the next one; None if not all iterations pass the same ones.

        A key is (index of a statement in the iteration, index of its output): that output is passed on. Its value in
        the dict is the name of the tensor that the first iteration uses instead.
        """
        carried: dict[tuple[int, int], str] = {}
        for place in range(self.length):
            alike = self.steps[place :: self.length]
            for names in zip(*(step.inputs for step in alike), strict=True):
                sources = [self._source(name, iteration) for iteration, name in enumerate(names)]
                if len({*sources}) == 1 and sources[0][0] != "before":
                    continue
                kind, made = sources[1][0], sources[1][1]
                if kind != "before" or {*sources[1:]} != {sources[1]} or sources[0][0] != "outside":
                    return None
                if carried.setdefault(made, names[0]) != names[0] or place > made[0]:
                    return None
        return carried

    def _source(self, name: str, iteration: int) -> tuple[str, Any]:
        place = self.places.get(name)
        if place is None:
            return "outside", name
        if place[0] == iteration:
            return "same", place[1:]
        return ("before", place[1:]) if place[0] == iteration - 1 else ("far", name)

    def _collected(self) -> tuple[tuple[str, ...], ...] | None:
        """Return the program's outputs that iterations before the last compute, each as its names in all iterations.

        The result is None if a statement outside of the loop uses a value of an earlier iteration.
        """
        inner = {name for name, place in self.places.items() if place[0] < self.count - 1}
        own = Counter(name for step in self.steps for name in step.inputs if name in inner)
        returned = Counter(ref.name for ref in refs(self.program.outputs) if ref.name in inner)
        if own.total() + returned.total() < sum(self.program.uses[name] for name in inner):
            return None
        found = dict.fromkeys(self.places[name][1:] for name in returned)
        if len(found) > _MOST_COLLECTED:
            return None
        iterations = [self._outputs(iteration) for iteration in range(self.count)]
        return tuple(tuple(names[place] for names in iterations) for place in found)

    def _is_shared(self, place: int) -> bool:
        """Return whether a statement calls the same layer in every iteration.

        The result is False for the function of a block, which creates new layers in each call.
        """
        called = {step.module for step in self.steps[place :: self.length]}
        return len(called) == 1 and not self.program.modules[called.pop()].spec.kind.startswith(".")

    def _copies(self, carried: Mapping[str, str]) -> tuple[list[Step | Loop], dict[str, str]] | None:
        """Return statements that copy values before the loop overwrites them, and the names of the copies by value.

        A value is copied if a statement after the loop needs it.

        Args:
            carried: For each value that an iteration passes to the next one, the name of the value from before the loop
                that the first iteration uses instead. The loop overwrites the value from before the loop.

        Returns:
            The statements and the names; None if the loop would overwrite a value that a later iteration needs
                unchanged.
        """
        if len({*carried.values()}) < len(carried):
            return None
        needed = {name for step in self.program.steps[self.stop :] for name in step.inputs}
        needed |= {ref.name for ref in refs(self.program.outputs)}
        again = {name for step in self.steps[self.length :] for name in step.inputs}
        names = {entry: f"{made}_before" for made, entry in carried.items() if entry in needed}
        copies: list[Step | Loop] = [Step(expression=Ref(entry), outputs=(copy,)) for entry, copy in names.items()]
        return None if again & {*carried.values()} else (copies, names)

    def _labels(self) -> tuple[str, dict[str, str], tuple[Any, ...]] | None:
        """Return how the names of the called modules depend on the iteration; None if they follow no pattern.

        Returns:
            The loop variable in the names, "number"; for each module of the first iteration its name with "{}" for the
            variable, {"conv1": "conv{}"}; and the variable's value in each iteration, (1, 2, 3). If no modules are
                called,
            all are empty.
        """
        names = [
            [step.module for step in self.steps[place :: self.length] if step.module and not self._is_shared(place)]
            for place in range(self.length)
        ]
        names = [several for several in names if several]
        if not names:
            return "", {}, ()
        return _numbered(names) or _stemmed(names)


def _numbered(names: Sequence[Sequence[str]]) -> tuple[str, dict[str, str], tuple[Any, ...]] | None:
    """Return the labels of module names in which a number grows by one in each iteration of a loop; else None.

    For the example below: ("number", {"conv1": "conv{}"}, (1, 2, 3)); see `_Repetition._labels`.

    Args:
        names: For each module of an iteration, its name in every iteration: ["conv1", "conv2", "conv3"].
    """
    shown, numbers = {}, None
    for several in names:
        parts = [re.split(r"(\d+)", name) for name in several]
        if len({len(part) for part in parts}) > 1:
            return None
        columns = [*zip(*parts, strict=True)]
        differing = [column for column in columns if len({*column}) > 1]
        if not differing or len({*differing}) > 1 or not all(text.isdigit() for text in differing[0]):
            return None
        found = tuple(map(int, differing[0]))
        if any(after - before != 1 for before, after in pairwise(found)) or (numbers or found) != found:
            return None
        if any(text != str(int(text)) for text in differing[0]):
            return None
        numbers = found
        shown[several[0]] = "".join("{}" if len({*column}) > 1 else column[0] for column in columns)
    return ("number", shown, numbers) if numbers else None


def _stemmed(names: Sequence[Sequence[str]]) -> tuple[str, dict[str, str], tuple[Any, ...]] | None:
    """Return the labels of module names that have another prefix in each iteration of a loop; else None.

    For the example below: ("part", {"a_conv": "{}_conv"}, ("a", "b")); see `_Repetition._labels`.

    Args:
        names: For each module of an iteration, its name in every iteration: ["a_conv", "b_conv"].
    """
    iterations = [*zip(*names, strict=True)]
    stems = [iteration[0] if len(iteration) == 1 else prefix_of(iteration) for iteration in iterations]
    if not all(stems) or len({*stems}) < len(stems):
        return None
    shown = {}
    for several in names:
        ends = {name[len(stem) :] for name, stem in zip(several, stems, strict=True)}
        if len(ends) > 1:
            return None
        shown[several[0]] = "{}" + ends.pop()
    if all(stem.endswith("_") for stem in stems):
        stems = [stem[:-1] for stem in stems]
        shown = {name: f"{{}}_{text[2:]}" for name, text in shown.items()}
    return "part", shown, tuple(stems)


def _merged(several: Sequence[Module], columns: Arguments) -> Module:
    first = several[0]
    kind = first.spec.kind
    config = {
        name: columns.of([simplified(name, one.spec.config[name], kind) for one in several], first.name, name)
        for name in first.spec.config
    }
    return replace(first, spec=LayerSpec(kind=kind, config=config))


def _without_module(expression: Any) -> Any:
    return _with_module(expression, "")


def _with_module(node: Any, name: str) -> Any:
    if isinstance(node, tuple):
        return tuple(_with_module(one, name) for one in node)
    if not isinstance(node, Operation):
        return node
    args = tuple(_with_module(one, name) for one in node.args)
    return replace(node, name=name if node.kind == "module" else node.name, args=args)


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    return transformed(node, lambda one: Ref(names.get(one.name, one.name)) if isinstance(one, Ref) else one)
