"""The planner: two views become a plan. One file for each kind of evidence, the weakest used last.

Every pair says which evidence decided it. What stays ambiguous is reported with its candidates.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from keras3conv.alignment.pair import Ignored, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.model.views import LayerView, ModelView
from keras3conv.planner.evidence.bare import bare_pairs
from keras3conv.planner.evidence.flow import positions
from keras3conv.planner.evidence.hints import Hints, hinted_pairs
from keras3conv.planner.evidence.matching import anchors, match_groups, numbers
from keras3conv.planner.evidence.one_sided import fitting_without_bias, with_zeros
from keras3conv.planner.evidence.rows import row_pairs
from keras3conv.planner.evidence.structure import Fits, Group, fitting, fitting_in_keras, ignored_tensors
from keras3conv.planner.probe.pairs import Probed, rest_pairs
from keras3conv.rules.constants import constant_buffer, is_constant, passing_variable
from keras3conv.rules.units import units

__all__ = ["Hints", "hinted_paths", "plan"]


def plan(
    torch: ModelView,
    keras: ModelView,
    hints: Hints = None,
    *,
    probed: Probed | None = None,
    notes: tuple[str, ...] = (),
) -> Alignment:
    """Finds which layer of one side belongs to which of the other.

    Args:
        torch: The torch side; `calls` of its layers are filled where it could be run.
        keras: The Keras side, likewise.
        hints: What the user knows: a dict of layer paths, a list of (regular expression, replacement), or a callable
            from a torch path to a Keras path or None.
        probed: What the probe found, where both models could be run.
        notes: What the plan says of how it was found.

    Returns:
        A plan, complete or not: `check()` tells, and raises.

    Raises:
        AlignmentError: A hint names a layer that is not there, or two layers that no rule fits.
    """
    fits = Fits(torch_layers=units(torch), keras_layers=units(keras))
    pairs = hinted_pairs(torch, keras, fits, hints)
    if probed is not None:
        pairs += _not_in(pairs, probed.pairs)
    pairs += row_pairs(fits.without(pairs))
    fits = _without_ties(fits.without(pairs), torch, pairs)
    places = positions(torch.layers, keras.layers, numbers(_all_groups(fits)) | anchors(pairs))
    for find_groups in (fitting, fitting_in_keras, fitting_without_bias):
        pairs += match_groups(find_groups(fits.without(pairs)), places)
    if probed is None:
        for find_groups in (fitting, fitting_in_keras):
            pairs += match_groups(find_groups(_other_names(fits, torch, pairs)), places)
    pairs = list(with_zeros(pairs, torch, keras))
    if probed is not None:
        pairs += rest_pairs(torch, keras, pairs)
    pairs += bare_pairs(torch, keras, pairs)
    place = {tensor.path: index for index, tensor in enumerate(torch.tensors())}
    pairs.sort(key=lambda pair: min(place[path] for mapping in pair.weights for path in mapping.torch))
    return Alignment(
        pairs=tuple(pairs),
        ignored=tuple(_ignored(torch, keras, pairs)),
        torch=torch.outline(),
        keras=keras.outline(),
        notes=notes if probed is None else (*notes, *probed.notes),
    )


def hinted_paths(torch: ModelView, keras: ModelView, hints: Hints) -> dict[str, str]:
    """The torch path that the hints give for each Keras path."""
    fits = Fits(torch_layers=units(torch), keras_layers=units(keras))
    return {pair.keras: pair.torch for pair in hinted_pairs(torch, keras, fits, hints)}


def _without_ties(fits: Fits, torch: ModelView, pairs: Iterable[Pair]) -> Fits:
    """Without the torch layers that own nothing but other names of what has a place."""
    placed = {path for pair in pairs for mapping in pair.weights for path in mapping.torch}
    storages = {tensor.storage for tensor in torch.tensors() if tensor.storage and tensor.path in placed}
    free = tuple(layer for layer in fits.torch_layers if not _all_in(layer, storages))
    return replace(fits, torch_layers=free)


def _other_names(fits: Fits, torch: ModelView, pairs: Sequence[Pair]) -> Fits:
    """The layers of torch that use again what has a place, and the Keras layers that are left for them."""
    placed = {path for pair in pairs for mapping in pair.weights for path in mapping.torch}
    storages = {tensor.storage for tensor in torch.tensors() if tensor.storage and tensor.path in placed}
    again = tuple(layer for layer in units(torch, ties=True) if _all_in(layer, storages))
    return Fits(torch_layers=again, keras_layers=fits.keras_layers).without(pairs)


def _all_in(layer: LayerView, storages: set[str]) -> bool:
    return bool(layer.tensors) and all(tensor.storage in storages for tensor in layer.tensors)


def _not_in(pairs: Iterable[Pair], others: Iterable[Pair]) -> list[Pair]:
    """The pairs of which no tensor is in one of the first."""
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    return [
        pair
        for pair in others
        if not placed & {path for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    ]


def _all_groups(fits: Fits) -> Iterator[Group]:
    """Every layer in the first group that it fits."""
    for find_groups in (fitting, fitting_in_keras, fitting_without_bias):
        groups = list(find_groups(fits))
        yield from groups
        torch = {layer.path for group in groups for layer in group.torch_layers}
        keras = {layer.path for group in groups for layer in group.keras_layers}
        fits = Fits(
            torch_layers=tuple(layer for layer in fits.torch_layers if layer.path not in torch),
            keras_layers=tuple(layer for layer in fits.keras_layers if layer.path not in keras),
        )


def _ignored(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterable[Ignored]:
    """The tensors that rules declare to have no counterpart, and the states of random generators."""
    yield from ignored_tensors(torch, {name: pair for pair in pairs for name in pair.torch.split(" + ")})
    placed = {path for pair in pairs for mapping in pair.weights for path in mapping.keras}
    for layer in keras.layers:
        for tensor in layer.tensors:
            reason = passing_variable(tensor.role, layer.kinds)
            if tensor.is_seed or reason:
                yield Ignored(side="keras", path=tensor.path, reason=reason or "the state of a random generator")
            elif is_constant(tensor) and tensor.path not in placed:
                yield Ignored(side="keras", path=tensor.path, reason=constant_buffer(tensor.role, tensor.dtype))
            elif tensor.role == "count" and "keras.layers.Normalization" in layer.kinds and tensor.path not in placed:
                yield Ignored(side="keras", path=tensor.path, reason="the number of samples, which adapt() alone reads")
