"""Name the variables of the user's own layers in a Keras 3 file, which numbers them, from the rules for their classes.

A rule lists its mappings in the order in which the Keras layer creates its variables, which is the order in the file.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from keras3conv.formats.keras.names import snake_case
from keras3conv.model.views import LayerView, ModelView
from keras3conv.rules.registry import users_rules
from keras3conv.rules.rule import Rule
from keras3conv.rules.stored import names_in_order


def named_by_rules(view: ModelView) -> ModelView:
    """Return the view of a Keras file with names for the variables that a rule of the user names.

    The paths stay: the variable with the path "gate/0" gets the name "kernel" in its layer. A layer keeps its numbers
    if no rule of the user is for its class, or if the rule names another number of variables.
    """
    rules = [rule for rule in users_rules() if rule.torch_count == rule.keras_count == 1]
    return replace(view, layers=tuple(_named(layer, rules) for layer in view.layers)) if rules else view


def _named(layer: LayerView, rules: Sequence[Rule]) -> LayerView:
    """Return a layer with the class and tensor names that a rule has for it; unchanged if its tensors have names."""
    if not layer.tensors or not all(tensor.role.isdecimal() for tensor in layer.tensors):
        return layer
    fitting = [rule for rule in rules if (rule.keras in layer.kinds if layer.kinds else _is_group_of(rule, layer))]
    if not fitting or len({rule.keras for rule in fitting} - {*layer.kinds}) > 1:
        return layer
    known = replace(layer, kinds=layer.kinds or (fitting[0].keras,))
    found = {names for rule in fitting for names in names_in_order(rule) if len(names) == len(layer.tensors)}
    if len(found) != 1:
        return known
    (names,) = found
    tensors = (replace(tensor, role=name) for tensor, name in zip(layer.tensors, names, strict=True))
    return replace(known, tensors=tuple(tensors))


def _is_group_of(rule: Rule, layer: LayerView) -> bool:
    """Return whether the group of a layer in a file has the name that Keras makes from the class of a rule.

    For example, the class MyGate has groups such as "layers/my_gate_1". Only groups in a list of layers have such
    names; other groups are named after attributes.

    Args:
        rule: A rule of the user.
        layer: A layer of a file that stores no classes.
    """
    group = layer.tensors[0].location.partition("/vars/")[0]
    name = snake_case(rule.keras.rpartition(".")[2])
    return re.fullmatch(rf"(.*/)?layers/{re.escape(name)}(_\d+)?", group) is not None
