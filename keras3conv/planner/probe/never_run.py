"""Pair the single tensors of layers that never ran: no output shows what they compute, so their shapes decide."""

from collections.abc import Iterable, Iterator, Mapping

from keras3conv.alignment.binding import pair_of_tensors
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.alignment.shapes import same_axes
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.planner.probe.layouts import transforms_between
from keras3conv.planner.probe.weights import is_weight
from keras3conv.rules.rule import WeightMapping


def rest_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield pairs of single tensors in layers that never ran, if each is the only unpaired tensor of its size.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        pairs: The pairs made so far.
    """
    pairs = tuple(pairs)
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    counterparts = _counterparts(torch, keras, pairs)
    torch_tensors = [tensor for tensor in _untied(torch, placed) if is_weight(tensor)]
    keras_tensors = [tensor for tensor in keras.tensors() if tensor.path not in placed and not tensor.is_seed]
    for tensor in keras_tensors:
        fitting = [other for other in torch_tensors if same_axes(other.shape, tensor.shape)]
        rivals = [other for other in keras_tensors if same_axes(other.shape, tensor.shape)]
        ways = list(transforms_between(fitting[0].shape, tensor.shape)) if fitting else []
        if len(fitting) == len(rivals) == len(ways) == 1 and _may_correspond(fitting[0], tensor, counterparts):
            mapping = WeightMapping(torch=(fitting[0].path,), keras=(tensor.path,), transform=ways[0])
            detail = "no other unpaired tensor has this shape; its layer never ran"
            yield pair_of_tensors([mapping], [Evidence(kind="shape", detail=detail)])


def _counterparts(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> dict[str, set[str]]:
    """Return, for each tensor of a paired layer, the paths of all tensors of the layers that it is paired with."""
    siblings = {
        tensor.path: layer.tensors for view in (torch, keras) for layer in view.layers for tensor in layer.tensors
    }
    found: dict[str, set[str]] = {}
    for pair in pairs:
        for mapping in pair.weights:
            for these, those in ((mapping.torch, mapping.keras), (mapping.keras, mapping.torch)):
                others = {sibling.path for path in those for sibling in siblings.get(path, ())}
                for sibling in (sibling for path in these for sibling in siblings.get(path, ())):
                    found.setdefault(sibling.path, set()).update(others)
    return found


def _may_correspond(torch: TensorRef, keras: TensorRef, counterparts: Mapping[str, set[str]]) -> bool:
    """Return whether two tensors may correspond: their layers are paired with each other, or one layer is unpaired.

    An unpaired layer may have a tensor of a paired one: the output head that reverses an embedding has the table of the
    embedding.

    Args:
        torch: The torch tensor.
        keras: The Keras tensor.
        counterparts: For each tensor of a paired layer, the tensors of the layers that it is paired with.
    """
    of_torch, of_keras = counterparts.get(torch.path), counterparts.get(keras.path)
    return of_torch is None or of_keras is None or (keras.path in of_torch and torch.path in of_keras)


def _untied(view: ModelView, placed: set[str]) -> Iterator[TensorRef]:
    """Yield the unpaired tensors; a tied tensor is yielded once, under its first name.

    Args:
        view: The model.
        placed: The paths of the tensors that are in a pair.
    """
    storages = {tensor.storage for tensor in view.tensors() if tensor.path in placed and tensor.storage}
    for tensor in view.tensors():
        if tensor.path not in placed and (not tensor.storage or tensor.storage not in storages):
            storages.add(tensor.storage)
            yield tensor
