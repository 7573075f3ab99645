"""Make the plan: find the pairs of corresponding layers from all kinds of evidence, the strongest kind first.

Every pair records the evidence that decided it. An ambiguous pair also lists the other candidates.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from keras3conv.alignment.pair import Ignored, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import first_of
from keras3conv.model.views import LayerView, ModelView
from keras3conv.planner.evidence.attention import attention_pairs
from keras3conv.planner.evidence.bare import bare_pairs
from keras3conv.planner.evidence.experts import stacked_pairs
from keras3conv.planner.evidence.flattened import with_unseen_flattens
from keras3conv.planner.evidence.flow import positions
from keras3conv.planner.evidence.hints import Hints, hinted_pairs
from keras3conv.planner.evidence.matching import anchors, match_groups, numbers
from keras3conv.planner.evidence.one_sided import bare_normalizations, fitting_by_core, fitting_one_sided, with_zeros
from keras3conv.planner.evidence.packed import packed_pairs, with_doubtful_rows
from keras3conv.planner.evidence.parameters import named_pairs
from keras3conv.planner.evidence.renamed import renamed_pairs
from keras3conv.planner.evidence.rows import sequence_pairs
from keras3conv.planner.evidence.structure import Group, Unmatched, fitting, fitting_in_keras, ignored_tensors
from keras3conv.planner.probe.never_run import rest_pairs
from keras3conv.planner.probe.pairs import ProbeResult
from keras3conv.rules.constants import constant_buffer, is_constant, passing_variable
from keras3conv.rules.units import units

__all__ = ["Hints", "hinted", "plan"]


def plan(
    torch: ModelView,
    keras: ModelView,
    hints: Hints = None,
    *,
    probed: ProbeResult | None = None,
    notes: tuple[str, ...] = (),
) -> Alignment:
    """Return the plan: the pairs of corresponding layers of two models.

    Args:
        torch: The view of the torch model; its layers have `calls` if the model was traced.
        keras: The view of the Keras model; its layers have `calls` if the model was traced.
        hints: Pairs that the user names: a dict from torch path to Keras path, a list of (regular expression,
            replacement), or a callable from a torch path to a Keras path or None.
        probed: The result of the probe, if both models were run.
        notes: Remarks for the user on how the plan was found.

    Returns:
        The plan, complete or not; its `check()` raises if it is not.

    Raises:
        AlignmentError: A hint names an unknown layer, or two layers that no rule fits.
    """
    unmatched = Unmatched(torch_layers=units(torch), keras_layers=units(keras))
    pairs = hinted_pairs(torch, keras, unmatched, hints)
    pairs += _without_overlap(probed.pairs if probed else (), pairs)
    pairs += named_pairs(torch, keras, pairs)
    pairs += sequence_pairs(unmatched.without(pairs))
    pairs += attention_pairs(unmatched.without(pairs))
    pairs += packed_pairs(unmatched.without(pairs))
    unmatched = _with_bare_normalizations(_without_ties(unmatched.without(pairs), torch, pairs), torch, pairs)
    found = positions(torch.layers, keras.layers, numbers(_all_groups(unmatched)) | anchors(pairs))
    for find_groups in (fitting, fitting_in_keras) if probed else (fitting_by_core, fitting, fitting_in_keras):
        pairs += match_groups(find_groups(unmatched.without(pairs)), found)
    while more := list(match_groups(fitting_one_sided(unmatched.without(pairs)), found)):
        pairs += more
    if probed is None:
        for find_groups in (fitting, fitting_in_keras):
            pairs += match_groups(find_groups(_tied_layers(unmatched, torch, pairs)), found)
    pairs += renamed_pairs(unmatched.without(pairs))
    pairs = list(with_zeros(pairs, torch, keras))
    if probed is not None:
        pairs += rest_pairs(torch, keras, pairs)
    else:
        pairs = list(with_unseen_flattens(with_doubtful_rows(pairs, torch), torch, keras))
    pairs += bare_pairs(torch, keras, pairs, confirmed=probed is not None)
    pairs += stacked_pairs(torch, keras, pairs) if probed is None else ()
    ignored = tuple(_ignored(torch, keras, pairs))
    if probed is not None:
        ignored += tuple(_constants(torch, keras, pairs, ignored, probed))
        notes += (*_unused_notes(torch, pairs, ignored, probed), *probed.notes)
    return Alignment(
        pairs=tuple(_in_order(pairs, torch)),
        ignored=ignored,
        torch=torch.outline(),
        keras=keras.outline(),
        notes=notes,
        difference=_known_difference(probed, pairs),
    )


def _constants(
    torch: ModelView, keras: ModelView, pairs: Sequence[Pair], ignored: Sequence[Ignored], probed: ProbeResult
) -> Iterator[Ignored]:
    """Yield the unpaired torch buffers that need no Keras variable, as the probe has shown.

    Nothing is yielded while a Keras variable has no torch tensor: one of these buffers may belong there.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        pairs: The pairs of the plan.
        ignored: The tensors that are ignored for another reason.
        probed: The result of the probe.
    """
    if not any(_left_out(keras, pairs, ignored)):
        for path in _left_out(torch, pairs, ignored):
            if path in probed.constants:
                yield Ignored(side="torch", path=path, reason=probed.constants[path])


def _left_out(view: ModelView, pairs: Sequence[Pair], ignored: Sequence[Ignored]) -> Iterator[str]:
    """Yield the paths of the tensors of one side that are neither paired, nor tied to a paired tensor, nor ignored."""
    placed, storages = _tensor_paths(pairs), _storages(view, pairs) if view.side == "torch" else set()
    settled = {entry.path for entry in ignored if entry.side == view.side}
    for tensor in view.tensors():
        if tensor.path not in placed | settled and tensor.storage not in storages:
            yield tensor.path


_SHOWN = 3


def _unused_notes(
    torch: ModelView, pairs: Sequence[Pair], ignored: Sequence[Ignored], probed: ProbeResult
) -> Iterator[str]:
    """Yield a note that names the unpaired torch tensors on which no output of the torch model depends."""
    if unused := [path for path in _left_out(torch, pairs, ignored) if path in probed.unused]:
        yield f"with these inputs no output of the module depends on {first_of(unused, _SHOWN)}"


def _with_bare_normalizations(unmatched: Unmatched, torch: ModelView, pairs: Sequence[Pair]) -> Unmatched:
    """Add to the unpaired layers the torch normalizations that have no tensors and are in no pair."""
    paired = {pair.torch for pair in pairs}
    bare = (layer for layer in bare_normalizations(torch) if layer.path not in paired)
    return replace(unmatched, torch_layers=(*unmatched.torch_layers, *bare))


def _known_difference(probed: ProbeResult | None, pairs: Iterable[Pair]) -> str:
    """Return a sentence on how the outputs of the two models differed in the probe, which ran both with equal weights.

    The result is empty if they did not differ, or if the plan also maps weights that the probe did not map: these may
    explain it.
    """
    if probed is None:
        return ""
    filled = {path for pair in probed.pairs for mapping in pair.weights for path in mapping.keras}
    mappings = (mapping for pair in pairs for mapping in pair.weights if mapping.torch)
    return probed.difference if all(path in filled for mapping in mappings for path in mapping.keras) else ""


def _in_order(pairs: Iterable[Pair], torch: ModelView) -> list[Pair]:
    """Sort pairs by their first torch tensor; a pair of layers without tensors is sorted by its torch layer."""
    index: dict[str, int] = {}
    for layer in torch.layers:
        index.setdefault(layer.path, len(index))
        for tensor in layer.tensors:
            index.setdefault(tensor.path, len(index))

    def position(pair: Pair) -> int:
        paths = [path for mapping in pair.weights for path in mapping.torch if path in index]
        return min((index[path] for path in paths or pair.torch.split(" + ") if path in index), default=len(index))

    return sorted(pairs, key=position)


def hinted(torch: ModelView, keras: ModelView, hints: Hints) -> list[Pair]:
    """Return the pairs that the user's hints name."""
    return hinted_pairs(torch, keras, Unmatched(torch_layers=units(torch), keras_layers=units(keras)), hints)


