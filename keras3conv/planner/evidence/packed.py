"""Pair packed layers without a run: one layer for query, key and value, or for gate and up, with several layers.

Names tell the order: the packed layer is called "qkv" or "gate_up", the others query, key and value, or gate and up.
The rows of a packed layer may also go head by head, which no name and no shape tells, so the pairs are not confirmed
before a run; a name that is known for rows by heads ("query_key_value") is not paired.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from keras3conv.alignment.binding import RULE
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.planner.evidence.structure import Unmatched
from keras3conv.rules.applying import full_paths
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Beside, Chain, Concat, Split, Transform

_LINEAR = "torch.nn.Linear"

_PACKED = {
    "qkv": ("query", "key", "value"),
    "qkv_proj": ("query", "key", "value"),
    "in_proj": ("query", "key", "value"),
    "gate_up": ("gate", "up"),
    "gate_up_proj": ("gate", "up"),
}
"""The names of packed layers, each with the meaning of its parts in the order of their rows."""

_EVIDENCE = Evidence(kind="position", detail="the names tell the parts; whether the rows go head by head is not known")


def packed_pairs(unmatched: Unmatched) -> Iterator[Pair]:
    """Yield the pairs of a packed layer on one side with its parts on the other, by names and shapes.

    Groups of parts correspond to packed layers in their order, if there are as many of both.
    """
    for order in dict.fromkeys(_PACKED.values()):
        torch_packed = [layer for layer in unmatched.torch_layers if _order(layer, "torch") == order]
        keras_packed = [layer for layer in unmatched.keras_layers if _order(layer, "keras") == order]
        torch_parts = list(_parts(unmatched.torch_layers, order, "torch"))
        keras_parts = list(_parts(unmatched.keras_layers, order, "keras"))
        if len(torch_packed) == len(keras_parts):
            for layer, parts in zip(torch_packed, keras_parts, strict=True):
                yield from _split(layer, parts)
        if len(keras_packed) == len(torch_parts):
            for layer, parts in zip(keras_packed, torch_parts, strict=True):
                yield from _joined(parts, layer)


def _order(layer: LayerView, side: str) -> tuple[str, ...]:
    return _PACKED.get(layer.path.rpartition("." if side == "torch" else "/")[2].lower(), ())


def _parts(layers: Iterable[LayerView], order: tuple[str, ...], side: str) -> Iterator[list[LayerView]]:
    """Yield the layers of one container that have all these meanings, in this order."""
    containers: dict[str, dict[str, list[LayerView]]] = {}
    for layer in layers:
        container = layer.path.rpartition("." if side == "torch" else "/")[0]
        containers.setdefault(container, {}).setdefault(names.meaning(layer.path), []).append(layer)
    for by_meaning in containers.values():
        found = [by_meaning.get(meaning, []) for meaning in order]
        if all(len(entry) == 1 for entry in found):
            yield [entry[0] for entry in found]


def _split(packed: LayerView, parts: list[LayerView]) -> Iterator[Pair]:
    """Yield the pairs of one torch layer with several Keras layers, one pair for each of its tensors."""
    sizes = [_rows(part) for part in parts]
    weight = packed.shapes.get("weight", ())
    if None in sizes or len(weight) != 2 or sum(size or 0 for size in sizes) != weight[0]:
        return
    rows = tuple(size or 0 for size in sizes)
    slices = [_with_rows(packed, size) for size in rows]
    made = [_mappings(torch, keras) for torch, keras in zip(slices, parts, strict=True)]
    for tensor in packed.tensors:
        found = [entry[tensor.path] for entry in made if tensor.path in entry]
        if len(found) != len(parts):
            return
        keras = tuple(mapping.keras[0] for mapping in found)
        transform = Chain(Split(0, rows), Beside(*(mapping.transform for mapping in found)))
        yield _pair((tensor.path,), keras, transform)


def _joined(parts: list[LayerView], packed: LayerView) -> Iterator[Pair]:
    """Yield the pairs of several torch layers with one Keras layer, one pair for each of its tensors."""
    sizes = tuple(part.shapes.get("weight", (0,))[0] for part in parts)
    roles = {tuple(part.shapes) for part in parts}
    if len(roles) != 1 or any(len(part.shapes.get("weight", ())) != 2 for part in parts):
        return
    made = _mappings(_with_rows(parts[0], sum(sizes)), packed)
    for tensor in parts[0].tensors:
        mapping = made.get(tensor.path)
        if mapping is None:
            return
        torch = tuple(next(other.path for other in part.tensors if other.role == tensor.role) for part in parts)
        yield _pair(torch, mapping.keras, Chain(Concat(0, sizes), mapping.transform))


def _rows(keras: LayerView) -> int | None:
    """Return the number of outputs of a Dense or EinsumDense layer; None for other layers."""
    kernel = keras.shapes.get("kernel", ())
    if len(kernel) < 2 or next(iter(lookup((_LINEAR,), keras.kinds)), None) is None:
        return None
    rows = 1
    for size in kernel[1:]:
        rows *= size
    return rows


def _with_rows(layer: LayerView, rows: int) -> LayerView:
    """Return a torch layer with another number of rows."""

    def resized(tensor: TensorRef) -> TensorRef:
        return replace(tensor, shape=(rows, *tensor.shape[1:]))

    config = None if layer.config is None else {**layer.config, "out_features": rows}
    return replace(layer, tensors=tuple(map(resized, layer.tensors)), config=config)


def _mappings(torch: LayerView, keras: LayerView) -> dict[str, WeightMapping]:
    """Return the mappings of a Linear and its Keras layer by the torch tensor; empty where they do not fit."""
    shapes = {tensor.path: tensor.shape for tensor in (*torch.tensors, *keras.tensors)}
    for rule in lookup((_LINEAR,), keras.kinds):
        try:
            mappings = list(full_paths(rule, torch, keras))
        except RuleError:  # the rule reads more of the configuration than is known
            continue
        if mappings and all(_fits(mapping, shapes) for mapping in mappings):
            return {mapping.torch[0]: mapping for mapping in mappings}
    return {}


def _fits(mapping: WeightMapping, shapes: dict[str, tuple[int, ...]]) -> bool:
    if len(mapping.torch) != 1 or len(mapping.keras) != 1 or not {*mapping.torch, *mapping.keras} <= shapes.keys():
        return False
    return mapping.transform.shapes((shapes[mapping.torch[0]],)) == (shapes[mapping.keras[0]],)


def _pair(torch: tuple[str, ...], keras: tuple[str, ...], transform: Transform) -> Pair:
    mapping = WeightMapping(torch=torch, keras=keras, transform=transform)
    return Pair(torch=" + ".join(torch), keras=" + ".join(keras), rule=RULE, weights=(mapping,), evidence=(_EVIDENCE,))
