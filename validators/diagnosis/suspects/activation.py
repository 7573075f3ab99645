"""Activations: another variant, another slope, one too many or one too few."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, Suspect, Suspicion, doing, running

Function = Callable[[Any], Any]

FUNCTIONS: Mapping[str, tuple[str, Function]] = {
    "relu": ("torch.relu(x)", torch.relu),
    "relu6": ("F.relu6(x)", functional.relu6),
    "erf GELU": ("F.gelu(x)", functional.gelu),
    "tanh GELU": ('F.gelu(x, approximate="tanh")', lambda x: functional.gelu(x, approximate="tanh")),
    "quick GELU": ("x * torch.sigmoid(1.702 * x)", lambda x: x * torch.sigmoid(1.702 * x)),
    "silu": ("F.silu(x)", functional.silu),
    "sigmoid": ("torch.sigmoid(x)", torch.sigmoid),
    "tanh": ("torch.tanh(x)", torch.tanh),
    "softmax": ("x.softmax(-1)", lambda x: x.softmax(-1)),
    "softmax over the channels": ("x.softmax(1)", lambda x: x.softmax(1)),
    "log_softmax": ("x.log_softmax(-1)", lambda x: x.log_softmax(-1)),
    "softplus": ("F.softplus(x)", lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "elu": ("F.elu(x)", functional.elu),
    "selu": ("F.selu(x)", functional.selu),
    "mish": ("F.mish(x)", functional.mish),
    "softsign": ("F.softsign(x)", functional.softsign),
    "hard_sigmoid": ("F.hardsigmoid(x)", functional.hardsigmoid),
    "hard_sigmoid of Keras 2, clip(0.2 x + 0.5)": (
        "(0.2 * x + 0.5).clamp(0, 1)",
        lambda x: (0.2 * x + 0.5).clamp(0, 1),
    ),
    "hard_silu": ("F.hardswish(x)", functional.hardswish),
    "leaky_relu with slope 0.01": ("F.leaky_relu(x, 0.01)", lambda x: functional.leaky_relu(x, 0.01)),
    "leaky_relu with slope 0.2": ("F.leaky_relu(x, 0.2)", lambda x: functional.leaky_relu(x, 0.2)),
    "leaky_relu with slope 0.3": ("F.leaky_relu(x, 0.3)", lambda x: functional.leaky_relu(x, 0.3)),
}
"""What an activation is in torch, by the name that a reader knows it by."""

_OPERATIONS = frozenset(
    {"relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax", "softplus", "elu", "selu", "mish"}
    | {"softsign", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "prelu", "celu", "rrelu", "logsigmoid"}
)

_KERAS_NAMES = {"hardsigmoid": "hard_sigmoid", "hardswish": "hard_silu", "hardtanh": "hard_tanh"}


def _gelu(case: Case) -> Iterator[Suspicion]:
    names = {"none": "erf", "tanh": "tanh"}
    for operation in case.named("gelu"):
        ours = operation.get("approximate", "none")
        other = "none" if ours == "tanh" else "tanh"
        yield Suspicion(
            cause=f"GELU is the {names[ours]} one in torch and the {names[other]} one in Keras",
            fix=f'nn.GELU(approximate="{other}")  # {operation.owner or case.where}',
            changes={operation.key: running(approximate=other)},
        )


def _slope(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("leaky_relu"):
        ours = operation.get("negative_slope", 0.01)
        for theirs in dict.fromkeys((*case.in_keras("negative_slope"), 0.01, 0.2, 0.3, 0.1)):
            if theirs != ours:
                yield Suspicion(
                    cause=f"negative_slope is {ours:g} in torch and {theirs:g} in Keras",
                    fix=f"nn.LeakyReLU({theirs:g})  # {operation.owner or case.where}",
                    changes={operation.key: running(negative_slope=theirs)},
                )


def _alpha(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("elu"):
        ours = operation.get("alpha", 1.0)
        for theirs in dict.fromkeys((*case.in_keras("alpha"), 1.0, 0.1, 0.2)):
            if theirs != ours:
                yield Suspicion(
                    cause=f"alpha is {ours:g} in torch and {theirs:g} in Keras",
                    fix=f"nn.ELU({theirs:g})  # {operation.owner or case.where}",
                    changes={operation.key: running(alpha=theirs)},
                )


def _missing_in_keras(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_OPERATIONS):
        name = _KERAS_NAMES.get(operation.name, operation.name)
        yield Suspicion(
            cause=f"Keras lacks an activation {case.where_keras}: {name}",
            fix=f"x = keras.activations.{name}(x)  # {case.where_keras}",
            changes={operation.key: lambda call: call.get("input")},
        )


def _another(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_OPERATIONS):
        for name, (code, function) in FUNCTIONS.items():
            yield Suspicion(
                cause=f"torch applies {operation.name} {case.where}, Keras {name}",
                fix=f"x = {code}  # {operation.owner or case.where}, for {operation.name}",
                changes={operation.key: doing(_instead, function)},
            )


def _missing_in_torch(case: Case) -> Iterator[Suspicion]:
    for operation in reversed(case.feeding):
        if operation.result is None or operation.name in VIEWS:
            continue
        for name, (code, function) in FUNCTIONS.items():
            yield Suspicion(
                cause=f"torch lacks an activation {_after(case, operation)}: {name}",
                fix=f"x = {code}  # {_after(case, operation)}",
                changes={operation.key: doing(_then, function)},
            )


def _before_an_addition(case: Case) -> Iterator[Suspicion]:
    """An activation that torch applies to a sum, and Keras to what is summed."""
    for operation in case.named(*_OPERATIONS):
        sums = [other for other in case.operations if other.name == "add" and other.place < operation.place]
        for first, second in ((True, False), (False, True), (True, True)) if sums else ():
            kept: dict[str, Any] = {}
            told = "both" if first and second else f"the {'first' if first else 'second'} summand"
            yield Suspicion(
                cause=f"torch applies {operation.name} {case.where} after an addition, Keras before it, to {told}",
                fix=f"x = keras.layers.Activation(...)(keras.layers.Add()([first, second]))  # {case.where_keras}",
                changes={
                    sums[-1].key: doing(_keeping, kept),
                    operation.key: doing(_sum_of_activated, kept, first, second),
                },
            )


def _keeping(call: TorchCall, kept: dict[str, Any]) -> Any:
    kept["first"], kept["second"] = call.get("input"), call.get("dim")
    return call.run()


def _sum_of_activated(call: TorchCall, kept: dict[str, Any], first: bool, second: bool) -> Any:
    one, other = kept["first"], kept["second"]
    return (call.run(input=one) if first else one) + (call.run(input=other) if second else other)


def _after(case: Case, operation: Operation) -> str:
    return case.where if operation is case.feeding[-1] or not operation.owner else f"after {operation.owner}"


def _instead(call: TorchCall, function: Function) -> Any:
    return function(call.get("input"))


def _then(call: TorchCall, function: Function) -> Any:
    return function(call.run())


SUSPECTS = (
    Suspect("tanh against erf GELU", _gelu),
    Suspect("negative slope", _slope),
    Suspect("alpha of an ELU", _alpha),
    Suspect("activation missing in Keras", _missing_in_keras),
    Suspect("another activation", _another),
    Suspect("activation before an addition", _before_an_addition),
    Suspect("activation missing in torch", _missing_in_torch),
)
