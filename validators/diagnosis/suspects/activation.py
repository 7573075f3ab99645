"""Propose mistakes in activations as causes: another variant or slope, or an activation that only one side has."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.rules.operations import activations
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, Hypothesis, Suspect, replaced_by, with_arguments
from keras3conv.validators.diagnosis.suspects.in_keras import in_keras

Function = Callable[[Any], Any]

_ACTIVATIONS = {name: entry for name, entry in activations().items() if entry.module}

FUNCTIONS: Mapping[str, tuple[str, Function]] = {
    **{
        name: (f"{entry.code}(x)", getattr(functional, entry.name))
        for name, entry in _ACTIVATIONS.items()
        if not entry.parameters
    },
    "erf GELU": ("F.gelu(x)", functional.gelu),
    "tanh GELU": ('F.gelu(x, approximate="tanh")', lambda x: functional.gelu(x, approximate="tanh")),
    "quick GELU": ("x * torch.sigmoid(1.702 * x)", lambda x: x * torch.sigmoid(1.702 * x)),
    "softmax": ("x.softmax(-1)", lambda x: x.softmax(-1)),
    "softmax over the channels": ("x.softmax(1)", lambda x: x.softmax(1)),
    "log_softmax": ("x.log_softmax(-1)", lambda x: x.log_softmax(-1)),
    "softplus": ("F.softplus(x)", lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "elu": ("F.elu(x)", functional.elu),
    "hard_sigmoid of Keras 2, clip(0.2 x + 0.5)": (
        "(0.2 * x + 0.5).clamp(0, 1)",
        lambda x: (0.2 * x + 0.5).clamp(0, 1),
    ),
    "leaky_relu with slope 0.01": ("F.leaky_relu(x, 0.01)", lambda x: functional.leaky_relu(x, 0.01)),
    "leaky_relu with slope 0.2": ("F.leaky_relu(x, 0.2)", lambda x: functional.leaky_relu(x, 0.2)),
    "leaky_relu with slope 0.3": ("F.leaky_relu(x, 0.3)", lambda x: functional.leaky_relu(x, 0.3)),
}
"""Activation functions by their usual names, each with its source code in torch and its function."""

_KERAS_NAMES = {entry.name: name for name, entry in _ACTIVATIONS.items()}

_OPERATIONS = frozenset(_KERAS_NAMES) - {"glu"} | {"prelu", "rrelu"}
"""The torch functions that are activations, except GLU, whose output has half the size of its input."""


def _gelu(case: Case) -> Iterator[Hypothesis]:
    names = {"none": "erf", "tanh": "tanh"}
    for operation in case.operations_named("gelu"):
        approximate = operation.get("approximate", "none")
        other = "none" if approximate == "tanh" else "tanh"
        yield Hypothesis(
            cause=f"GELU is the {names[approximate]} variant in torch and the {names[other]} variant in Keras",
            fix=f'nn.GELU(approximate="{other}")  # {case.place(operation)}',
            keras=f"x = keras.activations.gelu(x, approximate={approximate == 'tanh'})  # {case.where_keras}",
            changes={operation.key: with_arguments(approximate=other)},
        )


def _slope(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("leaky_relu"):
        torch_slope = operation.get("negative_slope", 0.01)
        for keras_slope in dict.fromkeys((*case.keras_numbers("negative_slope"), 0.01, 0.2, 0.3, 0.1)):
            if keras_slope != torch_slope:
                yield Hypothesis(
                    cause=f"negative_slope is {torch_slope:g} in torch and {keras_slope:g} in Keras",
                    fix=f"nn.LeakyReLU({keras_slope:g})  # {case.place(operation)}",
                    keras=f"x = keras.activations.leaky_relu(x, negative_slope={torch_slope:g})  # {case.where_keras}",
                    changes={operation.key: with_arguments(negative_slope=keras_slope)},
                )


def _alpha(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("elu"):
        torch_alpha = operation.get("alpha", 1.0)
        for keras_alpha in dict.fromkeys((*case.keras_numbers("alpha"), 1.0, 0.1, 0.2)):
            if keras_alpha != torch_alpha:
                yield Hypothesis(
                    cause=f"alpha is {torch_alpha:g} in torch and {keras_alpha:g} in Keras",
                    fix=f"nn.ELU({keras_alpha:g})  # {case.place(operation)}",
                    keras=f"x = keras.activations.elu(x, alpha={torch_alpha:g})  # {case.where_keras}",
                    changes={operation.key: with_arguments(alpha=keras_alpha)},
                )


def _missing_in_keras(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_OPERATIONS):
        name = _KERAS_NAMES.get(operation.name, operation.name)
        yield Hypothesis(
            cause=f"Keras lacks an activation {case.where_keras}: {name}",
            keras=f"x = keras.activations.{name}(x)  # {case.where_keras}",
            changes={operation.key: lambda call: call.get("input")},
        )


def _in_keras(case: Case, operation: Operation, wrong: str) -> str:
    """Return the line of code that applies torch's activation in Keras, in the place of the wrong one."""
    name = _KERAS_NAMES.get(operation.name)
    if operation.name == "hardtanh" and (operation.get("min_val"), operation.get("max_val")) == (0.0, 6.0):
        name = "relu6"
    is_plain = name == "relu6" or (name is not None and name in FUNCTIONS)
    if is_plain:
        return f"x = keras.activations.{name}(x)  # {case.where_keras}, in place of {wrong}"
    return in_keras(case, operation, wrong)


