"""Choose the variable names of a `forward` method.

A variable is reused as soon as its value is not needed again, so that a chain of layers is a series of `x = ...`. A
second name is needed only while an earlier value is still used later.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.program import Program

_SHORT = ("x", "y", "z", "w", "v", "u")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The Python names that one generated `forward` method uses.

    Attributes:
        of: For each value, its variable; for a parameter or buffer of the module, its attribute ("self.scale").
        arguments: For each input value, the name of the argument.
        sizes: For each dynamic size that is used, its variable.
    """

    of: Mapping[str, str]
    arguments: Mapping[str, str]
    sizes: Mapping[str, str]


def variable_names(program: Program) -> Names:
    """Choose the names in a `forward` method: those of values, arguments, dynamic sizes and parameters."""
    used = {symbol for step in program.steps for symbol in step.symbols}
    sizes = {symbol: identifier(symbol) for symbol in program.sizes if symbol in used}
    arguments = _arguments(program, {*sizes.values()})
    of = dict(arguments)
    for place, step in enumerate(program.steps):
        inputs = dict.fromkeys(program.masks_last(step))
        dying = [name for name in inputs if name in of and program.last_uses.get(name) == place]
        available = [name for name in dying if name not in arguments or of[name] in _SHORT]
        for output in step.outputs:
            if output not in program.last_uses:
                of[output] = "_"
            elif available:
                of[output] = of[available.pop(0)]
            else:
                alive = {of[name] for name, when in program.last_uses.items() if name in of and when >= place}
                alive |= {of[name] for name in step.outputs if name in of} | {*sizes.values()}
                free = next((name for name in _SHORT if name not in alive), "")
                of[output] = free or unique(identifier(step.path.rpartition("/")[2] or "value"), alive)
    attributes = {key: f"self.{weight.name}" for key, weight in program.weights.items()}
    return Names(of={**of, **attributes}, arguments=arguments, sizes=sizes)


def _arguments(program: Program, taken: set[str]) -> dict[str, str]:
    if len(program.inputs) == 1 and not program.keeps_names:
        return {program.inputs[0].name: "x"}
    found: dict[str, str] = {}
    for value in program.inputs:
        wanted = identifier(program.input_names.get(value.name, value.name))
        found[value.name] = unique(wanted, {*found.values(), *taken})
    return found
