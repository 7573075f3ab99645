"""Convert a torch module by a user-defined rule, to the Keras layers that the rule names."""

from typing import Any

from keras3conv.builder.program.program import Order, identity
from keras3conv.builder.to_keras.call import HANDLERS, Call, Held, LayerCall, Result
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.errors import RuleError
from keras3conv.rules.library import lookup
from keras3conv.rules.registry import is_users_own
from keras3conv.rules.rule import Rule


def _module(call: Call) -> Result:
    """Convert a torch module of a class for which the user has registered a rule; in the graph it is one operator."""
    kinds, config, inputs = (call.arguments[name] for name in ("kinds", "config", "inputs"))
    rule = next((rule for rule in lookup(tuple(kinds), ()) if is_users_own(rule) and rule.applies(config)), None)
    if rule is None:  # the module cannot be captured, which is a problem already
        return [call.writer.new(one.shape, identity(len(one.shape)), one.dtype) for one in call.node.outputs]
    if len(inputs) != 1 or len(call.node.outputs) != 1:
        raise RuleError(f"a layer of the rule {rule.name} is supported only with one input and one output")
    value = call.writer.value(inputs[0])
    tensors: dict[str, Any] = call.arguments["tensors"]
    held = {role: one for role, one in tensors.items() if isinstance(one, Held)}
    layer = LayerCall(
        kind=rule.torch,
        keras=(rule.keras,),
        config={name: config[name] for name in (*rule.fields, *held) if name in config},
        tensors=held,
        order=_order(rule, config, value.rank),
        rule=rule,
    )
    return [call.writer.by_rule(layer, value, call.node.outputs[0])]


def _order(rule: Rule, config: Any, rank: int) -> Order:
    layout = rule.layout_for(config)
    if layout == "time":
        raise RuleError(
            f"{rule.torch} takes the time axis before the batch axis, which is not supported here; use batch_first=True"
        )
    return channels_last(rank) if layout == "channels" else identity(rank)


HANDLERS["keras3conv.module"] = _module
