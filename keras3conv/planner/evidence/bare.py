"""Parameters that belong to no layer that a rule knows: a class token, a position table, a layer scale.

They are matched tensor by tensor: by their shapes, axes of size one aside, and where several have one shape, by names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from keras3conv.alignment.binding import RULE, reshaping
from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.rules.families.linear.parameter import TIMM_LAYER_SCALE
from keras3conv.rules.library import known_classes
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Shape


def bare_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Pairs of single tensors, from what the other pairs left over.

    Args:
        torch: The torch side; only parameters of layers that no rule knows are bare.
        keras: The Keras side; any variable that is left may be the counterpart (an Embedding of positions).
        pairs: The pairs that were found before.
    """
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    known = known_classes()[0] - {TIMM_LAYER_SCALE}
    ours = [
        tensor
        for layer in torch.layers
        if layer.kinds and not known.intersection(layer.kinds)
        for tensor in layer.tensors
        if tensor.path not in placed and tensor.trainable
    ]
    theirs = [tensor for tensor in keras.tensors() if tensor.path not in placed and not tensor.is_seed]
    places = _first_calls(torch), _first_calls(keras)
    groups = _by_size(ours), _by_size(theirs)
    for size, first in groups[0].items():
        yield from _matched(first, groups[1].get(size, []), *places)


def _by_size(tensors: Iterable[TensorRef]) -> dict[Shape, list[TensorRef]]:
    groups: dict[Shape, list[TensorRef]] = {}
    for tensor in tensors:
        groups.setdefault(tuple(size for size in tensor.shape if size != 1), []).append(tensor)
    return groups


def _first_calls(view: ModelView) -> dict[str, int]:
    """When the layer that owns a tensor first runs, where that is known."""
    return {tensor.path: layer.calls[0] for layer in view.layers if layer.calls for tensor in layer.tensors}


def _matched(
    ours: Sequence[TensorRef],
    theirs: Sequence[TensorRef],
    torch_calls: Mapping[str, int],
    keras_calls: Mapping[str, int],
) -> Iterator[Pair]:
    if len(ours) == len(theirs) == 1:
        yield _pair(ours[0], theirs[0], Evidence(kind="shape", detail="no other tensor that is left has this shape"))
        return
    named: dict[tuple[str, ...], list[TensorRef]] = {}
    for tensor in theirs:
        named.setdefault(names.words(tensor.path), []).append(tensor)
    left = list(ours)
    for tensor in ours:
        found = named.get(names.words(tensor.path), [])
        if len(found) == 1:
            left.remove(tensor)
            yield _pair(tensor, found[0], Evidence(kind="name", detail=" ".join(names.words(tensor.path))))
            named[names.words(tensor.path)] = []
    rest = [tensor for tensors in named.values() for tensor in tensors]
    if len(rest) == len(left):
        kind: EvidenceKind = "definition order"
        if _each_at_its_time(left, torch_calls) and _each_at_its_time(rest, keras_calls):
            kind = "call order"
            left.sort(key=lambda tensor: torch_calls[tensor.path])
            rest.sort(key=lambda tensor: keras_calls[tensor.path])
        for place, (first, second) in enumerate(zip(left, rest, strict=True), 1):
            others = tuple(other.path for other in rest if other is not second)[:5]
            detail = f"{place} of {len(left)} of this shape"
            yield _pair(first, second, Evidence(kind=kind, detail=detail), others)


def _each_at_its_time(tensors: Iterable[TensorRef], calls: Mapping[str, int]) -> bool:
    """Whether it is known when each of these tensors is first used, and no two are at once."""
    times = [calls.get(tensor.path) for tensor in tensors]
    return None not in times and len(set(times)) == len(times)


def _pair(torch: TensorRef, keras: TensorRef, evidence: Evidence, candidates: tuple[str, ...] = ()) -> Pair:
    mapping = WeightMapping(torch=(torch.path,), keras=(keras.path,), transform=reshaping(torch.shape, keras.shape))
    return Pair(
        torch=torch.path, keras=keras.path, rule=RULE, weights=(mapping,), evidence=(evidence,), candidates=candidates
    )
