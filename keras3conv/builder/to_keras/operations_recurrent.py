"""Convert LSTM, GRU and RNN: each layer of the stack becomes one Keras layer."""

from typing import Any

import numpy as np

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import PLAIN, Call, LayerCall, Result, handles, ops, own
from keras3conv.builder.to_keras.forms import Constant, Held
from keras3conv.builder.to_keras.operations_indexing import picked
from keras3conv.errors import RuleError
from keras3conv.model.graph import Tensor

_KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_CLASSES = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}


@handles("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def _recurrent(call: Call) -> Result:
    if _has_projection(call):
        return _projected(call)
    weights = _weights(call)
    config, batch_first = _config(call, weights[0]), call.arguments["batch_first"]
    value = call.value("input")
    if value.rank != 3:
        raise RuleError(f"{call.name} of an input without a batch axis is not supported: add the axis with unsqueeze")
    directions = 1 + call.arguments["bidirectional"]
    hidden, time = config["hidden_size"], 1 if batch_first else 0
    initial, used = _initial_states(call), call.node.config["used"]
    has_states = bool(initial) or 2 in used
    finals: list[list[Value]] = []
    for place, tensors in enumerate(weights):
        batch = value.shape[1 - time]
        made = [call.writer.new((batch, hidden), (0, 1), value.dtype) for _ in range(_states(call) * directions)]
        given = [_of_layer(call, state, place * directions + one) for one in range(directions) for state in initial]
        shape = (*value.shape[:2], hidden * directions)
        value = _layer(call, value, config, tensors, shape, given, made if has_states else [])
        if has_states:
            finals += [made[one : one + _states(call)] for one in range(0, len(made), _states(call))]
        elif 1 in used:
            finals += [[state] for state in _last_outputs(call, value, time, hidden, directions)]
        if call.get("dropout", 0.0) and place + 1 < len(weights):
            value = _dropout(call, value, tensors["weight_ih_l0"].owner)
    return [value, *(_stacked(call, [one[kind] for one in finals]) if kind + 1 in used else None for kind in range(2))]


def _has_projection(call: Call) -> bool:
    """Return whether an LSTM multiplies its outputs by a fifth weight (`proj_size`), which no Keras layer does."""
    directions, layers = int(1 + call.arguments["bidirectional"]), int(call.arguments["num_layers"])
    return len(call.arguments["params"]) != (4 if call.arguments["has_biases"] else 2) * directions * layers


def _projected(call: Call) -> Result:
    """Convert an LSTM with a projection (`proj_size`): write out the steps of each layer and direction."""
    time = 1 if call.arguments["batch_first"] else 0
    order = (0, 1, 2) if time else (1, 0, 2)
    value = call.ordered(call.arguments["input"], order)
    if not isinstance(value.shape[time], int):
        raise RuleError("an LSTM with a projection (proj_size) needs a sequence of a fixed number of steps")
    given, directions = (
        [call.writer.value(one) for one in call.arguments["params"]],
        1 + call.arguments["bidirectional"],
    )
    number, initial = len(given) // (call.arguments["num_layers"] * directions), _initial_states(call)
    finals: list[list[Value]] = []
    for place in range(call.arguments["num_layers"]):
        if place and call.get("dropout", 0.0):
            value = _dropout(call, value, call.node.path)
        made = []
        for one in range(directions):
            weights = given[len(finals) * number :][:number]
            states = [_of_layer(call, state, len(finals)) for state in initial]
            outputs, *last = _projected_steps(call, value, weights, states, is_reversed=one == 1)
            made.append(outputs)
            finals.append(last)
        shape = (*value.shape[:2], made[0].shape[2] * directions)
        value = made[0] if directions == 1 else call.step(ops.concatenate(made, axis=-1), shape, order)
    used = call.node.config["used"]
    return [value, *(_stacked(call, [one[kind] for one in finals]) if kind + 1 in used else None for kind in range(2))]


def _projected_steps(
    call: Call, value: Value, weights: list[Value], states: list[Value], *, is_reversed: bool
) -> list[Value]:
    """Return the outputs of one direction of an LSTM with a projection, its last output and its last cell state.

    Args:
        call: The call.
        value: The sequence.
        weights: The weights as torch orders them: kernels of the input and of the output, biases, the projection.
        states: The initial output and cell state; none if they are zeros.
        is_reversed: Whether the steps go from the last to the first.
    """
    kernel, recurrent, *biases, projection = weights
    options: dict[str, Any] = {}
    if biases:
        options["bias"] = call.step(biases[0] + biases[1], biases[0].shape, (0,), "float32")
    options |= {"state": states} if states else {}
    options |= {"reverse": True} if is_reversed else {}
    batch, size = value.shape[value.order[0]], projection.shape[0]
    shapes = ((*value.shape[:2], size), (batch, size), (batch, projection.shape[1]))
    made = [
        call.writer.new(shape, order, value.dtype)
        for shape, order in zip(shapes, (value.order, (0, 1), (0, 1)), strict=True)
    ]
    call.writer.write(own.projected_lstm(value, kernel, recurrent, projection, **options), made)
    return made


def _states(call: Call) -> int:
    """Return the number of state tensors of a recurrent layer: 2 for an LSTM, else 1."""
    return 2 if call.name == "lstm" else 1


def _initial_states(call: Call) -> list[Any]:
    """Return the initial states with which a recurrent layer is called; none if all are zeros, as Keras assumes."""
    given = call.arguments["hx"]
    states = given if isinstance(given, list) else [given]
    is_zero = all(isinstance(state, Constant) and not np.any(state.array) for state in states)
    return [] if is_zero else states


def _of_layer(call: Call, state: Any, place: int) -> Value:
    """Return the initial state of one layer in one direction: the slice of shape (batch, hidden) of the states of all.

    Args:
        call: The call.
        state: The initial states of all layers and directions, (layers x directions, batch, hidden).
        place: The index of the layer and direction along the first axis.
    """
    value = call.writer.value(state)
    found = picked(call, value, 0, place, value.shape[1:])
    return call.ordered(found, (0, 1))


def _weights(call: Call) -> list[dict[str, Held]]:
    """Return the parameters of each layer of a recurrent stack, by the names that a torch module with one layer uses.

    The names are "weight_ih_l0", "weight_ih_l0_reverse" and so on, in every layer.
    """
    roles = ["weight_ih_l0", "weight_hh_l0", *(("bias_ih_l0", "bias_hh_l0") if call.arguments["has_biases"] else ())]
    names = [f"{role}{suffix}" for suffix in ("", "_reverse")[: 1 + call.arguments["bidirectional"]] for role in roles]
    given = call.arguments["params"]
    if any(not isinstance(one, Held) or one.is_shared for one in given):
        raise RuleError(
            f"the weights of {call.name} are computed or shared with another layer, but a Keras layer needs weights "
            f"of its own{PLAIN}"
        )
    starts = range(0, len(given), len(names))
    return [dict(zip(names, given[start : start + len(names)], strict=True)) for start in starts]


def _config(call: Call, tensors: dict[str, Held]) -> dict[str, Any]:
    config = {
        "hidden_size": tensors["weight_hh_l0"].shape[1],
        "num_layers": 1,
        "bias": call.arguments["has_biases"],
        "batch_first": True,
        "bidirectional": call.arguments["bidirectional"],
        "dropout": 0.0,
    }
    if call.name == "lstm":
        config["proj_size"] = 0
    if call.name.startswith("rnn"):
        config["nonlinearity"] = call.name.removeprefix("rnn_")
    return config


def _layer(
    call: Call,
    value: Value,
    config: dict[str, Any],
    tensors: dict[str, Held],
    shape: Any,
    inputs: list[Value],
    outputs: list[Value],
) -> Value:
    kind = _KINDS[call.name]
    keras = ("Bidirectional",) if config["bidirectional"] else (_CLASSES[kind],)
    layer = LayerCall(
        kind=f"torch.nn.{kind}",
        keras=keras,
        config={**config, "input_size": tensors["weight_ih_l0"].shape[1]},
        tensors=tensors,
        order=(0, 1, 2) if call.arguments["batch_first"] else (1, 0, 2),
        options={"return_state": True} if outputs else {},
        keywords={"initial_state": inputs} if inputs else {},
        more=tuple(outputs),
    )
    return call.writer.by_rule(layer, value, Tensor(name=call.node.outputs[0].name, shape=shape))


def _dropout(call: Call, value: Value, owner: str) -> Value:
    made = call.writer.new(value.shape, value.order, value.dtype)
    config = {"rate": float(call.arguments["dropout"])}
    call.writer.layer("keras.layers.Dropout", config, value, (), f"{owner}.dropout", made)
    return made


def _last_outputs(call: Call, value: Value, time: int, hidden: int, directions: int) -> list[Value]:
    """Return the output of each direction after its last step; the last step of the reverse direction is time 0.

    Args:
        call: The call.
        value: The output sequence, with both directions along the last axis.
        time: The index of the time axis.
        hidden: The size of the output of one direction.
        directions: 2 for a bidirectional layer, else 1.
    """
    batch = value.shape[1 - time]
    places = [(-1, slice(None, hidden)), (0, slice(hidden, None))][:directions]
    made = []
    for step, part in places:
        index = (slice(None), step, part) if directions == 2 else (slice(None), step)
        in_keras = call.ordered(value, (0, 1, 2) if time == 1 else (1, 0, 2))
        made.append(call.step(in_keras[index], (batch, hidden), (0, 1)))
    return made


def _stacked(call: Call, states: list[Value]) -> Value | None:
    if not states:
        return None
    shape = (len(states), *states[0].shape)
    return call.step(ops.stack(states, axis=0), shape, (0, 1, 2))


_CELLS = {"lstm_cell": "LSTMCell", "gru_cell": "GRUCell", "rnn_tanh_cell": "RNNCell", "rnn_relu_cell": "RNNCell"}


@handles(*_CELLS)
def _cell(call: Call) -> Result:
    """Convert a recurrent cell (LSTMCell, GRUCell, RNNCell), which computes one time step."""
    kind, hx = _CELLS[call.name], call.arguments["hx"]
    roles = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    tensors = {role: held for name, role in roles.items() if (held := call.held(name)) is not None}
    value = call.value("input")
    states = [call.ordered(state, (0, 1)) for state in (hx if isinstance(hx, list) else [hx])]
    config = {
        "input_size": tensors["weight_ih"].shape[1],
        "hidden_size": tensors["weight_hh"].shape[1],
        "bias": "bias_ih" in tensors,
        **({"nonlinearity": call.name.removeprefix("rnn_").removesuffix("_cell")} if kind == "RNNCell" else {}),
    }
    result = call.node.outputs[0]
    cells = tuple(call.writer.new(result.shape, (0, 1), value.dtype) for _ in states[1:])
    layer = LayerCall(
        kind=f"torch.nn.{kind}",
        keras=("SimpleRNNCell",) if kind == "RNNCell" else (kind,),
        config=config,
        tensors=tensors,
        order=(0, 1),
        keywords={"states": states},
        more=cells,
        part=1 if cells else 0,  # Keras returns the output and the list of states, of which the output is the first
    )
    output = call.writer.by_rule(layer, value, result)
    return [output, *cells] if cells else output
