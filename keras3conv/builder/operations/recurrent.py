"""Convert recurrent layers. torch always returns the sequence and the last states, Keras only the requested outputs."""

from collections.abc import Mapping
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import torch
from keras3conv.builder.operations.indexing import ALL
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.operation import Operation, Submodule
from keras3conv.builder.program.program import Value
from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import NO_STATE


@handles("keras.layers.LSTM", "keras.layers.GRU", "keras.layers.SimpleRNN")
def _recurrent(call: Call) -> None:
    if call.get("mask") is not None:
        masked(call)
        return
    try:
        layer = call.builder.rule_module(call, "torch.nn.")
    except RuleError:
        if call.get("initial_state") is not None:
            masked(call)
            return
        call.builder.by_rule(call)  # a torch layer of keras3conv, which returns the same outputs as the Keras layer
        return
    given = _sequence(call, call.node.config)
    called = _called(call, layer, given, directions=1)
    if not call.get("return_state"):
        call.returns(_steps(call, called[0]))
        return
    both = call.step(called, like=given)
    states = [both[1][0][0], both[1][1][0]] if call.node.kind.endswith("LSTM") else [both[1][0]]
    call.returns((_steps(call, both[0]), *states))


def _steps(call: Call, sequence: Operation) -> Operation:
    """Return the expression for the sequence that a torch layer returns, or its last step if return_sequences=False."""
    return sequence if call.get("return_sequences") else sequence[:, -1]


@handles("keras.layers.Bidirectional")
def _bidirectional(call: Call) -> None:
    inner = call.get("layer")["config"]
    given = _sequence(call, inner)
    mode = call.get("merge_mode", "concat")
    layer = call.builder.rule_module(call, "torch.nn.", merge_mode="concat")
    called = _called(call, layer, given, directions=2)
    if inner.get("return_state"):
        raise call.refuse(
            "return_state=True of a layer in a Bidirectional is not supported: the torch layer returns only the outputs"
        )
    if mode == "concat" and inner.get("return_sequences"):
        call.returns(called[0])
        return
    both = call.step(called[0], like=given)
    units, steps = int(inner["units"]), (ALL, ALL) if inner.get("return_sequences") else (-1, 0)
    forward, backward = both[:, steps[0], :units], both[:, steps[1], units:]
    if mode == "concat":
        comment = "The last time step of each direction: the backward one ends at the first."
        call.returns(torch.cat([forward, backward], dim=-1), comment=comment)
    elif mode is None:
        call.returns((forward, backward))
    else:
        call.returns(_merged(mode, forward, backward))


def _merged(mode: str, forward: Operation, backward: Operation) -> Operation:
    if mode == "mul":
        return forward * backward
    return forward + backward if mode == "sum" else (forward + backward) / 2


def masked(call: Call) -> None:
    """Convert a recurrent layer to keras3conv's torch layer `Recurrent`, which skips the time steps that are masked."""
    if call.get("stateful"):
        raise call.refuse(NO_STATE)
    layer = call.builder.rule_module(call, f"{OWN_LAYERS}.Recurrent")
    sequences, mask = call["sequences"], call.get("mask")
    given = [call.keras_order(sequences), None if mask is None else call.keras_order(mask)]
    others = {sequences.name} | (set() if mask is None else {mask.name})
    initial = tuple(value for value in call.tensors if value.name not in others)
    arguments = [*given, initial] if initial else given if mask is not None else given[:1]
    call.returns(layer(*arguments))


def _sequence(call: Call, config: Mapping[str, Any]) -> Value:
    """Return the input sequence of a recurrent layer with the configuration `config`, batch first.

    Raises:
        RuleError: The layer has a mask or is `stateful`, which torch's layers do not support.
    """
    if call.get("mask") is not None:
        raise call.refuse("a mask is not supported for this layer: the torch layer runs over every time step")
    if config.get("stateful"):
        raise call.refuse(NO_STATE)
    return call.keras_order(call["sequences"])


def _called(call: Call, layer: Submodule, tensor: Value, directions: int) -> Operation:
    """Return the expression that calls a torch recurrent layer, with the initial states if the Keras call has them.

    Args:
        call: The call of the Keras layer.
        layer: The torch layer.
        tensor: The input sequence.
        directions: 2 for a Bidirectional, else 1.
    """
    states = [value for value in call.tensors if value.name != call["sequences"].name]
    if not states:
        return layer(tensor)
    if directions > 1:
        raise call.refuse(
            "a Bidirectional layer that is called with initial states is not supported: call it without initial_state"
        )
    initial = tuple(state[None] for state in states)
    return layer(tensor, initial[0] if len(initial) == 1 else initial)
