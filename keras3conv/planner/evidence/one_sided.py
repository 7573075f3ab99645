"""Pair layers of which only one has a bias or a scale: they compute the same if the bias is 0 or the scale is 1.

Torch convolutions before a normalisation have no bias; those of some Keras models have one. A torch normalisation may
have no parameters at all. The plan writes zeros or ones into the parameter that only the target has. If only the source
has the parameter, the transfer fails unless its values are zeros or ones.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.planner.evidence.keys import (
    Key,
    OneSidedKey,
    OneSidedKeys,
    one_sided_cores,
    one_sided_keras_keys,
    one_sided_torch_keys,
)
from keras3conv.planner.evidence.structure import Group, Unmatched
from keras3conv.rules.applying import rules_for_torch
from keras3conv.rules.rule import WeightMapping
from keras3conv.rules.units import without_parts
from keras3conv.transforms import Drop, Fill, Shape

ROLE = "bias"


def bare_normalizations(view: ModelView) -> tuple[LayerView, ...]:
    """Return the torch normalisations without weights; a Keras layer with scale 1 and bias 0 can replace them."""
    return tuple(
        layer
        for layer in view.layers
        if not layer.tensors and layer.config and any("Norm" in rule.torch for rule in rules_for_torch(layer))
    )


def fitting_one_sided(unmatched: Unmatched) -> Iterator[Group]:
    """Yield groups of layers that fit each other except for a bias or a scale that only one side has.

    First the groups are yielded in which only biases are missing, then those in which scales of normalisations may be
    missing, too.

    Args:
        unmatched: The layers that are in no pair yet.
    """
    done: dict[Side, set[str]] = {"torch": set(), "keras": set()}
    for scales in (False, True):
        torch_layers = [layer for layer in unmatched.torch_layers if layer.path not in done["torch"]]
        keras_layers = [layer for layer in unmatched.keras_layers if layer.path not in done["keras"]]
        torch = one_sided_torch_keys(torch_layers, scales=scales)
        keras = one_sided_keras_keys(keras_layers, scales=scales)
        for group in _groups(torch_layers, keras_layers, torch, keras):
            done["torch"] |= {layer.path for layer in group.torch_layers}
            done["keras"] |= {layer.path for layer in group.keras_layers}
            yield group


def fitting_by_core(unmatched: Unmatched) -> Iterator[Group]:
    """Yield groups of layers to pair with each other: the same class and size, but some lack a bias or a scale.

    This is for models that were not run. Example: only in Keras the key projection of an attention has a bias. Then
    names and order decide among all four projections, not only among those with a bias. A group has as many torch
    layers as Keras layers.

    Args:
        unmatched: The layers that are in no pair yet.
    """
    torch_layers, keras_layers = unmatched.torch_layers, unmatched.keras_layers
    torch, keras = one_sided_torch_keys(torch_layers, scales=True), one_sided_keras_keys(keras_layers, scales=True)
    shapes = _neutral_shapes([*torch.values(), *keras.values()])
    differing = {core for core in one_sided_cores(torch, keras) if len(shapes[core]) == len(dict(shapes[core]))}
    by_core = _by_core(torch_layers, torch, differing, "torch"), _by_core(keras_layers, keras, differing, "keras")
    for core, layers in by_core[0].items():
        others = by_core[1].get(core, [])
        if len(layers) == len(others):
            rules: dict[tuple[Side, str], list[str]] = {}
            rules |= {("torch", layer.path): _rules_of(torch[layer.path], core) for layer in layers}
            rules |= {("keras", layer.path): _rules_of(keras[layer.path], core) for layer in others}
            yield Group(torch_layers=tuple(layers), keras_layers=tuple(others), rules=rules)


def _neutral_shapes(keys: Iterable[OneSidedKeys]) -> dict[Key, set[tuple[str, Shape]]]:
    """Return the names and shapes of the biases and scales that layers of one class and size have, by class and size.

    Args:
        keys: The keys of each layer. In a key, `core` is the class with the shapes of all other tensors, and `neutral`
            has the biases and scales.
    """
    found: dict[Key, set[tuple[str, Shape]]] = {}
    for entry in keys:
        for key in entry:
            found.setdefault(key.core, set()).update(key.neutral)
    return found


def _by_core(
    layers: Iterable[LayerView], keys: Mapping[str, OneSidedKeys], cores: set[Key], side: Side
) -> dict[Key, list[LayerView]]:
    """Group layers by class and shapes without biases and scales: by the first `core` of their keys that is in `cores`.

    Layers without such a key are left out, and so are layers inside a layer that has one.

    Args:
        layers: The layers of one model.
        keys: The keys of each layer, by path.
        cores: The classes with shapes, without biases and scales, to group by.
        side: The side of the layers: "torch" or "keras".
    """
    fit = [layer for layer in layers if any(key.core in cores for key in keys[layer.path])]
    found: dict[Key, list[LayerView]] = {}
    for layer in without_parts(fit, fit, side):
        found.setdefault(next(key.core for key in keys[layer.path] if key.core in cores), []).append(layer)
    return found


def _rules_of(keys: OneSidedKeys, core: Key) -> list[str]:
    return [name for key, named in keys.items() if key.core == core for name in named]


def _groups(
    torch_layers: Iterable[LayerView],
    keras_layers: Iterable[LayerView],
    torch: Mapping[str, OneSidedKeys],
    keras: Mapping[str, OneSidedKeys],
) -> Iterator[Group]:
    """Yield groups of torch and Keras layers that have the same class and shapes, apart from biases and scales.

    No layer is in two groups.

    Args:
        torch_layers: The unpaired torch layers.
        keras_layers: The unpaired Keras layers.
        torch: The keys of each torch layer, by path.
        keras: The keys of each Keras layer, by path.
    """
    shared = _cores(torch) & _cores(keras)
    by_torch_key = _by_first_key(torch_layers, torch, shared, "torch")
    by_keras_key = _by_first_key(keras_layers, keras, shared, "keras")
    for key, layers in by_torch_key.items():
        other = next((other for other in by_keras_key if other.core == key.core and other.neutral != key.neutral), None)
        if other is None:
            continue
        fitting = by_keras_key.pop(other)
        rules: dict[tuple[Side, str], list[str]] = {}
        rules |= {("torch", layer.path): torch[layer.path][key] for layer in layers}
        rules |= {("keras", layer.path): keras[layer.path][other] for layer in fitting}
        yield Group(torch_layers=tuple(layers), keras_layers=tuple(fitting), rules=rules)


def _cores(keys: Mapping[str, OneSidedKeys]) -> set[Key]:
    return {key.core for entry in keys.values() for key in entry}


def _by_first_key(
    layers: Iterable[LayerView], keys: Mapping[str, OneSidedKeys], shared: set[Key], side: Side
) -> dict[OneSidedKey, list[LayerView]]:
    """Group layers by key: each by the first of its keys whose `core` (the key without biases and scales) is shared.

    Layers without such a key are left out, and so are layers inside another layer that has one.

    Args:
        layers: The layers of one model.
        keys: The keys of each layer, by path.
        shared: The values of `core` that keys of layers of both sides have.
        side: The side of the layers: "torch" or "keras".
    """
    fit = [layer for layer in layers if shared & {key.core for key in keys[layer.path]}]
    found: dict[OneSidedKey, list[LayerView]] = {}
    for layer in without_parts(fit, fit, side):
        first = next(key for key in keys[layer.path] if key.core in shared)
        found.setdefault(first, []).append(layer)
    return found


def with_zeros(pairs: Iterable[Pair], torch: ModelView, keras: ModelView) -> Iterator[Pair]:
    """Yield all pairs; if only one layer of a pair has a bias, add a mapping for which this bias must be zero.

    A transfer writes zeros into such a bias of the target, and requires zeros in such a bias of the source. If a pair
    names two tensors, the layers that own them are compared.
    """
    pairs = tuple(pairs)
    owner = {tensor.path: layer for view in (torch, keras) for layer in view.layers for tensor in layer.tensors}
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    for pair in pairs:
        torch_paths = [path for mapping in pair.weights for path in mapping.torch if path in owner]
        keras_paths = [path for mapping in pair.weights for path in mapping.keras if path in owner]
        torch_owners = {path.rpartition(".")[0]: owner[path] for path in torch_paths}
        keras_owners = {path.rpartition("/")[0]: owner[path] for path in keras_paths}
        single = len(torch_owners) == len(keras_owners) == 1
        extra = tuple(_zeros(placed, *torch_owners.values(), *keras_owners.values())) if single else ()
        yield replace(pair, weights=(*pair.weights, *extra)) if extra else pair


def _zeros(placed: set[str], torch: LayerView, keras: LayerView) -> Iterator[WeightMapping]:
    torch_bias, keras_bias = _bias(torch), _bias(keras)
    if keras_bias and not torch_bias and keras_bias.path not in placed:
        yield WeightMapping(torch=(), keras=(keras_bias.path,), transform=Fill(0, keras_bias.shape))
    if torch_bias and not keras_bias and torch_bias.path not in placed:
        yield WeightMapping(torch=(torch_bias.path,), keras=(), transform=Drop(0, torch_bias.shape))


def _bias(layer: LayerView) -> TensorRef | None:
    return next((tensor for tensor in layer.tensors if tensor.role == ROLE), None)
