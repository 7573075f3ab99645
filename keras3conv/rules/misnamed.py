"""Report a rule of the user that maps no weights, because it names tensors that the layers of its class do not have."""

from collections.abc import Iterable, Iterator

from keras3conv.errors import RuleError
from keras3conv.messages import count
from keras3conv.model.views import LayerView, Side
from keras3conv.rules.applying import torch_config
from keras3conv.rules.library import lookup
from keras3conv.rules.registry import is_users_own
from keras3conv.rules.rule import Rule
from keras3conv.rules.stored import names_in_order, weights_without_settings


def misnamed(side: Side, layer: LayerView) -> str:
    """Return a sentence that a user's rule for a layer's class names tensors which the layer does not have.

    The result is empty if there is no such rule. A rule may name a tensor that a layer lacks, such as the bias of a
    layer without one. So the sentence is returned only if the layer also has tensors that the rule does not name.
    """
    roles = [tensor.role for tensor in layer.tensors if not tensor.is_seed]
    if not layer.kinds:
        return ""  # the class is unknown
    found = lookup(layer.kinds, ()) if side == "torch" else lookup((), layer.kinds)
    for rule in found:
        if is_users_own(rule) and rule.torch_count == rule.keras_count == 1:
            if any(role.isdecimal() for role in roles):
                return _other_number(rule, layer)
            if side == "keras" and layer.config is None and weights_without_settings(rule) is None:
                return (
                    f"the rule {rule.name} does not apply: it reads settings of the layer, which a file of weights "
                    "does not have; give the .keras file or the model"
                )
            named = tuple(_named(rule, side, layer))
            own = [rule.aliases.get(role, role) for role in roles]
            if set(named) - set(own) and set(own) - set(named) - rule.ignored.keys():
                return does_not_apply(rule, layer.path, own, named)
    return ""


def _other_number(rule: Rule, layer: LayerView) -> str:
    """Return an error sentence: a layer in a file has another number of variables than a user's rule names.

    If the layer has fewer, the rule may list the mapping of an optional tensor for every example.
    """
    found = names_in_order(rule)
    named = " or ".join(", ".join(names) for names in found)
    has = count(len(layer.tensors), "variable")
    fact = f"{layer.path} has {has} in the file; the examples of the rule give {named}"
    if len(layer.tensors) < min(map(len, found), default=0):
        fact += "; for an example without an optional tensor, such as a bias, weights must leave its mapping out"
    return f"the rule {rule.name} does not apply: {fact}"


def does_not_apply(rule: Rule, where: str, roles: Iterable[str], named: Iterable[str]) -> str:
    """Return the sentence of an error message that a layer does not have the tensors which a rule names.

    Args:
        rule: The rule.
        where: The path of the layer; may be empty.
        roles: The names of the layer's tensors.
        named: The names that the rule has for the tensors.
    """
    has, names = (", ".join(dict.fromkeys(one)) or "no tensors" for one in (roles, named))
    return f"the rule {rule.name} does not apply: {where or 'the layer'} has {has}; the rule names {names}"


def _named(rule: Rule, side: Side, layer: LayerView) -> Iterator[str]:
    """Yield the names that a rule has for the tensors of a layer; nothing if they depend on the paired layer too."""
    try:
        config = rule.config_of(layer) if side == "torch" else torch_config(rule, None, layer)
        mappings = () if config is None else rule.weights(config)
    except (RuleError, ValueError, LookupError, TypeError):
        return  # the rule computes its mappings from the other layer too
    for mapping in mappings:
        yield from mapping.names(side)
