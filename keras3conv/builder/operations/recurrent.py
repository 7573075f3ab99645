"""Recurrent layers: torch returns the whole sequence and the last states, Keras what it was asked for."""

from collections.abc import Mapping
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Value
from keras3conv.errors import RuleError

_MERGES = {"sum": "{0} + {1}", "mul": "{0} * {1}", "ave": "({0} + {1}) / 2"}


@handles("keras.layers.LSTM", "keras.layers.GRU", "keras.layers.SimpleRNN")
def _recurrent(call: Call) -> None:
    if call.get("mask") is not None:
        masked(call)
        return
    try:
        name = call.rule_module("torch.nn.")
    except RuleError:
        call.by_rule()  # a layer of our own, which returns what Keras returns
        return
    given = _sequence(call, call.node.config)
    steps = "" if call.get("return_sequences") else "[:, -1]"
    template, inputs = _called(call, given, directions=1)
    if not call.get("return_state"):
        call.returns(f"{template}[0]{steps}", inputs, module=name)
        return
    both = call.step(template, inputs, module=name)
    states = ("[1][0][0]", "[1][1][0]") if call.node.kind.endswith("LSTM") else ("[1][0]",)
    call.returns(", ".join(f"{{0}}{part}" for part in (f"[0]{steps}", *states)), [both])


@handles("keras.layers.Bidirectional")
def _bidirectional(call: Call) -> None:
    inner = call.get("layer")["config"]
    given = _sequence(call, inner)
    mode = call.get("merge_mode", "concat")
    name = call.rule_module("torch.nn.", merge_mode="concat")
    template, inputs = _called(call, given, directions=2)
    if inner.get("return_state"):
        raise call.refuse("return_state=True is not supported")
    if mode == "concat" and inner.get("return_sequences"):
        call.returns(f"{template}[0]", inputs, module=name)
        return
    both = call.step(f"{template}[0]", inputs, module=name)
    units = int(inner["units"])
    steps = (":", ":") if inner.get("return_sequences") else ("-1", "0")
    parts = [f"{{0}}[:, {steps[0]}, :{units}]", f"{{0}}[:, {steps[1]}, {units}:]"]
    if mode == "concat":
        comment = "The last step of each direction: the backward one ends at the first."
        call.returns(f"torch.cat([{', '.join(parts)}], dim=-1)", [both], comment=comment)
    elif mode is None:
        call.returns(", ".join(parts), [both])
    else:
        call.returns(_MERGES[mode].format(*parts), [both])


def masked(call: Call) -> None:
    """Write a recurrent layer with a mask: a module of our own leaves out the steps that torch's would run over."""
    if call.get("initial_state") is not None:
        raise call.refuse("an initial state beside a mask is not supported")
    if call.get("stateful"):
        raise call.refuse("stateful=True is not supported: torch's layer keeps nothing between calls")
    given = [call.keras_order(call["sequences"]), call.keras_order(call["mask"])]
    call.returns("{module}({0}, {1})", given, module=call.rule_module(f"{OWN_LAYERS}.Recurrent"))


def _sequence(call: Call, config: Mapping[str, Any]) -> Value:
    """What a recurrent layer runs along, batch first; what torch cannot do is refused."""
    if call.get("mask") is not None:
        raise call.refuse("a mask is not supported: torch's layer runs over every step")
    if config.get("stateful"):
        raise call.refuse("stateful=True is not supported: torch's layer keeps nothing between calls")
    return call.keras_order(call["sequences"])


def _called(call: Call, given: Value, directions: int) -> tuple[str, list[Value]]:
    """How the module is called, with the states that it begins with, if there are any."""
    states = [value for value in call.tensors if value.name != call["sequences"].name]
    if not states:
        return "{module}({0})", [given]
    if directions > 1:
        raise call.refuse("initial states in both directions are not supported")
    begun = ", ".join(f"{{{place}}}[None]" for place in range(1, len(states) + 1))
    return f"{{module}}({{0}}, {begun if len(states) == 1 else f'({begun})'})", [given, *states]
