"""Convert a torch module by a user-defined rule, to the Keras layers that the rule names."""

from collections.abc import Collection
from typing import Any

from keras3conv.builder.program.program import Order, identity
from keras3conv.builder.to_keras.call import HANDLERS, Call, LayerCall, Result
from keras3conv.builder.to_keras.forms import Held
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.errors import RuleError
from keras3conv.rules.library import lookup
from keras3conv.rules.misnamed import does_not_apply
from keras3conv.rules.registry import is_users_own
from keras3conv.rules.rule import Rule


def _module(call: Call) -> Result:
    """Convert a call of a torch module for whose class the user has a rule; the graph has one operator for the call."""
    kinds, config, inputs = (call.arguments[name] for name in ("kinds", "config", "inputs"))
    rule = next((rule for rule in lookup(tuple(kinds), ()) if is_users_own(rule) and rule.applies(config)), None)
    if rule is None:  # the module cannot be captured, which is a problem already
        return [call.writer.new(one.shape, identity(len(one.shape)), one.dtype) for one in call.node.outputs]
    if len(inputs) != 1 or len(call.node.outputs) != 1:
        raise RuleError(f"a layer of the rule {rule.name} is supported only with one input and one output")
    value = call.writer.value(inputs[0])
    tensors: dict[str, Any] = call.arguments["tensors"]
    held = {role: one for role, one in tensors.items() if isinstance(one, Held)}
    _require_named(rule, call.node.path, config, held)
    layer = LayerCall(
        kind=rule.torch,
        keras=(rule.keras,),
        config={name: config[name] for name in (*rule.fields, *held) if name in config},
        tensors=held,
        order=_order(rule, config, value.rank),
        rule=rule,
    )
    return [call.writer.by_rule(layer, value, call.node.outputs[0])]


def _require_named(rule: Rule, path: str, config: Any, held: Collection[str]) -> None:
    """Raise `RuleError` if a rule names attributes or tensors that the module does not have.

    Args:
        rule: The rule of the user.
        path: The path of the module.
        config: The attributes of the module, by name.
        held: The names of its tensors.
    """
    name = rule.torch.rpartition(".")[2]
    if unknown := [field for field in rule.fields if field not in config]:
        known = ", ".join(one for one in config if one not in held) or "no settings"
        raise RuleError(
            f"fields of the rule {rule.name} names {', '.join(unknown)}, but {name} stores {known}: correct fields, or "
            f"store it in the module's __init__ (self.{unknown[0]} = ...)"
        )
    try:
        named = [role for mapping in rule.weights({key: config[key] for key in rule.fields}) for role in mapping.torch]
    except LookupError:
        return  # the mappings depend on the Keras layer, too
    if set(named) - set(held) and set(held) - set(named) - rule.ignored.keys():
        raise RuleError(does_not_apply(rule, path, held, named))


def _order(rule: Rule, config: Any, rank: int) -> Order:
    layout = rule.layout_for(config)
    if layout == "time":
        raise RuleError(
            f"{rule.torch} takes the time axis before the batch axis, which is not supported here; use batch_first=True"
        )
    return channels_last(rank) if layout == "channels" else identity(rank)


HANDLERS["keras3conv.module"] = _module
