"""Compute from a rule how the tensors of a torch layer become the variables of a Keras layer (the weight mappings)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from keras3conv.errors import ModelError, RuleError
from keras3conv.model.views import LayerView
from keras3conv.rules.constants import passing_variable
from keras3conv.rules.library import lookup
from keras3conv.rules.neutral import filled
from keras3conv.rules.registry import is_users_own
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.rules.stored import weights_without_settings
from keras3conv.transforms import Shape


def rules_for_torch(layer: LayerView) -> Sequence[Rule]:
    """Return the rules for the class of a torch layer; every rule if the class is unknown.

    Rules of a parent class are left out if the class itself has rules: a subclass of LayerNorm that adds one to its
    scale does not compute the same as a LayerNorm.
    """
    found = tuple(lookup(layer.kinds, ()))
    return tuple(rule for rule in found if rule.torch == found[0].torch) if layer.kinds else found


def may_apply(rule: Rule, layer: LayerView) -> bool:
    """Return False if the configuration of a torch layer shows that a rule for its class does not apply to it.

    A layer from a weight file has no configuration. Then the result is True, except for a rule with a `variant`: only
    the configuration shows which of several rules for the same two classes applies.
    """
    return not rule.variant if layer.config is None else rule.applies(rule.config_of(layer))


def keras_layers_of(rule: Rule, config: Config) -> LayerSpecs:
    """Return the Keras layers that a rule makes from the configuration of a torch layer.

    Raises:
        RuleError: The rule reads an argument that the configuration lacks.
    """
    try:
        return rule.to_keras(config)
    except KeyError as error:
        known = ", ".join(name for name in config if name != "inputs") or "nothing"
        raise RuleError(
            f"the rule {rule.name} reads config[{error.args[0]!r}], but the configuration of the module has "
            f"{known}: store it in the module's __init__ (self.{error.args[0]} = ...)"
        ) from error


def torch_layers_of(rule: Rule, spec: LayerSpec) -> LayerSpecs:
    """Return the torch layers that a rule makes from a Keras layer.

    Raises:
        ModelError: The rule reads an argument or the shape of a variable that the Keras layer lacks.
    """
    try:
        return rule.to_torch((spec,))
    except KeyError as error:
        known = ", ".join(spec.config) or "nothing"
        raise ModelError(
            f"the rule {rule.name} needs {error.args[0]!r}, but the configuration of the Keras layer has {known}, and "
            f"its variables are {', '.join(spec.shapes) or 'none'}"
            f"; add {error.args[0]!r} to the dict that get_config returns"
        ) from error


def full_paths(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[WeightMapping]:
    """Yield a rule's mappings for two layers, with paths such as "fc/kernel"; nothing if the rule does not fit them."""
    yield from with_paths(mappings_of(rule, torch, keras) or (), rule, torch, keras)


def with_paths(
    mappings: Iterable[WeightMapping], rule: Rule, torch: LayerView, keras: LayerView
) -> Iterator[WeightMapping]:
    """Yield a rule's weight mappings with each name in a layer ("kernel") replaced by the path ("fc/kernel").

    Args:
        mappings: The mappings, with the tensors' names in their layers.
        rule: The rule that they come from.
        torch: The torch layer.
        keras: The Keras layer.
    """
    torch_paths = {tensor.role: tensor.path for tensor in torch.tensors}
    keras_paths = {rule.aliases.get(tensor.role, tensor.role): tensor.path for tensor in keras.tensors}
    for mapping in mappings:
        torch_names = tuple(torch_paths.get(role, f"{torch.path}.{role}") for role in mapping.torch)
        keras_names = tuple(keras_paths.get(role, f"{keras.path}/{role}") for role in mapping.keras)
        yield replace(mapping, torch=torch_names, keras=keras_names)


def mappings_of(rule: Rule, torch: LayerView | None, keras: LayerView) -> tuple[WeightMapping, ...] | None:
    """Return the weight mappings of a rule for two layers; tensors have their names in the layer, such as "kernel".

    A mapping is left out if neither layer has its tensors. A tensor that only one layer has is mapped to its neutral
    value (0 for a bias, 1 for a scale), if it has one.

    Args:
        rule: The rule.
        torch: The torch layer; None in a conversion from Keras, which creates it later.
        keras: The Keras layer.

    Returns:
        The mappings; None if the rule cannot be applied to the Keras layer.
    """
    shapes = keras_shapes(rule, keras)
    config = torch_config(rule, torch, keras)
    found = _without_settings(rule, keras) if config is None else rule.weights(config)
    if found is None:
        return None
    torch_shapes = torch.shapes if torch else {}
    mappings = [
        mapping
        for mapping in found
        if shapes.keys() & set(mapping.keras)
        or torch_shapes.keys() & set(mapping.torch)
        or (torch is None and not mapping.keras)  # the torch layer has this tensor, the Keras layer has none
    ]
    return tuple(mappings if torch is None else filled(rule, mappings, torch_shapes, shapes))


