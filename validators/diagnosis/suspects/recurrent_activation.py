"""Propose as a cause that a recurrent layer of Keras has activations that torch's layers lack.

Torch's equations are then rerun step by step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import TorchCall
from keras3conv.validators.diagnosis.suspects.activation import FUNCTIONS, Function
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by

_KERAS_2 = "hard_sigmoid of Keras 2, clip(0.2 x + 0.5)"
_GATES = ("sigmoid", "hard_sigmoid", _KERAS_2)
_STATES = ("tanh", "relu", "sigmoid", "softsign", "linear")


@dataclass(frozen=True)
class _Activations:
    """The activation functions of the gates and of the state in a recurrent layer."""

    gate: Function
    state: Function


def _other_activations(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("lstm", "gru"):
        for gate in _GATES:
            for state in _STATES:
                if (gate, state) != ("sigmoid", "tanh"):
                    activations = _Activations(_function(gate), _function(state))
                    yield Hypothesis(
                        cause=f"torch has sigmoid for the gates and tanh for the state, Keras {gate} and {state}",
                        keras=f"{_changed(gate, state)}  # of {case.point.keras_path}, if its weights were trained so",
                        changes={operation.key: replaced_by(_step_by_step, activations)},
                    )
    for operation in case.operations_named("rnn_tanh", "rnn_relu"):
        torch_state = operation.name.removeprefix("rnn_")
        for state in _STATES:
            if state != torch_state:
                activations = _Activations(torch.sigmoid, _function(state))
                yield Hypothesis(
                    cause=f"torch has {torch_state} for the state, Keras {state}",
                    keras=f'activation="{torch_state}"  # of {case.point.keras_path}, if its weights were trained so',
                    changes={operation.key: replaced_by(_step_by_step, activations)},
                )


def _changed(gate: str, state: str) -> str:
    """Return the Keras arguments to change, with torch's values: 'recurrent_activation="sigmoid"'.

    `gate` and `state` are the present activations of the Keras layer.
    """
    wanted = (("activation", state, "tanh"), ("recurrent_activation", gate, "sigmoid"))
    return ", ".join(f'{name}="{value}"' for name, present, value in wanted if present != value)


def _function(name: str) -> Function:
    return (lambda x: x) if name == "linear" else FUNCTIONS[name][1]


def _step_by_step(call: TorchCall, activations: _Activations) -> Any:
    """Return outputs and last states, computed step by step by the equations of `nn.LSTM`, `nn.GRU` and `nn.RNN`."""
    values = call.get("input")
    values = values.transpose(0, 1) if call.get("batch_first") else values
    group_size, params = 4 if call.get("has_biases") else 2, list(call.get("params"))
    hidden, cells = call.get("hx") if isinstance(call.get("hx"), list | tuple) else (call.get("hx"), call.get("hx"))
    directions = 2 if call.get("bidirectional") else 1
    last_states: list[tuple[Any, Any]] = []
    for layer in range(call.get("num_layers")):
        by_direction = []
        for direction in range(directions):
            index = layer * directions + direction
            steps = values.flip(0) if direction else values
            group = params[index * group_size : (index + 1) * group_size]
            outputs, state = _one_direction(call.name, steps, (hidden[index], cells[index]), group, activations)
            by_direction.append(outputs.flip(0) if direction else outputs)
            last_states.append(state)
        values = torch.cat(by_direction, -1)
    values = values.transpose(0, 1) if call.get("batch_first") else values
    last_hidden = torch.stack([state[0] for state in last_states])
    if call.name != "lstm":
        return values, last_hidden
    return values, last_hidden, torch.stack([state[1] for state in last_states])


def _one_direction(
    name: str, steps: Any, state: tuple[Any, Any], params: Sequence[Any], activations: _Activations
) -> tuple[Any, tuple[Any, Any]]:
    outputs = []
    for step in steps:
        state = _step(name, step, state, params, activations)
        outputs.append(state[0])
    return torch.stack(outputs), state


def _step(
    name: str, step: Any, state: tuple[Any, Any], params: Sequence[Any], activations: _Activations
) -> tuple[Any, Any]:
    hidden, cell = state
    biases = params[2:] or (0.0, 0.0)
    from_input, from_hidden = step @ params[0].T + biases[0], hidden @ params[1].T + biases[1]
    if name == "lstm":
        input_gate, forget_gate, candidate, output_gate = (from_input + from_hidden).chunk(4, -1)
        cell = activations.gate(forget_gate) * cell + activations.gate(input_gate) * activations.state(candidate)
        return activations.gate(output_gate) * activations.state(cell), cell
    if name == "gru":
        input_reset, input_update, input_new = from_input.chunk(3, -1)
        hidden_reset, hidden_update, hidden_new = from_hidden.chunk(3, -1)
        update = activations.gate(input_update + hidden_update)
        reset = activations.gate(input_reset + hidden_reset)
        return update * hidden + (1 - update) * activations.state(input_new + reset * hidden_new), cell
    return activations.state(from_input + from_hidden), cell


SUSPECTS = (Suspect("activations of a recurrent layer", _other_activations),)
