"""Recurrent layers: gates in another order, a bias that got lost, time that runs the other way."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import torch

from keras3conv.frameworks.torch_replay import TorchCall
from keras3conv.validators.suspects.base import Case, Suspect, Suspicion, doing

_GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}


def _gate_order(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_GATES):
        gates = _GATES[operation.name]
        for order in permutations(range(len(gates))):
            if list(order) != sorted(order):
                theirs = ", ".join(gates[place] for place in order)
                yield Suspicion(
                    cause=f"the gates are in another order: torch has {', '.join(gates)}, and where they are "
                    f"Keras has those of {theirs}",
                    fix=f'plan = plan.pair("{case.torch_path}", "{case.keras_path}")  # the rule reorders the gates',
                    changes={operation.key: doing(_with_gates, order)},
                )


def _with_gates(call: TorchCall, order: tuple[int, ...]) -> Any:
    moved = [torch.cat([tensor.chunk(len(order))[place] for place in order]) for tensor in call.get("params")]
    return call.run(params=moved)


def _bias(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("lstm", "gru", "rnn_tanh", "rnn_relu"):
        if operation.get("has_biases"):
            for role, place in (("bias_hh", 3), ("bias_ih", 2)):
                yield Suspicion(
                    cause=f"{role} got lost: Keras has torch's other bias only, and not both",
                    fix=f'plan = plan.pair("{case.torch_path}", "{case.keras_path}")  # the rule takes both',
                    changes={operation.key: doing(_without_bias, place)},
                )


def _without_bias(call: TorchCall, place: int) -> Any:
    params = [
        torch.zeros_like(tensor) if number % 4 == place else tensor for number, tensor in enumerate(call.get("params"))
    ]
    return call.run(params=params)


def _direction(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("lstm", "gru", "rnn_tanh", "rnn_relu"):
        axis = 1 if operation.get("batch_first") else 0
        for told, back in (("and its outputs stay so", False), ("and its outputs are turned back", True)):
            yield Suspicion(
                cause=f"Keras runs through time backwards, {told}",
                fix=f"x = x.flip({axis})  # before {operation.owner}",
                changes={operation.key: doing(_backwards, axis, back)},
            )


def _backwards(call: TorchCall, axis: int, back: bool) -> Any:
    outputs, *states = call.run(input=call.get("input").flip(axis))
    return (outputs.flip(axis) if back else outputs, *states)


SUSPECTS = (
    Suspect("gates in another order", _gate_order),
    Suspect("bias of a recurrent layer lost", _bias),
    Suspect("time backwards", _direction),
)
