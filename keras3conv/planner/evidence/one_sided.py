"""A bias that only one side has: the other computes the same where it is zero.

Torch's convolutions before a normalisation have none, those of some Keras models have. The layers are paired without
it, and the plan says what it must be: zeros are written where it is missing, and a bias that is not zero is refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.evidence.structure import Fits, Group, fitting
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Drop, Fill

ROLE = "bias"


def fitting_without_bias(fits: Fits) -> Iterator[Group]:
    """The groups of layers that fit when the bias that only one side has is left out, of either side."""
    torch = _parted(fits.torch_layers)
    keras = _parted(fits.keras_layers)
    yield from fitting(Fits(torch_layers=torch[0], keras_layers=tuple(map(_stripped, keras[1]))))
    yield from fitting(Fits(torch_layers=tuple(map(_stripped, torch[1])), keras_layers=keras[0]))


def with_zeros(pairs: Iterable[Pair], torch: ModelView, keras: ModelView) -> Iterator[Pair]:
    """The pairs, with what the bias must be that one layer of a pair has and the other has not.

    A pair may be of the kernels alone: the layers are those that own them.
    """
    owner = {tensor.path: layer for view in (torch, keras) for layer in view.layers for tensor in layer.tensors}
    for pair in pairs:
        ours = {path.rpartition(".")[0]: owner[path] for mapping in pair.weights for path in mapping.torch}
        theirs = {path.rpartition("/")[0]: owner[path] for mapping in pair.weights for path in mapping.keras}
        single = len(ours) == len(theirs) == 1
        extra = tuple(_zeros(pair, *ours.values(), *theirs.values())) if single else ()
        yield replace(pair, weights=(*pair.weights, *extra)) if extra else pair


def _zeros(pair: Pair, torch: LayerView, keras: LayerView) -> Iterator[WeightMapping]:
    placed = {path for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    ours, theirs = _bias(torch), _bias(keras)
    if theirs and not ours and theirs.path not in placed:
        yield WeightMapping(torch=(), keras=(theirs.path,), transform=Fill(0, theirs.shape))
    if ours and not theirs and ours.path not in placed:
        yield WeightMapping(torch=(ours.path,), keras=(), transform=Drop(0, ours.shape))


def _parted(layers: Iterable[LayerView]) -> tuple[tuple[LayerView, ...], tuple[LayerView, ...]]:
    """The layers without a bias, and those that have one beside other tensors."""
    known = tuple(layers)
    without = tuple(layer for layer in known if _bias(layer) is None)
    return without, tuple(layer for layer in known if _bias(layer) is not None and len(layer.tensors) > 1)


def _stripped(layer: LayerView) -> LayerView:
    """The layer as it would be without a bias."""
    config = layer.config
    if config is not None:
        config = {**config, **{name: False for name in (ROLE, f"use_{ROLE}") if name in config}}
    return replace(layer, tensors=tuple(tensor for tensor in layer.tensors if tensor.role != ROLE), config=config)


def _bias(layer: LayerView) -> TensorRef | None:
    return next((tensor for tensor in layer.tensors if tensor.role == ROLE), None)
