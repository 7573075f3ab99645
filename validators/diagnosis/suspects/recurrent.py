"""Propose mistakes in recurrent layers as causes: another gate order, a missing bias, swapped states."""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by

_GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _gate_order(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_GATES):
        gates = _GATES[operation.name]
        for order in permutations(range(len(gates))):
            if list(order) != sorted(order):
                keras_gates = ", ".join(gates[index] for index in order)
                yield Hypothesis(
                    cause=f"the gates are in another order: {', '.join(gates)} in torch, {keras_gates} in Keras",
                    fix=case.pair_again("the rule reorders the gates"),
                    changes={operation.key: replaced_by(_with_gates, order)},
                )


def _with_gates(call: TorchCall, order: tuple[int, ...]) -> Any:
    reordered = [torch.cat([tensor.chunk(len(order))[index] for index in order]) for tensor in call.get("params")]
    return call.run(params=reordered)


def _bias(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_RECURRENT):
        if operation.get("has_biases"):
            for missing, kept, position in (("bias_hh", "bias_ih", 3), ("bias_ih", "bias_hh", 2)):
                yield Hypothesis(
                    cause=f"{missing} is missing: Keras has only torch's {kept}",
                    fix=case.pair_again("the rule maps both biases"),
                    changes={operation.key: replaced_by(_without_bias, position)},
                )


def _without_bias(call: TorchCall, position: int) -> Any:
    params = list(call.get("params"))
    for index in range(position, len(params), 4):  # every layer and direction has four tensors
        params[index] = torch.zeros_like(params[index])
    return call.run(params=params)


def _direction(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_RECURRENT):
        axis = 1 if operation.get("batch_first") else 0
        for order, is_restored in (("reversed", False), ("in the original order", True)):
            yield Hypothesis(
                cause=f"Keras processes the sequence backwards, and returns the outputs {order}",
                fix=f"x = x.flip({axis})  # {case.before(operation)}",
                keras=f"go_backwards=False  # {case.point.keras_path or case.where_keras}",
                changes={operation.key: replaced_by(_backwards, axis, is_restored)},
            )


def _backwards(call: TorchCall, axis: int, is_restored: bool) -> Any:
    outputs, *states = call.run(input=call.get("input").flip(axis))
    return (outputs.flip(axis) if is_restored else outputs, *states)


def _cell_state(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("lstm"):
        for used, other, change in (("hidden", "cell", _cell_for_hidden), ("cell", "hidden", _hidden_for_cell)):
            yield Hypothesis(
                cause=f"torch uses the {used} state of the LSTM, Keras the {other} state",
                keras=f"_, hidden, cell = lstm(x)  # {case.where_keras}: take {used}",
                changes={operation.key: change},
            )


def _hidden_for_cell(call: TorchCall) -> Any:
    outputs, hidden, _ = call.run()
    return outputs, hidden, hidden


def _cell_for_hidden(call: TorchCall) -> Any:
    outputs, _, cell = call.run()
    if not call.get("bidirectional"):  # the last output is the hidden state as well
        axis = 1 if call.get("batch_first") else 0
        steps = outputs.shape[axis]
        outputs = torch.cat([outputs.narrow(axis, 0, steps - 1), cell[-1].unsqueeze(axis)], axis)
    return outputs, cell, cell


def _backward_output(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras takes the wrong output of the backward direction.

    This direction starts at the last time step and ends at the first.
    """
    for operation in case.operations_named(*_RECURRENT):
        if operation.get("bidirectional"):
            axis = 1 if operation.get("batch_first") else 0
            for keras_step, torch_step, last in (
                ("first time step, where it ends", "last", False),
                ("last time step, where it starts", "first", True),
            ):
                yield Hypothesis(
                    cause=f"Keras takes the backward output at the {keras_step}; torch at the {torch_step}",
                    keras=f"# {case.where_keras}: return_sequences={not last} in the Bidirectional",
                    changes={operation.key: replaced_by(_backward_output_at, axis, last)},
                )


def _backward_output_at(call: TorchCall, axis: int, last: bool) -> Any:
    outputs, hidden, *cell = call.run()
    forward, backward = outputs.chunk(2, -1)
    size = outputs.shape[axis]
    if last:
        return outputs, torch.cat([hidden[:-1], backward.select(axis, size - 1)[None]]), *cell
    with_end_last = torch.cat([backward.narrow(axis, 0, size - 1), backward.narrow(axis, 0, 1)], axis)
    return torch.cat([forward, with_end_last], -1), hidden, *cell


def _weights(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_RECURRENT):
        yield Hypothesis(
            cause="the recurrent kernel is transposed, gate by gate",
            fix=case.pair_again("the rule transposes it"),
            changes={operation.key: replaced_by(_with_params, _transpose_recurrent)},
        )
        if operation.get("bidirectional"):
            yield Hypothesis(
                cause="the weights of the two directions are swapped",
                fix=case.pair_again("the rule maps each direction"),
                changes={operation.key: replaced_by(_with_params, _swap_directions)},
            )
        if operation.name == "lstm" and operation.get("has_biases"):
            yield Hypothesis(
                cause="the bias of the forget gate is 1 higher in Keras: unit_forget_bias was added to trained weights",
                fix=case.pair_again("the rule does not add to the bias"),
                changes={operation.key: replaced_by(_with_params, _add_forget_bias)},
            )


def _with_params(call: TorchCall, change: Callable[[list[Any], int], list[Any]]) -> Any:
    """Run a recurrent call with other parameters.

    `change` is called with the parameters and their number per layer and direction, and returns the other parameters.
    """
    return call.run(params=change(list(call.get("params")), 4 if call.get("has_biases") else 2))


def _transpose_recurrent(params: list[Any], group_size: int) -> list[Any]:
    width = params[1].shape[1]
    for index in range(1, len(params), group_size):
        params[index] = torch.cat([gate.T for gate in params[index].split(width)])
    return params


def _swap_directions(params: list[Any], group_size: int) -> list[Any]:
    groups = [params[start : start + group_size] for start in range(0, len(params), group_size)]
    return [tensor for index in range(len(groups)) for tensor in groups[index ^ 1]]


def _add_forget_bias(params: list[Any], group_size: int) -> list[Any]:
    for index in range(2, len(params), group_size):
        enter, forget, *others = params[index].chunk(4)
        params[index] = torch.cat([enter, forget + 1, *others])
    return params


SUSPECTS = (
    Suspect("gates in another order", _gate_order),
    Suspect("bias of a recurrent layer missing", _bias),
    Suspect("reversed sequence", _direction),
    Suspect("weights of a recurrent layer", _weights),
    Suspect("cell state instead of hidden state", _cell_state),
    Suspect("output of a backward direction", _backward_output),
)
