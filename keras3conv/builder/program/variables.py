"""What the values of a program are called in `forward`.

A value takes the name of one that nobody needs any more, so a chain of layers is `x = ...` from its beginning to its
end, and only what is needed again later gets a name of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs

_SHORT = ("x", "y", "z", "w", "v", "u")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names in one `forward`.

    Attributes:
        of: The variable of each value.
        arguments: The names of the arguments, by their values.
        weights: What stands for the module's own parameters and buffers: "self.scale".
        sizes: The variables of the free sizes that are used.
    """

    of: Mapping[str, str]
    arguments: Mapping[str, str]
    weights: Mapping[str, str]
    sizes: Mapping[str, str]

    def used(self, step: Step, place: int) -> str:
        """What stands for an input of a step."""
        name = step.inputs[place]
        return self.weights.get(name) or self.of[name]

    @property
    def last(self) -> Mapping[str, str]:
        """What stands for any value at the end."""
        return {**self.of, **self.weights}


def variable_names(program: Program) -> Names:
    """Chooses the names for a program."""
    sizes = {field for step in program.steps for _, field, _, _ in Formatter().parse(step.template) if field} & {
        *program.sizes
    }
    sizes_named = {symbol: identifier(symbol) for symbol in program.sizes if symbol in sizes}
    arguments = _arguments(program, {*sizes_named.values()})
    last_use = _last_uses(program)
    of = dict(arguments)
    free: list[str] = []
    for place, step in enumerate(program.steps):
        dying = [name for name in step.inputs if name in of and last_use.get(name) == place]
        available = [of[name] for name in dict.fromkeys(dying) if name not in arguments or of[name] in _SHORT]
        for output in step.outputs:
            if output not in last_use:
                of[output] = "_"
            elif available:
                of[output] = available.pop(0)
            else:
                alive = {of[name] for name, when in last_use.items() if name in of and when >= place}
                alive |= {of[name] for name in step.outputs if name in of} | {*sizes_named.values()}
                free = [name for name in _SHORT if name not in alive]
                of[output] = free[0] if free else unique(identifier(step.path.rpartition("/")[2] or "value"), alive)
    weights = {key: f"self.{weight.name}" for key, weight in program.weights.items()}
    return Names(of=of, arguments=arguments, weights=weights, sizes=sizes_named)


def _arguments(program: Program, taken: set[str]) -> dict[str, str]:
    if len(program.inputs) == 1:
        return {program.inputs[0].name: "x"}
    found: dict[str, str] = {}
    for value in program.inputs:
        wanted = identifier(program.input_names.get(value.name, value.name))
        found[value.name] = unique(wanted, {*found.values(), *taken})
    return found


def _last_uses(program: Program) -> dict[str, int]:
    uses = {name: place for place, step in enumerate(program.steps) for name in step.inputs}
    return uses | {ref.name: len(program.steps) for ref in refs(program.outputs)}


__all__ = ["Names", "variable_names"]
