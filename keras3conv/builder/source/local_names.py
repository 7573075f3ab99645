"""Choose the variable names of a function that builds a Keras model or a block of it.

A value gets the name of its variable in the user's torch code. If that code has no name for the value, or the name
still holds another value, the name is made from the layer or the operation.
"""

import builtins
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keras3conv.builder.program.loop import Body, Loop, flat
from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.operation import INDEX, Operation
from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs

_NOUNS = {
    "+": "total", "-": "difference", "*": "product", "/": "quotient", "**": "power", INDEX: "part", "~": "mask",
    "<": "mask", ">": "mask", "einsum": "product", "matmul": "product", "dot_product_attention": "attended",
    "concatenate": "joined", "stack": "joined", "reshape": "reshaped", "transpose": "transposed", "take": "rows",
    "softmax": "probabilities", "logical_and": "mask", "logical_or": "mask", "logical_not": "mask", "equal": "mask",
    "not_equal": "mask", "greater": "mask", "less": "mask", "greater_equal": "mask", "less_equal": "mask",
    "where": "chosen", "pad": "padded", "tile": "tiled", "repeat": "repeated", "ones_like": "ones",
    "zeros_like": "zeros", "take_along_axis": "picked", "multiply": "product", "square": "squares",
    "sqrt": "root", "split": "part",
}  # fmt: skip
"""The variable name for the result of an operation whose own name is not a noun: "normalized" for "normalize"."""

_CONTINUED = frozenset(
    {
        "cast",
        "reshape",
        "squeeze",
        "expand_dims",
        "transpose",
        "stop_gradient",
        "relu",
        "sigmoid",
        "silu",
        "gelu",
        "tanh",
    }
    | {"dropout"}
)
"""Operations that only change the form of a value, such as reshape; their result keeps the name of the operand."""


@dataclass(kw_only=True)
class _Variable:
    """Values that share a variable, because a loop overwrites an earlier value with a later one.

    Attributes:
        values: The values, in the order in which they are computed.
        start: The index of the statement that computes the first of them; -1 for an input.
        end: The index of the last statement that needs one of them.
        name: The name of the variable; empty until it is chosen.
    """

    values: list[str]
    start: int
    end: float
    name: str = ""


def local_names(program: Program, body: Body, inputs: Mapping[str, str], taken: frozenset[str]) -> dict[str, str]:
    """Return the name of the Python variable that holds each value, by value.

    Args:
        program: The program of the function.
        body: Its statements.
        inputs: The variables of the inputs, by value.
        taken: Names that no variable may have.
    """
    taken = taken | {name for one in body if isinstance(one, Loop) for name in one.columns}
    steps = flat(body)
    used = Counter(name for step in steps for name in step.inputs)
    used.update(ref.name for ref in refs(program.outputs))
    variables = _variables(program, body, [*inputs])
    for variable in variables:
        if variable.values[0] in inputs:
            variable.name = inputs[variable.values[0]]
    of: dict[str, str] = {}
    for variable in variables:
        if not variable.name:
            alive = {one.name for one in variables if one.name and _overlap(one, variable)}
            wanted = _candidates(program, steps[variable.start], variable, of, alive)
            usable = (variable_name(name) for name in wanted if name)
            choices = [name for name in usable if name not in taken]
            variable.name = next((name for name in choices if name not in alive), "")
            variable.name = variable.name or unique((choices or ["value"])[0], alive | taken)
        of |= dict.fromkeys(variable.values, variable.name)
    outputs = {output for step in steps for output in step.outputs}
    last = {name for one in body if isinstance(one, Loop) for pair in one.last.items() for name in pair}
    unused = {name for name in outputs if not used[name] and name not in last}
    return {name: "_" if name in unused and name not in inputs else text for name, text in of.items()}


def _overlap(one: _Variable, other: _Variable) -> bool:
    first, second = (one, other) if one.start <= other.start else (other, one)
    return first.end > second.start or first.start == second.start


def _variables(program: Program, body: Body, inputs: list[str]) -> list[_Variable]:
    """Return the variables that a function needs, still without names, in the order of their first statements.

    Args:
        program: The program of the function.
        body: Its statements, some of them in loops.
        inputs: The names of the input values.
    """
    same: dict[str, str] = {}
    start = dict.fromkeys(inputs, -1)
    end: dict[str, float] = dict.fromkeys(inputs, -1)
    place = 0
    for one in body:
        steps = one.steps if isinstance(one, Loop) else (one,)
        first = place
        for step in steps:
            for name in step.inputs:
                key = _root(same, name)
                end[key] = max(end[key], place)
                if isinstance(one, Loop) and start[key] < first:
                    end[key] = max(end[key], first + len(steps) - 0.5)
            for name in step.outputs:
                start.setdefault(name, place)
                end.setdefault(name, place)
            place += 1
        if isinstance(one, Loop):
            for before, after in one.carried:
                key, other = _root(same, before), _root(same, after)
                same[other] = key
                end[key] = max(end[key], end[other], place - 0.5)
            same |= {name: _root(same, other) for name, other in one.last.items() if name != other}
            same |= {name: _root(same, names[0]) for names in one.collected for name in names[1:]}
    for ref in refs(program.outputs):
        end[_root(same, ref.name)] = place
    found: dict[str, _Variable] = {}
    for name in [*start, *same]:
        key = _root(same, name)
        made = found.setdefault(key, _Variable(values=[], start=start[key], end=end[key]))
        if name not in made.values:
            made.values.append(name)
    return sorted(found.values(), key=lambda one: one.start)


def _root(same: Mapping[str, str], name: str) -> str:
    while name in same:
        name = same[name]
    return name


def _candidates(
    program: Program, step: Step, variable: _Variable, of: Mapping[str, str], alive: set[str]
) -> Iterator[str]:
    """Yield names for a variable, the best one first; a name may be empty or taken.

    Args:
        program: The program of the function.
        step: The statement that computes the first value of the variable.
        variable: The variable.
        of: The name of the variable that holds each earlier value.
        alive: The names of the variables whose values are still needed after the statement.
    """
    module = program.modules.get(step.module)
    is_block = module is not None and module.spec.kind.startswith(".")
    for name in variable.values:
        yield program.variable(name, len(step.calls) if is_block else -1)
    operands = [of[name] for name in step.inputs if name in of]
    word = _word(step)
    if module is None and word in _CONTINUED and operands and operands[0] not in alive:
        yield operands[0]
    if module is not None:
        yield short_name(step.module)
    noun = _NOUNS.get(word, word if re.fullmatch(r"[a-z_0-9]+", word) else "")
    yield from (noun, f"{noun}_2", f"{noun}_3", f"{noun}_4") if noun else ("x", "y", "z")


def _word(step: Step) -> str:
    """Return the name of the outermost operation of a statement: "reshape" for `x = ops.reshape(...)`."""
    expression = step.expression[0] if isinstance(step.expression, tuple) else step.expression
    return expression.name.rpartition(".")[2].removeprefix("compute_") if isinstance(expression, Operation) else ""


def short_name(name: str) -> str:
    """Return a short name for a variable of a layer, or of its output: the last word of the layer's name.

    If this word is short, the name is the last two words.
    """
    words = [word for word in name.split("_") if not word.isdigit()]
    return "_".join(words[-2:]) if words and len(words[-1]) < 5 else "_".join(words[-1:])


def variable_name(name: str) -> str:
    """Return a text as an identifier that is neither a Python keyword nor the name of a builtin."""
    name = identifier(name)
    return f"{name}_" if hasattr(builtins, name) else name
