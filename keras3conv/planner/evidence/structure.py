"""Evidence of structure: a rule exists for the two classes, and the shapes fit after its transforms.

Layers are sorted into groups by what they would be on the torch side: the rule's torch class with the shapes of its
tensors. Within a group every torch layer fits every Keras layer. Groups are found by a dictionary, so the work grows
with the number of layers, not with its square.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras3conv.alignment.pair import Ignored, Pair
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.planner.evidence.keys import Key, Keys, keras_keys, torch_keys
from keras3conv.rules.applying import rules_for_torch
from keras3conv.rules.constants import constant_buffer
from keras3conv.rules.library import find
from keras3conv.rules.rule import Rule
from keras3conv.rules.units import separator, units, without_parts


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The layers that still look for their counterpart."""

    torch_layers: tuple[LayerView, ...]
    keras_layers: tuple[LayerView, ...]

    def without(self, pairs: Iterable[Pair]) -> "Fits":
        """The layers that are in none of these pairs."""
        made = tuple(pairs)
        torch = {path for pair in made for path in pair.torch.split(" + ")}
        keras = {path for pair in made for path in pair.keras.split(" + ")}
        placed = {path for pair in made for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
        return Fits(
            torch_layers=_untouched(_left(self.torch_layers, torch, "torch"), placed),
            keras_layers=_untouched(_left(self.keras_layers, keras, "keras"), placed),
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers of both sides, each of which fits each of the other side.

    Attributes:
        torch_layers: The torch layers.
        keras_layers: The Keras layers; they may be of several classes (Dense and EinsumDense).
        rules: For every layer, by its side and path, the names of the rules that make it fit.
    """

    torch_layers: tuple[LayerView, ...]
    keras_layers: tuple[LayerView, ...]
    rules: Mapping[tuple[Side, str], Sequence[str]]

    def rule_for(self, torch: LayerView, keras: LayerView) -> Rule | None:
        """The first rule that makes both fit; None where one is excluded by its configuration."""
        common = set(self.rules["torch", torch.path])
        return next((find(name) for name in self.rules["keras", keras.path] if name in common), None)


def fitting(fits: Fits) -> Iterator[Group]:
    """The groups of layers that fit, in the order of the torch layers.

    A layer that fits several groups (a file does not tell its classes) goes to the first that both sides share.
    """
    yield from _groups(fits, torch_keys(fits.torch_layers), keras_keys(fits.keras_layers))


def fitting_in_keras(fits: Fits) -> Iterator[Group]:
    """The groups of layers that fit where it is the torch layer that tells: what each would be on the Keras side.

    A Keras layer does not know that its kernel holds the groups of a convolution, or the pixels of a patch.
    """
    torch = torch_keys(fits.torch_layers, in_keras=True)
    yield from _groups(fits, torch, keras_keys(fits.keras_layers, in_keras=True))


def _groups(fits: Fits, torch: Mapping[str, Keys], keras: Mapping[str, Keys]) -> Iterator[Group]:
    shared = _all(torch) & _all(keras)
    torch_layers = _outermost(fits.torch_layers, torch, shared, "torch")
    keras_layers = _outermost(fits.keras_layers, keras, shared, "keras")
    torch_groups = _grouped(torch_layers, torch, shared)
    keras_groups = _grouped(keras_layers, keras, shared)
    for key, layers in torch_groups.items():
        if key in keras_groups:
            named: dict[tuple[Side, str], Sequence[str]] = {}
            named |= {("torch", layer.path): torch[layer.path][key] for layer in layers}
            named |= {("keras", layer.path): keras[layer.path][key] for layer in keras_groups[key]}
            yield Group(torch_layers=tuple(layers), keras_layers=tuple(keras_groups[key]), rules=named)


def ignored_tensors(torch: ModelView, pairs: Mapping[str, Pair]) -> Iterator[Ignored]:
    """The torch tensors that need no counterpart: by the rule of their pair, or as buffers that are constant."""
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
    """What the rules for the layer's class ignore; for a layer of unknown class, what any rule does."""
    return {role: reason for rule in rules_for_torch(layer) for role, reason in rule.ignored.items()}


def _left(layers: tuple[LayerView, ...], paired: set[str], side: Side) -> tuple[LayerView, ...]:
    """The layers that are not paired, nor part of one that is, nor have a part that is."""
    between = separator(side)
    outer = {path.rpartition(between)[0] for path in paired}
    wholes = [layer for layer in layers if layer.path in paired]
    free = without_parts(layers, wholes, side)
    return tuple(layer for layer in free if layer.path not in paired and (not layer.path or layer.path not in outer))


def _untouched(layers: tuple[LayerView, ...], placed: set[str]) -> tuple[LayerView, ...]:
    """The layers of which no tensor has a place."""
    return tuple(layer for layer in layers if placed.isdisjoint(tensor.path for tensor in layer.tensors))


def _outermost(
    layers: tuple[LayerView, ...], keys: Mapping[str, Keys], shared: set[Key], side: Side
) -> tuple[LayerView, ...]:
    """The layers that fit one of the other side, without those that are part of another that does."""
    fit = [layer for layer in layers if shared.intersection(keys[layer.path])]
    return tuple(without_parts(fit, fit, side))


def _all(keys: Mapping[str, Keys]) -> set[Key]:
    return {key for entry in keys.values() for key in entry}


def _grouped(layers: Iterable[LayerView], keys: Mapping[str, Keys], shared: set[Key]) -> dict[Key, list[LayerView]]:
    groups: dict[Key, list[LayerView]] = {}
    for layer in layers:
        key = next((key for key in keys[layer.path] if key in shared), None)
        if key is not None:
            groups.setdefault(key, []).append(layer)
    return groups
