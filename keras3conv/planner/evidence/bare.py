"""Pair the torch parameters of modules whose class has no rule, such as a class token or a position table.

Each parameter is paired with one Keras variable of the same shape, ignoring axes of size one. If several parameters
have the same shape, their names decide, then their order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from keras3conv.alignment.binding import RULE
from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair
from keras3conv.alignment.shapes import reshaping
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.rules.families.linear.parameter import TIMM_LAYER_SCALE
from keras3conv.rules.library import known_classes
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Shape


def bare_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield pairs of one torch parameter and one Keras variable of the same shape that are in no pair yet.

    Args:
        torch: The torch side. Only parameters of modules whose class has no rule are used.
        keras: The Keras side. All variables are used: a position table may be the weight of an Embedding.
        pairs: The pairs that were found before.
    """
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    known = known_classes()[0] - {TIMM_LAYER_SCALE}
    torch_tensors = [
        tensor
        for layer in torch.layers
        if layer.kinds and not known.intersection(layer.kinds)
        for tensor in layer.tensors
        if tensor.path not in placed and tensor.trainable
    ]
    keras_tensors = [tensor for tensor in keras.tensors() if tensor.path not in placed and not tensor.is_seed]
    calls = _first_calls(torch), _first_calls(keras)
    keras_groups = _by_shape(keras_tensors)
    for shape, group in _by_shape(torch_tensors).items():
        yield from _matched(group, keras_groups.get(shape, []), *calls)


def _by_shape(tensors: Iterable[TensorRef]) -> dict[Shape, list[TensorRef]]:
    """Group tensors by their shape without axes of size one: (1, 197, 768) and (197, 768) are one group."""
    groups: dict[Shape, list[TensorRef]] = {}
    for tensor in tensors:
        groups.setdefault(tuple(size for size in tensor.shape if size != 1), []).append(tensor)
    return groups


def _first_calls(view: ModelView) -> dict[str, int]:
    """For the path of each tensor, return the index of the first call of its layer, among all layer calls of the model.

    Tensors of layers that did not run are left out.
    """
    return {tensor.path: layer.run.first_call for layer in view.layers if layer.run.calls for tensor in layer.tensors}


def _matched(
    torch: Sequence[TensorRef],
    keras: Sequence[TensorRef],
    torch_calls: Mapping[str, int],
    keras_calls: Mapping[str, int],
) -> Iterator[Pair]:
    """Yield pairs of torch parameters and Keras variables of one shape: first those with equal names.

    The others are paired in call order, or in definition order if layers were not called.

    Args:
        torch: The unpaired torch parameters of this shape.
        keras: The unpaired Keras variables of this shape.
        torch_calls: The position of the first call of the layer that owns a parameter, by the parameter's path.
        keras_calls: The position of the first call of the layer that owns a variable, by the variable's path.
    """
    if len(torch) == len(keras) == 1:
        yield _pair(torch[0], keras[0], Evidence(kind="shape", detail="no other unpaired tensor has this shape"))
        return
    named: dict[tuple[str, ...], list[TensorRef]] = {}
    for tensor in keras:
        named.setdefault(names.words(tensor.path), []).append(tensor)
    left = list(torch)
    for tensor in torch:
        found = named.get(names.words(tensor.path), [])
        if len(found) == 1:
            left.remove(tensor)
            yield _pair(tensor, found[0], Evidence(kind="name", detail=" ".join(names.words(tensor.path))))
            named[names.words(tensor.path)] = []
    rest = [tensor for tensors in named.values() for tensor in tensors]
    if len(rest) == len(left):
        kind: EvidenceKind = "definition order"
        if _has_order(left, torch_calls) and _has_order(rest, keras_calls):
            kind = "call order"
            left.sort(key=lambda tensor: torch_calls[tensor.path])
            rest.sort(key=lambda tensor: keras_calls[tensor.path])
        for position, (first, second) in enumerate(zip(left, rest, strict=True), 1):
            others = tuple(other.path for other in rest if other is not second)[:5]
            detail = f"number {position} of {len(left)} unpaired tensors with this shape"
            yield _pair(first, second, Evidence(kind=kind, detail=detail), others)


def _has_order(tensors: Iterable[TensorRef], calls: Mapping[str, int]) -> bool:
    """Return whether the call order sorts these tensors: all their layers ran, no two with the same first call.

    Args:
        tensors: The tensors to sort.
        calls: The position of the first call of the layer that owns a tensor, by the tensor's path.
    """
    first_calls = [calls.get(tensor.path) for tensor in tensors]
    return None not in first_calls and len(set(first_calls)) == len(first_calls)


def _pair(torch: TensorRef, keras: TensorRef, evidence: Evidence, candidates: tuple[str, ...] = ()) -> Pair:
    mapping = WeightMapping(torch=(torch.path,), keras=(keras.path,), transform=reshaping(torch.shape, keras.shape))
    return Pair(
        torch=torch.path, keras=keras.path, rule=RULE, weights=(mapping,), evidence=(evidence,), candidates=candidates
    )