def _without_settings(rule: Rule, keras: LayerView) -> tuple[WeightMapping, ...] | None:
    """Return the mappings of a user's rule for a Keras layer in a weight file, which stores no constructor arguments.

    Return None if the rule is not the user's or not for this class, if the arguments are known, or if the mappings need
    them.
    """
    is_for_it = is_users_own(rule) and rule.keras in keras.kinds and keras.config is None
    return weights_without_settings(rule) if is_for_it else None


def torch_config(rule: Rule, torch: LayerView | None, keras: LayerView) -> Config | None:
    """Return the configuration of a torch layer as rules read it, or the one that a rule derives from the Keras layer.

    Three entries are added: the Keras layer under "keras", the torch layer's input shapes under "inputs", and under
    "flattened" the shape of the tensor that is flattened before the layer.

    Args:
        rule: The rule of the two layers.
        torch: The torch layer; None in a conversion from Keras, which creates it later.
        keras: The Keras layer.

    Returns:
        The arguments by name; None if the configuration is unknown and the rule cannot be applied to the Keras layer.
    """
    # A rule may also need the Keras counterpart and the input of the layer.
    beyond: dict[str, Any] = {"keras": keras_spec(rule, keras)}
    if torch is not None:
        beyond |= {"flattened": _flattened(torch, keras), "inputs": torch.run.inputs}
    if torch is not None and torch.config is not None:
        return {**rule.config_of(torch), **beyond}
    try:
        specs = rule.to_torch(keras_specs(rule, keras))
    except (RuleError, ValueError, LookupError, TypeError, StopIteration):
        return None  # the rule cannot be applied to the Keras layer
    owners = [spec.config for spec in specs if spec.kind == rule.torch]
    if rule.torch_count != 1:
        return {str(number): config for number, config in enumerate(owners)} | beyond
    return {**(owners[0] if owners else specs[-1].config), **beyond}


def keras_spec(rule: Rule, keras: LayerView) -> LayerSpec:
    """Return the `LayerSpec` of a Keras layer: its class, its arguments, and the shapes of its variables and inputs."""
    shapes, inputs = keras_shapes(rule, keras), keras.run.inputs or ()
    return LayerSpec(kind=keras.kind, config=keras.config or {}, shapes=shapes, inputs=inputs)


def keras_specs(rule: Rule, keras: LayerView) -> LayerSpecs:
    """Return, in a tuple, the `LayerSpec` of a Keras layer; if `keras` combines several layers, one for each.

    Layers of a weight file have no configuration. Then the variables' names ("0/kernel") show how many there are.
    """
    whole = keras_spec(rule, keras)
    if rule.keras_count == 1:
        return (whole,)
    numbers = keras.config or dict.fromkeys(role.partition("/")[0] for role in whole.shapes)
    specs = []
    for number in numbers:
        prefix = f"{number}/"
        own = {role.removeprefix(prefix): shape for role, shape in whole.shapes.items() if role.startswith(prefix)}
        config = (keras.config or {}).get(number, {})
        specs.append(LayerSpec(kind=rule.keras, config=config, shapes=own, inputs=whole.inputs))
    return tuple(specs)


def _flattened(torch: LayerView, keras: LayerView) -> Shape | None:
    """Return the shape of the tensor that is flattened to the input of two paired layers, in torch's axis order.

    Return None if nothing is flattened, or if the shape is unknown. If only one of the models was run, the other is
    assumed to flatten the same tensor: otherwise the models would differ.

    Args:
        torch: The torch layer, such as a Linear.
        keras: The Keras layer that it is paired with.
    """
    given = torch.run.flattened
    if given and keras.run.flattened == given and given != (*given[1:], given[0]):
        return None  # both sides flatten the axes in the same order: torch has channels last too
    if torch.run.flattened and (keras.run.flattened is not None or keras.run.calls is None):
        return torch.run.flattened
    if torch.run.calls is None and keras.run.flattened:
        return (keras.run.flattened[-1], *keras.run.flattened[:-1])
    return None


def keras_shapes(rule: Rule, layer: LayerView) -> dict[str, Shape]:
    """Return the shapes of a Keras layer's variables, by the names that the rule has for them ("kernel").

    Variables that need no counterpart in torch are left out.
    """
    return {
        rule.aliases.get(tensor.role, tensor.role): tensor.shape
        for tensor in layer.tensors
        if not tensor.is_seed and not passing_variable(tensor.role, layer.kinds)
    }
