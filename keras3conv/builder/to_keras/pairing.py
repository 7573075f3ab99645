"""Create the plan (the pairs of tensors) for a generated Keras model, from the torch tensors of each layer."""

from collections.abc import Iterator, Mapping, Sequence

from keras3conv.alignment.binding import pair_of_tensors
from keras3conv.alignment.pair import Evidence, Ignored, Pair, ignored_seeds
from keras3conv.alignment.plan import Alignment
from keras3conv.builder.to_keras.layers import Placement
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, ModelView
from keras3conv.rules.library import find
from keras3conv.rules.misnamed import does_not_apply
from keras3conv.rules.rule import WeightMapping
from keras3conv.rules.units import units

_EVIDENCE = Evidence(kind="construction", detail="the Keras layer was generated from the torch layer")


def alignment_of(placements: Sequence[Placement], torch: ModelView, keras: ModelView) -> Alignment:
    """Return the plan (pairs of torch tensors and Keras variables) for a generated model.

    Args:
        placements: Which torch tensors go into which variables of each Keras layer.
        torch: The layers and tensors of the module (its view).
        keras: The layers and variables of the generated model (its view).
    """
    layers = {layer.path: layer for layer in torch.layers}
    variables = {(layer.path, tensor.role): tensor.path for layer in units(keras) for tensor in layer.tensors}
    by_layer: dict[str, list[Placement]] = {}
    for placement in placements:
        by_layer.setdefault(placement.layer, []).append(placement)
    pairs = [pair for found in by_layer.values() for pair in _pairs(found, layers, by_layer, variables)]
    ignored = [*_unused(pairs, torch), *ignored_seeds(keras)]
    return Alignment(pairs=tuple(pairs), ignored=tuple(ignored), torch=torch.outline(), keras=keras.outline())


def _pairs(
    placements: Sequence[Placement],
    layers: Mapping[str, LayerView],
    every: Mapping[str, Sequence[Placement]],
    variables: Mapping[tuple[str, str], str],
) -> Iterator[Pair]:
    """Yield the pair of a Keras layer and a torch layer, or a pair for each tensor if no rule connects the two layers.

    Args:
        placements: Which torch tensors go into which variables of this Keras layer.
        layers: The torch layers by path.
        every: The placements of all Keras layers, by the path of the torch layer.
        variables: The path of each Keras variable, by the name of its layer and its name in the layer ("kernel").
    """
    first = placements[0]
    mappings = tuple(_mapping(placement, variables) for placement in placements)
    layer = layers.get(first.owner)
    users = sum(any(one.owner == first.owner for one in others) for others in every.values())
    if first.rule and layer is not None and find(first.rule).torch in layer.kinds and users == 1:
        yield Pair(torch=first.owner, keras=first.layer, rule=first.rule, weights=mappings, evidence=(_EVIDENCE,))
        return
    for mapping in mappings:
        yield pair_of_tensors([mapping], [_EVIDENCE])


def _mapping(placement: Placement, variables: Mapping[tuple[str, str], str]) -> WeightMapping:
    if placement.rule and any((placement.layer, role) not in variables for role in placement.roles):
        own = [role for layer, role in variables if layer == placement.layer]
        raise RuleError(does_not_apply(find(placement.rule), placement.layer, own, placement.roles))
    paths = tuple(variables[placement.layer, role] for role in placement.roles)
    return WeightMapping(torch=placement.torch, keras=paths, transform=placement.transform)


def _unused(pairs: Sequence[Pair], torch: ModelView) -> Iterator[Ignored]:
    """Yield the tensors of the module that no Keras variable receives, as ignored tensors of the plan, with reasons."""
    placed = {path for pair in pairs for mapping in pair.weights for path in mapping.torch}
    storages = {tensor.storage for tensor in torch.tensors() if tensor.path in placed and tensor.storage}
    for tensor in torch.tensors():
        if tensor.path in placed:
            continue
        if tensor.storage in storages:
            continue  # a tied tensor, which is mapped under another path
        constant = "it is a constant of the model, or no output depends on it"
        yield Ignored(side="torch", path=tensor.path, reason=constant if not tensor.trainable else _UNUSED)


_UNUSED = "no output of the module depends on it"
