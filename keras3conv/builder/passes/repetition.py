"""Make a loop of statements that repeat in a row: its variables, the values it carries on, the names of its modules."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from keras3conv.builder.passes.lifting import Arguments
from keras3conv.builder.passes.segments import prefix_of
from keras3conv.builder.program.loop import Loop
from keras3conv.builder.program.operation import transformed
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.builder.program.structure import simplified
from keras3conv.model.graph import Ref, refs
from keras3conv.rules.rule import LayerSpec

_MOST_COLUMNS = 6
"""The largest number of variables that a generated loop may have."""

_MOST_COLLECTED = 2
"""The largest number of values that a generated loop may collect in lists."""

_Place = tuple[int, int, int]
"""The position at which a value is computed: the iteration, the statement in it, the output of the statement."""


@dataclass
class Repetition:
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
        """Return the statements of one iteration of the loop, and the modules that differ between the iterations.

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
            steps.append(replace(alike[0], expression=columns.lifted([step.expression for step in alike], name)))
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

        The function of a block creates new layers in each call, so it is not shared.
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
            variable, {"conv1": "conv{}"}; and the variable's value in each iteration, (1, 2, 3). All are empty if no
            modules are called.
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

    For the example below: ("number", {"conv1": "conv{}"}, (1, 2, 3)); see `Repetition._labels`.

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

    For the example below: ("part", {"a_conv": "{}_conv"}, ("a", "b")); see `Repetition._labels`.

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


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    return transformed(node, lambda one: Ref(names.get(one.name, one.name)) if isinstance(one, Ref) else one)
