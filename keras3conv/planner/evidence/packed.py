"""Pair a packed layer (query, key and value in one) with separate layers of the other model, without running them.

The packed layer is called "qkv" or "gate_up"; its parts are separate layers called query, key and value, or gate and
up. The packed weight is assumed to have all rows of the query first, then those of the key, then those of the value.
But the rows may also go head by head: query, key and value of the first attention head, then those of the second. Names
and shapes do not show this, so the pairs are unconfirmed until both models ran. A layer called "query_key_value" is not
paired, because models with this name go head by head.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

from keras3conv.alignment.binding import RULE, pair_of_tensors
from keras3conv.alignment.packed import as_linear, packed_mappings
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.model.paths import separator
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.planner.evidence.structure import Unmatched
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes, Same, Shape

_ATTENTION = "torch.nn.MultiheadAttention"

_PACKED = {
    "qkv": ("query", "key", "value"),
    "qkv_proj": ("query", "key", "value"),
    "in_proj": ("query", "key", "value"),
    "c_attn": ("query", "key", "value"),
    "gate_up": ("gate", "up"),
    "gate_up_proj": ("gate", "up"),
}
"""The names of packed layers, each with its parts in the order of their rows: "qkv" has query, key and value."""

_EVIDENCE = Evidence(
    kind="position", detail="the names identify the parts; the rows may be interleaved by attention head"
)


def packed_pairs(unmatched: Unmatched) -> Iterator[Pair]:
    """Yield the pairs of a packed layer (query, key and value in one) on one side with its parts on the other.

    Names and shapes decide. If several packed layers fit as many groups of parts, they are paired in order.

    Args:
        unmatched: The layers that are in no pair yet.
    """
    keras = unmatched.keras_layers
    if any(_ATTENTION in layer.kinds for layer in unmatched.torch_layers):  # a weight file does not store the class
        wholes = tuple(f"{layer.path}/" for layer in keras if _is_attention(layer))
        keras = tuple(layer for layer in keras if not layer.path.startswith(wholes))
    for order in dict.fromkeys(_PACKED.values()):
        torch_packed = [(layer,) for layer in unmatched.torch_layers if _order(layer, "torch") == order]
        keras_packed = [(layer,) for layer in keras if _order(layer, "keras") == order]
        torch_parts = list(_parts(unmatched.torch_layers, order, "torch"))
        keras_parts = list(_parts(keras, order, "keras"))
        in_attention = [entry for entry in torch_packed if as_linear(entry[0]) is not entry[0]]
        for torch_groups, keras_groups in (
            (torch_packed, keras_parts),
            (torch_parts, keras_packed),
            (in_attention, keras_packed),
        ):
            if len(torch_groups) == len(keras_groups):
                for torch_layers, keras_layers in zip(torch_groups, keras_groups, strict=True):
                    others = tuple(_other_orders(torch_layers, keras_layers, order))
                    biases = _biases_of(torch_layers, unmatched.torch_layers)
                    for mapping in packed_mappings(torch_layers, keras_layers):
                        yield pair_of_tensors([_with_bias(mapping, biases)], [_EVIDENCE], others)


def _biases_of(packed: tuple[LayerView, ...], layers: Iterable[LayerView]) -> dict[str, TensorRef]:
    """Return the biases of a packed layer that are parameters of its parent module: {"query": "attn.q_bias"} in BEiT.

    Args:
        packed: The torch layers of a pair. If there are several, none of them is packed, and the result is empty.
        layers: All torch layers.
    """
    owner = packed[0].path.rpartition(".")[0]
    tensors = (tensor for layer in layers if layer.path == owner and len(packed) == 1 for tensor in layer.tensors)
    named = ((tensor.role.rpartition(".")[2], tensor) for tensor in tensors if tensor.role.endswith("_bias"))
    return {names.meaning(role.removesuffix("_bias")): tensor for role, tensor in named}


def _with_bias(mapping: WeightMapping, biases: Mapping[str, TensorRef]) -> WeightMapping:
    """Return a mapping that reads a Keras bias from the parent module, in place of one that fills it with zeros.

    Any other mapping is returned unchanged.

    Args:
        mapping: A mapping of a packed layer.
        biases: The biases that are parameters of the parent module, by function, such as "query".
    """
    bias = biases.get(names.meaning(mapping.keras[0].rpartition("/")[0])) if mapping.keras else None
    if mapping.torch or bias is None:
        return mapping
    (shape,) = mapping.transform.shapes(())
    if prod(shape) != prod(bias.shape):
        return mapping
    transform = Same() if shape == bias.shape else Axes("(h d) -> h d", h=shape[0])
    return WeightMapping(torch=(bias.path,), keras=mapping.keras, transform=transform)


def _is_attention(layer: LayerView) -> bool:
    """Return whether a rule pairs a Keras layer with `torch.nn.MultiheadAttention`, including its projections."""
    return next(iter(lookup((_ATTENTION,), layer.kinds)), None) is not None


def _order(layer: LayerView, side: Side) -> tuple[str, ...]:
    if side == "torch" and as_linear(layer) is not layer:
        return _PACKED["in_proj"]
    return _PACKED.get(names.name_of(layer).rpartition(separator(side))[2].lower(), ())


def _parts(layers: Iterable[LayerView], order: tuple[str, ...], side: Side) -> Iterator[tuple[LayerView, ...]]:
    """Yield a tuple of layers for each container that has one layer for every part: its query, key and value layers.

    These may correspond to one packed layer on the other side. A container that lacks a part is left out.

    Args:
        layers: Layers of one model.
        order: The functions that the names of the parts express, in the order of the rows: ("query", "key", "value").
        side: The side of the layers: "torch" or "keras".
    """
    containers: dict[str, dict[str, list[LayerView]]] = {}
    for layer in layers:
        container = layer.path.rpartition(separator(side))[0]
        containers.setdefault(container, {}).setdefault(names.meaning(names.name_of(layer)), []).append(layer)
    for by_meaning in containers.values():
        found = [by_meaning.get(meaning, []) for meaning in order]
        if all(len(entry) == 1 for entry in found):
            yield tuple(entry[0] for entry in found)


_NUMBER = "NUMBER: how many heads, num_heads or n_head in the model's code"
"""The comment on a line that needs the number of heads, which the shapes of the weights do not show."""


def _other_orders(torch: tuple[LayerView, ...], keras: tuple[LayerView, ...], order: tuple[str, ...]) -> Iterator[str]:
    """Yield lines of code that the user can paste if the assumed order of the rows of a packed weight is wrong.

    Each pairs the same layers with another known order: 'plan = plan.pair("qkv", ["q", "k", "v"], heads=NUMBER)'.

    Args:
        torch: The torch layers: either the packed layer, or the layers of its parts.
        keras: The Keras layers: either the layers of the parts, or the packed layer.
        order: The names of the parts, in the order of the rows: ("query", "key", "value") or ("gate", "up").
    """
    named = [[layer.path for layer in side] for side in (torch, keras)]
    first, second = (json.dumps(paths[0] if len(paths) == 1 else paths) for paths in named)
    packed = torch[0] if len(torch) == 1 else keras[0]
    if order == _PACKED["gate_up"]:
        rows = max(max(shape) for shape in packed.shapes.values()) // len(order)
        exchanged = [json.dumps(paths[0] if len(paths) == 1 else paths[::-1]) for paths in named]
        yield f"plan = plan.pair({', '.join(exchanged)})  # the parts exchanged"
        yield f"plan = plan.pair({first}, {second}, heads={rows})  # alternating rows"
    elif len(torch) != len(keras):
        yield f"plan = plan.pair({first}, {second}, heads=NUMBER)  # head by head; {_NUMBER}"


def with_doubtful_rows(pairs: Iterable[Pair], torch: ModelView) -> Iterator[Pair]:
    """Yield all pairs of models that were not run; mark as unconfirmed the pairs of layers that may be packed.

    The weights of both layers have the same rows, but perhaps in another order: first all rows of the query, or first
    the query, key and value rows of the first attention head.
    """
    layers = {layer.path: layer for layer in torch.layers}
    inputs = {tensor.shape[1] for tensor in torch.tensors() if len(tensor.shape) > 1}
    for pair in pairs:
        layer = layers.get(pair.torch)
        shape = () if layer is None else layer.shapes.get("weight", ())
        if len(shape) == 2 and pair.rule != RULE and _may_be_packed(pair, shape, inputs):
            line = f'plan = plan.pair("{pair.torch}", "{pair.keras}", heads=NUMBER)  # head by head in torch; {_NUMBER}'
            yield replace(pair, evidence=(*pair.evidence, _ROWS), candidates=(*pair.candidates, line))
        else:
            yield pair


_ROWS = Evidence(
    kind="interchangeable",
    detail="both layers may be several in one, with their rows in another order: head by head, or exchanged",
)

_SMALLEST_PART = 4


def _may_be_packed(pair: Pair, shape: Shape, inputs: set[int]) -> bool:
    """Return whether a Linear may be several layers in one, such as query, key and value.

    Its name may show that ("qkv"). Its size may show it too: no layer has as many inputs as the Linear has outputs, but
    some layer has a half or a third of that.

    Args:
        pair: The pair of the Linear with a Keras layer.
        shape: The shape of its weight.
        inputs: The numbers of input features that the layers of the model have.
    """
    if names.is_packed(pair.torch) or names.is_packed(pair.keras):
        return True
    parts = {shape[0] // number for number in (2, 3) if shape[0] % number == 0}
    return shape[0] not in inputs and any(part > _SMALLEST_PART and part in inputs for part in parts)
