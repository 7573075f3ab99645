"""Recurrent layers: gates in another order, a bias that got lost, time that runs the other way."""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing

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


def _cell_state(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("lstm"):
        yield Suspicion(
            cause="torch goes on with the hidden state of an LSTM, Keras with the cell state",
            fix=f"_, hidden, cell = lstm(x)  # {case.where_keras}: take hidden",
            changes={operation.key: _states_exchanged},
        )


def _states_exchanged(call: TorchCall) -> Any:
    outputs, hidden, cell = call.run()
    if not call.get("bidirectional"):  # the last output is the hidden state as well
        axis = 1 if call.get("batch_first") else 0
        steps = outputs.shape[axis]
        outputs = torch.cat([outputs.narrow(axis, 0, steps - 1), cell[-1].unsqueeze(axis)], axis)
    return outputs, cell, hidden


def _end_of_backward(case: Case) -> Iterator[Suspicion]:
    """What a backward direction ends with, which is its output at the first step, and not at the last one."""
    for operation in case.named("lstm", "gru", "rnn_tanh", "rnn_relu"):
        if operation.get("bidirectional"):
            axis = 1 if operation.get("batch_first") else 0
            for told, last in (
                ("where it ends, at the first step", False),
                ("at the last step, where it starts", True),
            ):
                yield Suspicion(
                    cause=f"Keras takes the output of the backward direction {told}; torch does the other",
                    fix=f"# {case.where_keras}: return_sequences={not last} in the Bidirectional",
                    changes={operation.key: doing(_ends, axis, last)},
                )


def _ends(call: TorchCall, axis: int, last: bool) -> Any:
    outputs, hidden, *cell = call.run()
    forward, backward = outputs.chunk(2, -1)
    size = outputs.shape[axis]
    if last:
        return outputs, torch.cat([hidden[:-1], backward.select(axis, size - 1)[None]]), *cell
    final = [backward.narrow(axis, 0, size - 1), backward.narrow(axis, 0, 1)]
    return torch.cat([forward, torch.cat(final, axis)], -1), hidden, *cell


def _weights(case: Case) -> Iterator[Suspicion]:
    again = f'plan = plan.pair("{case.torch_path}", "{case.keras_path}")  # the rule '
    for operation in case.named("lstm", "gru", "rnn_tanh", "rnn_relu"):
        yield Suspicion(
            cause="the recurrent kernel is transposed, gate by gate",
            fix=f"{again}transposes it",
            changes={operation.key: doing(_with_params, _transposed)},
        )
        if operation.get("bidirectional"):
            yield Suspicion(
                cause="the two directions have each other's weights",
                fix=f"{again}knows which is which",
                changes={operation.key: doing(_with_params, _directions)},
            )
        if operation.name == "lstm" and operation.get("has_biases"):
            yield Suspicion(
                cause="the bias of the forget gate is 1 higher in Keras: unit_forget_bias was added to trained weights",
                fix=f"{again}takes the bias as it is",
                changes={operation.key: doing(_with_params, _forgetting)},
            )


def _with_params(call: TorchCall, change: Callable[[list[Any], int], list[Any]]) -> Any:
    return call.run(params=change(list(call.get("params")), 4 if call.get("has_biases") else 2))


def _transposed(params: list[Any], each: int) -> list[Any]:
    width = params[1].shape[1]
    return [
        torch.cat([gate.T for gate in tensor.split(width)]) if number % each == 1 else tensor
        for number, tensor in enumerate(params)
    ]


def _directions(params: list[Any], each: int) -> list[Any]:
    groups = [params[start : start + each] for start in range(0, len(params), each)]
    return [tensor for place in range(len(groups)) for tensor in groups[place ^ 1]]


def _forgetting(params: list[Any], each: int) -> list[Any]:
    def more(bias: Any) -> Any:
        gates = list(bias.chunk(4))
        return torch.cat([gates[0], gates[1] + 1, *gates[2:]])

    return [more(tensor) if number % each == 2 else tensor for number, tensor in enumerate(params)]


SUSPECTS = (
    Suspect("gates in another order", _gate_order),
    Suspect("bias of a recurrent layer lost", _bias),
    Suspect("time backwards", _direction),
    Suspect("weights of a recurrent layer", _weights),
    Suspect("cell state for hidden state", _cell_state),
    Suspect("end of a backward direction", _end_of_backward),
)