def _without_ties(unmatched: Unmatched, torch: ModelView, pairs: Iterable[Pair]) -> Unmatched:
    """Return the unpaired layers, without torch layers whose tensors are all tied to tensors paired before.

    Args:
        unmatched: The layers that are in no pair yet.
        torch: The view of the torch model.
        pairs: The pairs so far.
    """
    storages = _storages(torch, pairs)
    free = tuple(layer for layer in unmatched.torch_layers if not _all_in(layer, storages))
    return replace(unmatched, torch_layers=free)


def _tied_layers(unmatched: Unmatched, torch: ModelView, pairs: Sequence[Pair]) -> Unmatched:
    """Return the torch layers whose tensors are all tied to paired tensors, and the Keras layers that may fit them.

    A tied torch weight may be two separate variables in Keras, so these layers may be paired as well.

    Args:
        unmatched: The layers that are in no pair yet.
        torch: The view of the torch model.
        pairs: The pairs so far.
    """
    storages = _storages(torch, pairs)
    tied = tuple(layer for layer in units(torch, ties=True) if _all_in(layer, storages))
    return Unmatched(torch_layers=tied, keras_layers=unmatched.keras_layers).without(pairs)


def _storages(torch: ModelView, pairs: Iterable[Pair]) -> set[str]:
    """Return the memory identifiers of all torch tensors in these pairs; tied tensors share one identifier."""
    placed = {path for pair in pairs for mapping in pair.weights for path in mapping.torch}
    return {tensor.storage for tensor in torch.tensors() if tensor.storage and tensor.path in placed}


def _all_in(layer: LayerView, storages: set[str]) -> bool:
    return bool(layer.tensors) and all(tensor.storage in storages for tensor in layer.tensors)


def _without_overlap(pairs: Iterable[Pair], earlier: Iterable[Pair]) -> list[Pair]:
    """Return those pairs of `pairs` that map no tensor which a pair of `earlier` maps.

    Args:
        pairs: The pairs to filter.
        earlier: The pairs made before `pairs`.
    """
    placed = _tensor_paths(earlier)
    return [pair for pair in pairs if not placed & _tensor_paths([pair])]


def _tensor_paths(pairs: Iterable[Pair]) -> set[str]:
    return {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}


def _all_groups(unmatched: Unmatched) -> Iterator[Group]:
    """Yield the groups of layers that fit each other; a layer is only in the first group that it fits.

    First come the groups by the shapes of the tensors in torch, then those by their shapes in Keras, then those in
    which one side lacks a bias or a scale.
    """
    for find_groups in (fitting, fitting_in_keras, fitting_one_sided):
        groups = list(find_groups(unmatched))
        yield from groups
        torch = {layer.path for group in groups for layer in group.torch_layers}
        keras = {layer.path for group in groups for layer in group.keras_layers}
        unmatched = Unmatched(
            torch_layers=tuple(layer for layer in unmatched.torch_layers if layer.path not in torch),
            keras_layers=tuple(layer for layer in unmatched.keras_layers if layer.path not in keras),
        )


def _ignored(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterable[Ignored]:
    """Yield the tensors of both sides that need no counterpart, each with the reason.

    A rule ignores such a tensor, or it is a constant of the computation, or the state of a random generator.
    """
    yield from ignored_tensors(torch, {name: pair for pair in pairs for name in pair.torch_layers})
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