def _other_activation(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_OPERATIONS):
        for name, (code, function) in FUNCTIONS.items():
            yield Hypothesis(
                cause=f"torch applies {operation.name} {case.where}, Keras {name}",
                fix=f"x = {code}  # {case.place(operation)}, for {operation.name}",
                keras=_in_keras(case, operation, name),
                changes={operation.key: replaced_by(_apply_instead, function)},
            )


def _missing_in_torch(case: Case) -> Iterator[Hypothesis]:
    for operation in reversed(case.torch.upstream):
        if operation.result is None or operation.name in VIEWS:
            continue
        for name, (code, function) in FUNCTIONS.items():
            yield Hypothesis(
                cause=f"torch lacks an activation {_after(case, operation)}: {name}",
                fix=f"x = {code}  # {_after(case, operation)}",
                keras=f"# {case.where_keras}: without the activation {name}, which torch does not have",
                changes={operation.key: replaced_by(_apply_after, function)},
            )


def _before_an_addition(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that torch applies an activation to a sum, and Keras to the summands."""
    for operation in case.operations_named(*_OPERATIONS):
        sums = [other for other in case.torch.operations if other.name == "add" and other.place < operation.place]
        for first, second in ((True, False), (False, True), (True, True)) if sums else ():
            summands: dict[str, Any] = {}
            activated = "both" if first and second else f"the {'first' if first else 'second'} summand"
            yield Hypothesis(
                cause=f"torch applies {operation.name} {case.where} after an addition, Keras before it, to {activated}",
                keras=f"x = keras.layers.Activation(...)(keras.layers.Add()([first, second]))  # {case.where_keras}",
                changes={
                    sums[-1].key: replaced_by(_remember_summands, summands),
                    operation.key: replaced_by(_sum_of_activated, summands, first, second),
                },
            )


def _remember_summands(call: TorchCall, summands: dict[str, Any]) -> Any:
    summands["first"], summands["second"] = call.get("input"), call.get("dim")  # the second argument is named `dim`
    return call.run()


def _sum_of_activated(call: TorchCall, summands: dict[str, Any], first: bool, second: bool) -> Any:
    left, right = summands["first"], summands["second"]
    return (call.run(input=left) if first else left) + (call.run(input=right) if second else right)


def _after(case: Case, operation: Operation) -> str:
    return case.where if operation is case.torch.upstream[-1] or not operation.owner else f"after {operation.owner}"


def _apply_instead(call: TorchCall, function: Function) -> Any:
    return function(call.get("input"))


def _apply_after(call: TorchCall, function: Function) -> Any:
    return function(call.run())


_ELEMENTWISE: Mapping[str, Function] = {
    name: getattr(torch, name) for name in ("abs", "square", "sqrt", "exp", "sin", "cos")
}
"""Elementwise functions that have the same name in torch and Keras."""


def _other_function(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_ELEMENTWISE, "pow", "__pow__"):
        is_power = operation.name.strip("_") == "pow"
        if is_power and operation.get("dim") != 2:  # the second argument is named `dim`
            continue
        name = "square" if is_power else operation.name
        for other, function in _ELEMENTWISE.items():
            if other != name:
                yield Hypothesis(
                    cause=f"torch computes {name} {case.where}, Keras {other}",
                    fix=f"x = torch.{other}(x)  # {case.place(operation)}, for {name}",
                    keras=f"x = keras.ops.{name}(x)  # {case.where_keras}, in place of {other}",
                    changes={operation.key: replaced_by(_apply_instead, function)},
                )


def _function_missing_in_torch(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras takes the absolute value or the square where torch combines two tensors."""
    for operation in case.operations_named("sub", "add", "mul"):
        for name in ("abs", "square"):
            yield Hypothesis(
                cause=f"Keras takes {name} of the result of {operation.name} {case.where}, torch does not",
                fix=f"x = torch.{name}(x)  # {case.place(operation)}, after {operation.name}",
                keras=f"# {case.where_keras}: without {name} after {operation.name}, which torch does not have",
                changes={operation.key: replaced_by(_apply_after, _ELEMENTWISE[name])},
            )


SUSPECTS = (
    Suspect("tanh against erf GELU", _gelu),
    Suspect("negative slope", _slope),
    Suspect("alpha of an ELU", _alpha),
    Suspect("activation missing in Keras", _missing_in_keras),
    Suspect("another activation", _other_activation),
    Suspect("another function", _other_function),
    Suspect("activation before an addition", _before_an_addition),
    Suspect("activation missing in torch", _missing_in_torch),
    Suspect("function missing in torch", _function_missing_in_torch),
)
