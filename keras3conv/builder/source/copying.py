"""Copy functions of keras3conv into the source code of a generated Keras model that calls them."""

import ast
from functools import cache
from importlib import import_module

from keras3conv.builder.program.names import OWN_KERAS_FUNCTIONS
from keras3conv.builder.program.operation import Operation, walk
from keras3conv.builder.program.program import Program
from keras3conv.builder.program.structure import Argument, Structure
from keras3conv.builder.source.formatting import statement
from keras3conv.frameworks.torch.constructors import source_of


def _called_functions(program: Program) -> set[str]:
    """Return the names of keras3conv's functions that a program calls or passes as arguments: {"grid_sample"}."""
    nodes = [node for step in program.steps for node in walk(step.expression)]
    prefix = f"{OWN_KERAS_FUNCTIONS}."
    names = {node.name.removeprefix(prefix) for node in nodes if isinstance(node, Operation | Argument)}
    return names & {*_every()}


def copied_functions(structure: Structure) -> dict[str, str]:
    """Return the source code of the functions of keras3conv that a model needs, by name.

    A function comes after the functions that it calls.

    Args:
        structure: The program of the model, and its blocks.
    """
    programs = (structure.program, *(block.program for block in structure.blocks))
    return _with_callees(set[str]().union(*map(_called_functions, programs)))


def _with_callees(needed: set[str]) -> dict[str, str]:
    """Return the source code of the functions in `needed` and of the functions that these call, by name."""
    found: dict[str, str] = {}
    for name in sorted(needed):
        code = _without_annotations(source_of(f"{OWN_KERAS_FUNCTIONS}.{name}").strip())
        used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
        inner = _with_callees(used & {*_every()} - {name})
        found |= {one: text for one, text in inner.items() if one not in found}
        found.setdefault(name, code)
    return found


def _without_annotations(code: str) -> str:
    """Return the source code of a function without the types of its arguments, as in the other generated functions."""
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    for argument in (*arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    body = code.splitlines()[function.body[0].lineno - 1 :]
    return "\n".join([*statement(0, f"def {function.name}({ast.unparse(arguments)}):"), *body])


@cache
def _every() -> tuple[str, ...]:
    """Return the names of all functions of keras3conv that a generated Keras model may call."""
    return tuple(import_module(OWN_KERAS_FUNCTIONS).__all__)
