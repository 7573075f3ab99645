"""Speed up a torch program with in-place operations, and merge a layer call with its activation into one statement.

An activation in place overwrites the output of the layer before it. A sum in place overwrites one of its summands. A
value may be overwritten only if the layer that computed it does not need its output for the backward pass.
"""

from dataclasses import replace
from typing import Any

from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.operation import Operation, references, transformed
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.model.graph import Ref

_IN_PLACE = frozenset(f"torch.nn.functional.{name}" for name in ("relu", "relu6", "silu", "hardswish"))
"""Torch functions with an argument `inplace`, which can overwrite their input with the result."""

_OUTPUT_NOT_SAVED = ("torch.nn.BatchNorm", "torch.nn.Conv", "torch.nn.Linear", f"{OWN_LAYERS}.UnevenConv")
"""Layers whose backward pass does not need their output, so that the output may be overwritten."""

_PASSED_ON = ("torch.nn.Dropout", f"{OWN_LAYERS}.SharedDropout")
"""Layers that return their input itself in evaluation mode, and in training a tensor that they do not save."""


def overwriting(program: Program) -> Program:
    """Return the program in which each sum that may overwrite a summand is marked, and has this summand first."""
    return replace(program, steps=tuple(_overwriting(step, program) for step in program.steps))


def folded(program: Program) -> Program:
    """Return the program in which a layer call and the activation after it are one statement.

    `x = self.norm(x)` and `x = F.relu(x)` become `x = F.relu(self.norm(x), inplace=True)`.
    """
    steps: list[Step] = []
    for step in program.steps:
        if steps and _is_around(step, steps[-1], program):
            called = steps[-1].expression
            kind = program.modules[steps[-1].module].spec.kind
            may_overwrite = _is_in_place_function(step.expression) and kind.startswith(_OUTPUT_NOT_SAVED)
            around = _in_place(step.expression) if may_overwrite else step.expression
            steps[-1] = replace(steps[-1], expression=_substituted(around, called), outputs=step.outputs)
        elif step.overwrites and step.inputs[0] not in program.makers:  # do not overwrite a caller's tensor
            steps.append(replace(step, overwrites=False))
        elif _is_in_place_function(step.expression) and _is_free(step.inputs[0], program):
            steps.append(replace(step, expression=_in_place(step.expression)))
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps))


def called_module(step: Step, program: Program) -> Module | None:
    """Return the submodule of a statement that only calls one, as in `x = self.conv(x)`; else None."""
    match step.expression:
        case Operation("module", name, (Ref(),), kwargs) if not kwargs:
            return program.modules[name]
    return None


def is_sum(expression: Any) -> bool:
    """Return True if an expression is the sum of two values."""
    match expression:
        case Operation("operator", "+", (Ref(), Ref())):
            return True
    return False


def _overwriting(step: Step, program: Program) -> Step:
    if not is_sum(step.expression):
        return step
    made = program.values[step.outputs[0]]
    for name, other in (step.inputs, step.inputs[::-1]):
        value = program.values[name]
        is_alike = (value.target_shape, value.dtype) == (made.target_shape, made.dtype) and "float" in made.dtype
        if is_alike and _is_free(name, program):
            return replace(step, expression=replace(step.expression, args=(Ref(name), Ref(other))), overwrites=True)
    return step


def _is_free(name: str, program: Program) -> bool:
    """Return True if the value `name` may be overwritten.

    The value must be computed in the program, be used once, and not be saved for the backward pass.
    """
    maker = program.makers.get(name)
    if maker is None or program.uses[name] != 1:
        return False
    if module := called_module(maker, program):
        passes_on = module.spec.kind.startswith(_PASSED_ON) and _is_free(maker.inputs[0], program)
        return passes_on or module.spec.kind.startswith(_OUTPUT_NOT_SAVED)
    return is_sum(maker.expression) or _is_scaled(maker.expression)


def _is_scaled(expression: Any) -> bool:
    """Return True if an expression is `x * 2` or `x + 2`, whose result torch does not save for the backward pass."""
    match expression:
        case Operation("operator", "*" | "+", (Ref(), int() | float())):
            return True
    return False


def _is_in_place_function(expression: Any) -> bool:
    match expression:
        case Operation("function", name, (Ref(),), kwargs) if not kwargs:
            return name in _IN_PLACE
    return False


def _in_place(expression: Operation) -> Operation:
    return replace(expression, kwargs={**expression.kwargs, "inplace": True})


def _substituted(expression: Any, called: Operation) -> Any:
    """Return an expression with the operation `called` in place of the one value that it uses."""
    return transformed(expression, lambda node: called if isinstance(node, Ref) else node)


def _is_around(step: Step, before: Step, program: Program) -> bool:
    """Return True if a statement just applies a function to the output of a layer call.

    Args:
        step: The statement.
        before: The statement that may be this layer call; nothing else may use its output.
        program: The program that contains both.
    """
    if step.module or step.comment or step.symbols or not _begins_with_a_function(step.expression):
        return False
    is_alone = references(step.expression) == before.outputs and program.uses[before.outputs[0]] == 1
    return is_alone and called_module(before, program) is not None


def _begins_with_a_function(expression: Any) -> bool:
    """Return True if an expression is the call of a torch function, or a method or operator applied to such a call."""
    match expression:
        case Operation("function", name):
            return name.startswith("torch.")
        case Operation("method" | "attribute" | "operator", _, (Operation() as first, *_)):
            return _begins_with_a_function(first)
    return False
