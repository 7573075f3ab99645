"""Handlers of LSTM, GRU and RNN: each layer of the stack is one Keras layer."""

from typing import Any

import numpy as np

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Call, Constant, Held, LayerCall, Result, handles, ops
from keras3conv.errors import RuleError
from keras3conv.model.graph import Tensor

_KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_CLASSES = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}


@handles("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def _recurrent(call: Call) -> Result:
    _require_zero_states(call)
    if call.name == "lstm" and 2 in call.node.config["used"]:
        raise RuleError("the final cell state of an LSTM")
    weights = _weights(call)
    config, batch_first = _config(call, weights[0]), call.arguments["batch_first"]
    value = call.value("input")
    directions = 1 + call.arguments["bidirectional"]
    hidden, time = config["hidden_size"], 1 if batch_first else 0
    states = []
    for place, tensors in enumerate(weights):
        value = _layer(call, value, config, tensors, (*value.shape[:2], hidden * directions))
        if call.get("dropout", 0.0) and place + 1 < len(weights):
            value = _dropout(call, value, tensors["weight_ih_l0"].owner)
        if 1 in call.node.config["used"]:
            states += _final_states(call, value, time, hidden, directions)
    return [value, _stacked(call, states), None]


def _require_zero_states(call: Call) -> None:
    given = call.arguments["hx"]
    for state in given if isinstance(given, list) else [given]:
        if not isinstance(state, Constant) or np.any(state.array):
            raise RuleError(f"{call.name} with an initial state other than zeros")


def _weights(call: Call) -> list[dict[str, Held]]:
    """Return the tensors of each layer, by the names that they have in a torch layer of one."""
    roles = ["weight_ih_l0", "weight_hh_l0", *(("bias_ih_l0", "bias_hh_l0") if call.arguments["has_biases"] else ())]
    names = [f"{role}{suffix}" for suffix in ("", "_reverse")[: 1 + call.arguments["bidirectional"]] for role in roles]
    given = call.arguments["params"]
    if len(given) != len(names) * call.arguments["num_layers"]:
        raise RuleError(f"{call.name} with a projection")
    if any(not isinstance(one, Held) or one.is_shared for one in given):
        raise RuleError(f"{call.name} with computed or shared weights")
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


def _layer(call: Call, value: Value, config: dict[str, Any], tensors: dict[str, Held], shape: Any) -> Value:
    kind = _KINDS[call.name]
    keras = ("Bidirectional",) if config["bidirectional"] else (_CLASSES[kind],)
    layer = LayerCall(
        kind=f"torch.nn.{kind}",
        keras=keras,
        config={**config, "input_size": tensors["weight_ih_l0"].shape[1]},
        tensors=tensors,
        order=(0, 1, 2) if call.arguments["batch_first"] else (1, 0, 2),
    )
    return call.writer.by_rule(layer, value, Tensor(name=call.node.outputs[0].name, shape=shape))


def _dropout(call: Call, value: Value, owner: str) -> Value:
    made = call.writer.new(value.shape, value.order, value.dtype)
    config = {"rate": float(call.arguments["dropout"])}
    call.writer.layer("keras.layers.Dropout", config, value, (), f"{owner}.dropout", made)
    return made


def _final_states(call: Call, value: Value, time: int, hidden: int, directions: int) -> list[Value]:
    """Return the last output of each direction: the last step, and for the reverse direction the first."""
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
