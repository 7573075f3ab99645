"""Recurrent layers with other activations inside, which torch's own cannot have: they are run step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import TorchCall
from keras3conv.validators.diagnosis.suspects.activation import FUNCTIONS, Function
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing

_KERAS_2 = "hard_sigmoid of Keras 2, clip(0.2 x + 0.5)"
_GATES = ("sigmoid", "hard_sigmoid", _KERAS_2)
_STATES = ("tanh", "relu", "sigmoid", "softsign", "linear")


@dataclass(frozen=True)
class _Activations:
    gate: Function
    state: Function


def _other_activations(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("lstm", "gru"):
        for gate in _GATES:
            for state in _STATES:
                if (gate, state) != ("sigmoid", "tanh"):
                    used = _Activations(_function(gate), _function(state))
                    yield Suspicion(
                        cause=f"torch has sigmoid for the gates and tanh for the state, Keras {gate} and {state}",
                        fix='activation="tanh", recurrent_activation="sigmoid"  '
                        f"# of {case.keras_path}, if its weights were trained so",
                        changes={operation.key: doing(_step_by_step, used)},
                    )
    for operation in case.named("rnn_tanh", "rnn_relu"):
        ours = operation.name.removeprefix("rnn_")
        for state in _STATES:
            if state != ours:
                yield Suspicion(
                    cause=f"torch has {ours} for the state, Keras {state}",
                    fix=f'activation="{ours}"  # of {case.keras_path}, if its weights were trained so',
                    changes={operation.key: doing(_step_by_step, _Activations(torch.sigmoid, _function(state)))},
                )


def _function(name: str) -> Function:
    return (lambda x: x) if name == "linear" else FUNCTIONS[name][1]


def _step_by_step(call: TorchCall, used: _Activations) -> Any:
    """Outputs and last states, as torch returns them; the equations are those of `torch.nn.LSTM` and `torch.nn.GRU`."""
    values = call.get("input")
    values = values.transpose(0, 1) if call.get("batch_first") else values
    each, params = 4 if call.get("has_biases") else 2, list(call.get("params"))
    hidden, cells = call.get("hx") if isinstance(call.get("hx"), list | tuple) else (call.get("hx"), call.get("hx"))
    directions = 2 if call.get("bidirectional") else 1
    ends: list[tuple[Any, Any]] = []
    for layer in range(call.get("num_layers")):
        made = []
        for direction in range(directions):
            place = layer * directions + direction
            given = values.flip(0) if direction else values
            outputs, state = _one_direction(
                call.name, given, (hidden[place], cells[place]), params[place * each : (place + 1) * each], used
            )
            made.append(outputs.flip(0) if direction else outputs)
            ends.append(state)
        values = torch.cat(made, -1)
    values = values.transpose(0, 1) if call.get("batch_first") else values
    last = [torch.stack([state[kind] for state in ends]) for kind in range(2 if call.name == "lstm" else 1)]
    return values, *last


def _one_direction(
    name: str, steps: Any, state: tuple[Any, Any], params: Sequence[Any], used: _Activations
) -> tuple[Any, tuple[Any, Any]]:
    outputs = []
    for step in steps:
        state = _step(name, step, state, params, used)
        outputs.append(state[0])
    return torch.stack(outputs), state


def _step(name: str, step: Any, state: tuple[Any, Any], params: Sequence[Any], used: _Activations) -> tuple[Any, Any]:
    hidden, cell = state
    biases = params[2:] or (0.0, 0.0)
    given, kept = step @ params[0].T + biases[0], hidden @ params[1].T + biases[1]
    if name == "lstm":
        enter, forget, new, leave = (given + kept).chunk(4, -1)
        cell = used.gate(forget) * cell + used.gate(enter) * used.state(new)
        return used.gate(leave) * used.state(cell), cell
    if name == "gru":
        (reset, update, new), (old_reset, old_update, old) = given.chunk(3, -1), kept.chunk(3, -1)
        share = used.gate(update + old_update)
        fresh = used.state(new + used.gate(reset + old_reset) * old)
        return share * hidden + (1 - share) * fresh, cell
    return used.state(given + kept), cell


SUSPECTS = (Suspect("activations of a recurrent layer", _other_activations),)
