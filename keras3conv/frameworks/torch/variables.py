"""Find the variable names that the user's code gives to the values of an exported module, from torch's stack traces.

`x = self.conv1(x)` names the output of the convolution "x". Without the source file, or if a value is not assigned to a
variable, there is no name.
"""

import ast
import linecache
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

_PLACE = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>\S+)')

Place = tuple[str, int]
"""A file of source code and the number of a line in it."""


def variables_of(stack_trace: str, modules: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
    """Return the names of the Python variables to which the outputs of an operator are assigned.

    The result has a tuple for each output: one name for each `forward` call that contains the operator, the outermost
    first. If the statement with the operator is a return, the name is that of the variable in the caller.

    Args:
        stack_trace: The stack trace of a node, the outermost call first.
        modules: The paths of the modules that were called, without the outermost.
        count: The number of outputs.
    """
    calls: list[list[Place]] = []
    for found in _PLACE.finditer(stack_trace):
        if found["function"] == "forward" or not calls:
            calls.append([])
        calls[-1].append((found["file"], int(found["line"])))
    attributes = [*(path.rpartition(".")[2] for path in modules), ""]
    levels: list[tuple[str, ...]] = []
    for depth, places in enumerate(calls):
        attribute = attributes[depth] if depth < len(attributes) else ""
        names = _outputs(places, attribute, count)
        levels.append(names if names is not None else (levels[-1] if levels else ("",) * count))
    return tuple(zip(*levels, strict=True)) if levels else ((),) * count


def _outputs(places: Sequence[Place], attribute: str, count: int) -> tuple[str, ...] | None:
    """Return the variable names of an operator's outputs in one `forward` call.

    Args:
        places: The files and lines of the call in the stack trace, the outermost first.
        attribute: The attribute of `self` that is the module called inside; empty for the innermost call.
        count: The number of outputs.

    Returns:
        The names; None if the code of the call is in torch, or returns the value without a variable.
    """
    for file, line in reversed(places):
        if "/torch/" in file:
            continue
        statement = _statements(file).get(line)
        if isinstance(statement, ast.Return):
            name = _in_helper(file, statement, attribute)
            if not name:
                continue
            return (name,) * count
        names = tuple(_targets(statement))
        return names if len(names) == count else (names or ("",))[:1] * count
    return None


def _in_helper(file: str, statement: ast.Return, attribute: str) -> str:
    """Return the variable for a return statement that calls a method: `return self.method(x)`; empty if there is none.

    Torch's stack traces omit such methods. The variable is the one to which the method assigns the output of the module
    `attribute`, or else the one that it assigns to most often.

    Args:
        file: The file of the return statement, in which the method is, too.
        statement: The return statement.
        attribute: The attribute of `self` that is a module.
    """
    match statement.value:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=method)):
            found = _assignments(file, method)
        case _:
            return ""
    own = [name for name, called in found if attribute and attribute in called]
    names = Counter(own or [name for name, _ in found])
    return names.most_common(1)[0][0] if names else ""


@lru_cache(maxsize=256)
def _assignments(file: str, method: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the variables that methods of a given name assign, each with the attributes in the assigned expression."""
    found = []
    for function in ast.walk(_tree(file)):
        if isinstance(function, ast.FunctionDef) and function.name == method:
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and len(names := [*_targets(node)]) == 1:
                    called = {one.attr for one in ast.walk(node.value) if isinstance(one, ast.Attribute)}
                    found.append((names[0], frozenset(called)))
    return tuple(found)


@lru_cache(maxsize=256)
def _tree(file: str) -> ast.Module:
    """Return the syntax tree of a file; an empty one if it is not a Python file."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


@lru_cache(maxsize=256)
def _statements(file: str) -> Mapping[int, ast.stmt]:
    """Return the statement at each line of a Python file; of nested statements, the innermost."""
    found: dict[int, ast.stmt] = {}
    for node in ast.walk(_tree(file)):  # breadth first: an inner statement comes after the one around it
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return | ast.Expr):
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node)
    return found


def _targets(statement: ast.stmt | None) -> Iterator[str]:
    match statement:
        case ast.Assign(targets=[target]) | ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            yield from _names(target)


def _names(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)) | ast.Starred(value=ast.Name(id=name)):
            yield name
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield next(_names(part), "")
