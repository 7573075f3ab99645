"""Pair the torch parameters of modules whose class has no rule, such as a class token or a position table.

A torch file does not store the classes of modules. A tensor of a file counts as such a parameter if no layer of
`torch.nn` has its name (as "weight" or "bias"), and if the Keras layer has no rule either or is an Embedding.

Each parameter is paired with one Keras variable of the same shape, ignoring axes of size one. If several parameters
have the same shape, their names decide, then their order.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from keras3conv.alignment.binding import pair_of_tensors
from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair
from keras3conv.alignment.shapes import reshaping
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.planner.evidence.parameters import holds_one_parameter
from keras3conv.rules.families.linear.parameter import TIMM_LAYER_SCALE
from keras3conv.rules.library import known_classes
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Shape


def bare_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair], *, confirmed: bool) -> Iterator[Pair]:
    """Yield pairs of one torch parameter and one Keras variable of the same shape that are in no pair yet.

    Args:
        torch: The view of the torch model. Only parameters of modules whose class has no rule are used.
        keras: The view of the Keras model. All variables are used: a position table may be the weight of an Embedding.
        pairs: The pairs made so far.
        confirmed: Whether both models were run. If not, a pair of square tensors is unconfirmed: one may be transposed.
    """
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    known = known_classes()[0] - {TIMM_LAYER_SCALE}
    is_file = not any(layer.kinds for layer in torch.layers)
    torch_tensors = [
        tensor
        for layer in torch.layers
        if (is_file or layer.kinds) and not known.intersection(layer.kinds)
        for tensor in layer.tensors
        if tensor.path not in placed and tensor.trainable and not (is_file and _is_of_a_layer(tensor))
    ]
    keras_tensors = [
        tensor
        for layer in keras.layers
        if not is_file or _may_hold_parameters(layer)
        for tensor in layer.tensors
        if tensor.path not in placed and not tensor.is_seed
    ]
    calls = _first_calls(torch), _first_calls(keras)
    keras_groups = _by_shape(keras_tensors)
    for shape, group in _by_shape(torch_tensors).items():
        for pair in _matched(group, keras_groups.get(shape, []), *calls):
            doubt = None if confirmed else _doubt(pair, shape)
            yield replace(pair, evidence=(*pair.evidence, doubt)) if doubt else pair


def _doubt(pair: Pair, shape: Shape) -> Evidence | None:
    """Return the `Evidence` that the axes or parts of two tensors may have different orders; None if they cannot.

    A square tensor may be transposed. A packed tensor ("qkv") may have query, key and value in another order.
    """
    if len(set(shape)) < len(shape):
        return Evidence(kind="interchangeable", detail=f"square, {shape}: the axis order is unknown")
    if names.is_packed(pair.torch) or names.is_packed(pair.keras):
        return Evidence(kind="interchangeable", detail="several parts in one tensor: their order is unknown")
    return None


_OF_LAYERS = re.compile(r"weight|bias|running_\w+|num_batches_tracked|(in_proj|weight|bias)_\w+|[qkv]_proj_weight")
"""The names of the tensors of layers that torch itself defines."""

_EMBEDDING = "keras.layers.Embedding"


def _is_of_a_layer(tensor: TensorRef) -> bool:
    """Return whether a tensor of a file has a name that layers of `torch.nn` use: "weight", "bias", "running_mean"."""
    return _OF_LAYERS.fullmatch(tensor.role.rpartition(".")[2]) is not None


def _may_hold_parameters(layer: LayerView) -> bool:
    """Return whether a variable of a Keras layer may be a parameter that in torch belongs to a module without a rule.

    This is so if no rule has the class of the layer, if it is an Embedding, or if it has only one variable.
    """
    is_unknown = not known_classes()[1].intersection(layer.kinds)
    return is_unknown or _EMBEDDING in layer.kinds or holds_one_parameter(layer)


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
    """Yield pairs of torch parameters and Keras variables of one shape: first those with equal paths, or equal names.

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
    left, rest = list(torch), list(keras)
    for words in (lambda tensor: names.words(tensor.path), lambda tensor: names.words(tensor.role)):
        named = _labelled(left, words), _labelled(rest, words)
        for name, tensors in named[0].items():
            same = named[1].get(name, [])
            if len(tensors) == len(same) == 1:
                left.remove(tensors[0])
                rest.remove(same[0])
                yield _pair(tensors[0], same[0], Evidence(kind="name", detail=" ".join(name)))
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


def _labelled(
    tensors: Iterable[TensorRef], words: Callable[[TensorRef], tuple[str, ...]]
) -> dict[tuple[str, ...], list[TensorRef]]:
    found: dict[tuple[str, ...], list[TensorRef]] = {}
    for tensor in tensors:
        found.setdefault(words(tensor), []).append(tensor)
    return found


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
    return pair_of_tensors([mapping], [evidence], candidates)
