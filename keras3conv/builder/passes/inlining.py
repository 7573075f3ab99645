"""Write arithmetic in one statement: `h = (1 - z) * h + z * q` instead of four statements with two more variables."""

from dataclasses import replace
from typing import Any

from keras3conv.builder.program.operation import INDEX, Operation, transformed, walk
from keras3conv.builder.program.program import Program, Step, is_module_call
from keras3conv.builder.program.structure import Structure
from keras3conv.model.graph import Ref

_MOST_OPERANDS = 6
"""The largest number of operands of an expression, to keep it readable."""

_AROUND = frozenset(f"keras.ops.{name}" for name in ("exp", "relu", "sigmoid", "silu", "sqrt", "tanh"))
"""Functions of one tensor, which may have a sum or the output of a layer as their argument: `ops.relu(x + y)`."""

_WITH_SETTINGS = frozenset(f"keras.ops.{name}" for name in ("max", "mean", "min", "pad", "reshape", "softmax", "sum"))
"""Functions of one tensor and settings, which may have arithmetic as their argument: `ops.sum(x * y, axis=1)`."""

_OF_LISTS = frozenset({"keras.ops.concatenate", "keras.ops.stack"})
"""Functions of a list of tensors, of which some may be sums or slices: `ops.concatenate([x[:, 1:], y * 2], axis=1)`."""

_WIDTH = 75
"""The number of characters up to which a list of tensors, without indentation and variable, surely fits on one line."""

_LONG_NAME = 9
"""The assumed number of characters of the variable of a tensor that has no name in the user's code."""


def inlined(structure: Structure) -> Structure:
    """Return the program and its blocks with the arithmetic of several statements in one statement.

    The expression of a statement moves into the statement that uses its result, if no other statement uses the result,
    if the user's code has no name for it, and if the merged expression stays short.
    """
    blocks = tuple(replace(block, program=_inlined(block.program)) for block in structure.blocks)
    return replace(structure, program=_inlined(structure.program), blocks=blocks)


def _inlined(program: Program) -> Program:
    steps: dict[str, Step] = {}
    for step in program.steps:
        made = step
        for name in dict.fromkeys(step.inputs):
            before = steps.get(name)
            if before is not None and _is_operand(program, before, made):
                del steps[name]
                made = replace(made, expression=_with_operand(made.expression, name, before.expression))
        steps[made.outputs[0]] = made
    return replace(program, steps=tuple(steps.values()))


def _is_operand(program: Program, operand: Step, step: Step) -> bool:
    """Return whether the expression of one statement can become an operand in another one.

    Args:
        program: The program.
        operand: The statement that computes the operand.
        step: The statement that uses it.
    """
    name = operand.outputs[0]
    variable = program.variable(name)
    is_named = bool(variable) and variable != program.variable(step.outputs[0])
    if is_named or program.uses[name] != 1 or len(step.outputs) > 1:
        return False
    around, is_arithmetic = step.expression, _is_arithmetic(operand.expression)
    if isinstance(around, Operation) and around.name in _AROUND:
        is_alone = around.args == (Ref(name),) and not around.kwargs
        return is_alone and (is_arithmetic or _is_call_of_shared_layer(program, operand))
    if isinstance(around, Operation) and around.name in _OF_LISTS:
        return _is_item(program, around, name, operand.expression)
    if isinstance(around, Operation) and around.name in _WITH_SETTINGS:
        is_first = around.args[0] == Ref(name) and is_arithmetic
        return is_first and _width(program, _with_operand(around, name, operand.expression)) <= _WIDTH
    count = _operands(around) + _operands(operand.expression) - 1
    return is_arithmetic and _is_arithmetic(around) and count <= _MOST_OPERANDS


def _is_item(program: Program, around: Operation, name: str, operand: Any) -> bool:
    """Return whether an expression can become an item of the list that a function has as its argument.

    The statement must not grow from one line to a line for each item.

    Args:
        program: The program.
        around: The call of the function.
        name: The value that the expression computes.
        operand: The expression.
    """
    items = around.args[0]
    is_short = _is_arithmetic(operand) or _is_slice(operand)
    if not isinstance(items, list) or Ref(name) not in items or not is_short:
        return False
    plain = [Ref(name) if isinstance(item, Operation) else item for item in items]
    has_lines_already = _width(program, replace(around, args=(plain, *around.args[1:]))) > _WIDTH + len(around.name)
    return has_lines_already or _width(program, _with_operand(around, name, operand)) <= _WIDTH


def _is_slice(expression: Any) -> bool:
    """Return whether an expression is a part of a value, selected with numbers."""
    match expression:
        case Operation("operator", name, (Ref(), _)) if name == INDEX:
            return True
    return False


def _width(program: Program, expression: Any) -> int:
    """Return the approximate number of characters in the source code of an expression.

    Args:
        program: The program, which has the names of variables.
        expression: The expression.
    """
    if isinstance(expression, Ref):
        return len(program.variable(expression.name)) or _LONG_NAME
    if isinstance(expression, Operation):
        own = len(expression.name.removeprefix("keras.")) + 2
        given = [*expression.args, *expression.kwargs.values()]
        return own + sum(map(len, expression.kwargs)) + sum(_width(program, one) + 2 for one in given)
    if isinstance(expression, list | tuple):
        return 2 + sum(_width(program, one) + 2 for one in expression)
    if isinstance(expression, slice):
        ends = [repr(end) for end in (expression.start, expression.stop) if end is not None]
        return 1 + sum(map(len, ends))
    return len(repr(expression))


def _is_call_of_shared_layer(program: Program, step: Step) -> bool:
    """Return whether a statement only calls a layer that other statements call, too, so that a variable holds it."""
    is_call = is_module_call(step.expression) and program.module_uses[step.module] > 1
    return is_call and not program.modules[step.module].spec.kind.startswith(".")


def _is_arithmetic(expression: Any) -> bool:
    """Return whether an expression is arithmetic of values and numbers, without an index or a function."""
    operations = [node for node in walk((expression,)) if isinstance(node, Operation)]
    return bool(operations) and all(
        node.kind == "operator" and node.name != INDEX and len(node.args) == 2 for node in operations
    )


def _operands(expression: Any) -> int:
    """Return the number of values and numbers in an expression: 3 for `a * b + 1`."""
    return sum(not isinstance(node, Operation) for node in walk((expression,)))


def _with_operand(expression: Any, name: str, operand: Any) -> Any:
    return transformed(expression, lambda node: operand if isinstance(node, Ref) and node.name == name else node)
