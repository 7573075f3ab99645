"""Group the layers that fit each other: a rule knows both classes, and the shapes agree after its transforms.

The key of a layer is the rule's torch class with the shapes that its tensors have in torch. All layers with one key
form a group, in which every torch layer fits every Keras layer. A dictionary finds the groups, so the time grows with
the number of layers and not with its square.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras3conv.alignment.pair import Ignored, Pair
from keras3conv.model.paths import separator
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.planner.evidence.keys import Key, Keys, keras_keys, torch_keys
from keras3conv.rules.applying import rules_for_torch
from keras3conv.rules.constants import constant_buffer
from keras3conv.rules.library import find
from keras3conv.rules.rule import Rule
from keras3conv.rules.units import units, without_parts


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    """The layers of both models that are not paired yet."""

    torch_layers: tuple[LayerView, ...]
    keras_layers: tuple[LayerView, ...]

    def without(self, pairs: Iterable[Pair]) -> "Unmatched":
        """Return the layers that remain unpaired after these pairs are made."""
        pairs = tuple(pairs)
        torch = {path for pair in pairs for path in pair.torch_layers}
        keras = {path for pair in pairs for path in pair.keras_layers}
        placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
        return Unmatched(
            torch_layers=_untouched(_left(self.torch_layers, torch, "torch"), placed),
            keras_layers=_untouched(_left(self.keras_layers, keras, "keras"), placed),
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of layers in which every torch layer fits every Keras layer.

    Attributes:
        torch_layers: The torch layers.
        keras_layers: The Keras layers; they may be of several classes (Dense and EinsumDense).
        rules: For each layer (side and path), the names of the rules by which it fits the layers of the other side.
    """

    torch_layers: tuple[LayerView, ...]
    keras_layers: tuple[LayerView, ...]
    rules: Mapping[tuple[Side, str], Sequence[str]]

    def rule_for(self, torch: LayerView, keras: LayerView) -> Rule | None:
        """Return the first rule by which a torch layer and a Keras layer of this group can be paired.

        Returns:
            The rule; None if the configurations of the layers exclude every rule.
        """
        common = set(self.rules["torch", torch.path])
        return next((find(name) for name in self.rules["keras", keras.path] if name in common), None)


def fitting(unmatched: Unmatched) -> Iterator[Group]:
    """Yield the groups of layers that fit by class and by tensor shapes, in the order of the torch layers.

    A layer may have several keys (class with shapes), because a weight file does not store classes. The layer joins the
    group of its first key that a layer of the other side has, too.

    Args:
        unmatched: The layers that are in no pair yet.
    """
    yield from _groups(unmatched, torch_keys(unmatched.torch_layers), keras_keys(unmatched.keras_layers))


def fitting_in_keras(unmatched: Unmatched) -> Iterator[Group]:
    """Yield the groups of layers that fit each other by class and by the shapes that their tensors have in Keras.

    Some rules can compute the Keras shapes from the torch shapes, but not the reverse: the shape of a Keras kernel does
    not show into how many groups the channels of a convolution are divided, or how large a patch of an image is.
    """
    torch = torch_keys(unmatched.torch_layers, in_keras=True)
    yield from _groups(unmatched, torch, keras_keys(unmatched.keras_layers, in_keras=True))


def _groups(unmatched: Unmatched, torch: Mapping[str, Keys], keras: Mapping[str, Keys]) -> Iterator[Group]:
    shared = _all_keys(torch) & _all_keys(keras)
    torch_layers = _outermost(unmatched.torch_layers, torch, shared, "torch")
    keras_layers = _outermost(unmatched.keras_layers, keras, shared, "keras")
    torch_groups = _grouped(torch_layers, torch, shared)
    keras_groups = _grouped(keras_layers, keras, shared)
    for key, layers in torch_groups.items():
        if key in keras_groups:
            named: dict[tuple[Side, str], Sequence[str]] = {}
            named |= {("torch", layer.path): torch[layer.path][key] for layer in layers}
            named |= {("keras", layer.path): keras[layer.path][key] for layer in keras_groups[key]}
            yield Group(torch_layers=tuple(layers), keras_layers=tuple(keras_groups[key]), rules=named)


def ignored_tensors(torch: ModelView, pairs: Mapping[str, Pair]) -> Iterator[Ignored]:
    """Yield the torch tensors that need no Keras counterpart, each with the reason.

    They are the tensors that the layer's rule ignores, and buffers whose values follow from the sizes of the model and
    are never trained, such as position ids and causal masks.

    Args:
        torch: The view of the torch model.
        pairs: The pairs of the plan, by the path of each torch layer.
    """
    placed = {path for pair in pairs.values() for mapping in pair.weights for path in mapping.torch}
    reasons: dict[str, str] = {}
    for layer in units(torch):
        pair = pairs.get(layer.path)
        declared = find(pair.rule).ignored if pair else _ignored_roles(layer)
        for tensor in layer.tensors:
            name = tensor.role.rpartition(".")[2]
            constant = "" if tensor.trainable else constant_buffer(name, tensor.dtype)
            reason = declared.get(tensor.role, "") or constant
            if reason and tensor.path not in placed:
                reasons.setdefault(tensor.path, reason)
    for path, reason in reasons.items():
        yield Ignored(side="torch", path=path, reason=reason)


def _ignored_roles(layer: LayerView) -> dict[str, str]:
    """Return the tensors that the rules for a layer's class ignore, as a dict from tensor name to reason.

    If the class of the layer is unknown, because it is from a weight file, the rules for all classes count.
    """
    return {role: reason for rule in rules_for_torch(layer) for role, reason in rule.ignored.items()}


def _left(layers: tuple[LayerView, ...], paired: set[str], side: Side) -> tuple[LayerView, ...]:
    """Return the layers that are not paired, not inside a paired layer, and contain no paired layer."""
    between = separator(side)
    outer = {path.rpartition(between)[0] for path in paired}
    wholes = [layer for layer in layers if layer.path in paired]
    free = without_parts(layers, wholes, side)
    return tuple(layer for layer in free if layer.path not in paired and (not layer.path or layer.path not in outer))


def _untouched(layers: tuple[LayerView, ...], placed: set[str]) -> tuple[LayerView, ...]:
    """Return the layers none of whose tensors is in a pair."""
    return tuple(layer for layer in layers if placed.isdisjoint(tensor.path for tensor in layer.tensors))


def _outermost(
    layers: tuple[LayerView, ...], keys: Mapping[str, Keys], shared: set[Key], side: Side
) -> tuple[LayerView, ...]:
    """Return the layers that have a shared key (class and shapes), without those inside another layer that has one.

    Args:
        layers: Layers of one model.
        keys: The keys of each layer, by its path.
        shared: The keys that both sides have.
        side: The side of the layers: "torch" or "keras".
    """
    fit = [layer for layer in layers if shared.intersection(keys[layer.path])]
    return tuple(without_parts(fit, fit, side))


def _all_keys(keys: Mapping[str, Keys]) -> set[Key]:
    return {key for entry in keys.values() for key in entry}


def _grouped(layers: Iterable[LayerView], keys: Mapping[str, Keys], shared: set[Key]) -> dict[Key, list[LayerView]]:
    groups: dict[Key, list[LayerView]] = {}
    for layer in layers:
        key = next((key for key in keys[layer.path] if key in shared), None)
        if key is not None:
            groups.setdefault(key, []).append(layer)
    return groups
