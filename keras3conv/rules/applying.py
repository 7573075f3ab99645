"""Which tensors of two layers a rule pairs, and what it must know about both for that."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import Config, LayerSpec, Rule, WeightMapping
from keras3conv.transforms import Shape


def rules_for_torch(layer: LayerView) -> Sequence[Rule]:
    """The rules for the class of a torch layer; every rule where it is not known.

    A class that has rules of its own is not what its parent is: a LayerNorm that adds one to its scale is no LayerNorm.
    """
    found = tuple(lookup(layer.kinds, ()))
    return tuple(rule for rule in found if rule.torch == found[0].torch) if layer.kinds else found


def may_apply(rule: Rule, layer: LayerView) -> bool:
    """Whether a rule is for this layer's configuration; a file does not tell, so then it may be, but for a variant."""
    return not rule.variant if layer.config is None else rule.applies(rule.config_of(layer))


def full_paths(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[WeightMapping]:
    """The mappings of a rule for two layers, with the paths of their tensors."""
    yield from with_paths(mappings_of(rule, torch, keras) or (), rule, torch, keras)


def with_paths(
    mappings: Iterable[WeightMapping], rule: Rule, torch: LayerView, keras: LayerView
) -> Iterator[WeightMapping]:
    """A rule's mappings of two layers, by role, with the paths of their tensors."""
    torch_paths = {tensor.role: tensor.path for tensor in torch.tensors}
    keras_paths = {rule.aliases.get(tensor.role, tensor.role): tensor.path for tensor in keras.tensors}
    for mapping in mappings:
        torch_names = tuple(torch_paths.get(role, f"{torch.path}.{role}") for role in mapping.torch)
        keras_names = tuple(keras_paths.get(role, f"{keras.path}/{role}") for role in mapping.keras)
        yield replace(mapping, torch=torch_names, keras=keras_names)


def mappings_of(rule: Rule, torch: LayerView | None, keras: LayerView) -> tuple[WeightMapping, ...] | None:
    """The rule's mappings of which a tensor exists; None where the Keras layer cannot be one of the rule's."""
    shapes = keras_shapes(rule, keras)
    config = torch_config(rule, torch, keras)
    if config is None:
        return None
    present = set(shapes), set(torch.shapes) if torch else set()
    return tuple(
        mapping
        for mapping in rule.weights(config)
        if present[0].intersection(mapping.keras)
        or present[1].intersection(mapping.torch)
        or (torch is None and not mapping.keras)  # what Keras does without stands in the torch layer all the same
    )


def torch_config(rule: Rule, torch: LayerView | None, keras: LayerView) -> Config | None:
    """The torch layer's configuration, or where only the Keras layer is known, the one that it comes from."""
    spec = keras_spec(rule, keras)
    # What a rule may need beyond the torch layer's own configuration: its counterpart, its input.
    beyond: dict[str, Any] = {"keras": spec}
    if torch is not None:
        beyond |= {"flattened": _flattened(torch, keras), "inputs": torch.inputs}
    if torch is not None and torch.config is not None:
        return {**rule.config_of(torch), **beyond}
    try:
        made = rule.to_torch((spec,))
        owner = next((part for part in made if part.kind == rule.torch), made[-1])
        return {**owner.config, **beyond}
    except (RuleError, ValueError, LookupError, TypeError, StopIteration):
        return None  # not a layer of this rule


def keras_spec(rule: Rule, keras: LayerView) -> LayerSpec:
    """A Keras layer as a rule reads it."""
    shapes, inputs = keras_shapes(rule, keras), keras.inputs or ()
    return LayerSpec(kind=keras.kind, config=keras.config or {}, shapes=shapes, inputs=inputs)


def _flattened(torch: LayerView, keras: LayerView) -> Shape | None:
    """The shape in torch's order of what both sides flatten before this layer; None if they do not, or it is unknown.

    Where the Keras side could not be looked at, it flattens what torch does: else the models would not be the same.
    """
    if torch.flattened and (keras.flattened is not None or keras.calls is None):
        return torch.flattened
    if torch.calls is None and keras.flattened:
        return (keras.flattened[-1], *keras.flattened[:-1])
    return None


def keras_shapes(rule: Rule, layer: LayerView) -> dict[str, Shape]:
    """The shapes of the tensors of a Keras layer, by the names that the rule has for them."""
    return {rule.aliases.get(tensor.role, tensor.role): tensor.shape for tensor in layer.tensors if not tensor.is_seed}
