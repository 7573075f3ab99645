"""Layers that are made of layers: an LSTM of its cell, an attention of its projections.

Where a rule knows the class of the whole, the whole is one layer, with the tensors of its parts under roles that are
the same in every model: "out_proj.weight", "forward_layer/cell/kernel". Where none does, or where the other side has
no such layer, its parts stand for themselves.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.rules.library import known_classes


def separator(side: Side) -> str:
    """What stands between the parts of a path."""
    return "." if side == "torch" else "/"


def units(view: ModelView, *, ties: bool = False) -> tuple[LayerView, ...]:
    """The layers that can be paired: wholes that some rule knows, with all their tensors, and layers with tensors.

    A part stands there beside its whole. A layer that owns only other names of tensors seen before stands there once.

    Args:
        view: The model.
        ties: Whether every layer of a tied tensor stands there: where it is known what each computes.
    """
    known = known_classes()[0 if view.side == "torch" else 1]
    children = children_of(view)
    found = []
    seen: set[str] = set()
    for layer in view.layers:
        fresh = [tensor for tensor in layer.tensors if ties or not tensor.storage or tensor.storage not in seen]
        seen |= {tensor.storage for tensor in layer.tensors if tensor.storage}
        whole = whole_of(layer, children, view.side) if known.intersection(layer.kinds) else layer
        if fresh or (whole.tensors and not layer.tensors):
            found.append(whole)
    return tuple(found)


def whole_of(layer: LayerView, children: Mapping[str, list[LayerView]], side: Side) -> LayerView:
    """A layer with the tensors of all its parts, under roles that say which part they are of."""
    between = separator(side)
    parts = tuple(
        replace(tensor, role=f"{part.attribute or part.path.rpartition(between)[2]}{between}{tensor.role}")
        for child in children.get(layer.path, ())
        for part in [whole_of(child, children, side)]
        for tensor in part.tensors
    )
    return replace(layer, tensors=(*layer.tensors, *parts))


def without_parts(layers: Iterable[LayerView], wholes: Iterable[LayerView], side: Side) -> Iterator[LayerView]:
    """The layers that are not inside one of these wholes."""
    between = separator(side)
    inside = {whole.path for whole in wholes}
    for layer in layers:
        names = layer.path.split(between)
        outer = {between.join(names[:length]) for length in range(1, len(names))}
        if not outer & inside:
            yield layer


def children_of(view: ModelView) -> dict[str, list[LayerView]]:
    """The layers directly inside each layer, by its path; in a file, the nearest layer that it has."""
    between = separator(view.side)
    paths = {layer.path for layer in view.layers}
    children: dict[str, list[LayerView]] = {}
    for layer in view.layers:
        owner = layer.path.rpartition(between)[0]
        while owner and owner not in paths:  # a file does not have every layer on the way
            owner = owner.rpartition(between)[0]
        if layer.path and owner in paths:
            children.setdefault(owner, []).append(layer)
    return children


def numbered(layers: Iterable[LayerView], side: Side) -> LayerView:
    """Several layers that stand together against others, as one; its roles begin with their numbers."""
    parts = list(layers)
    between = separator(side)
    tensors = tuple(
        replace(tensor, role=f"{place}{between}{tensor.role}")
        for place, part in enumerate(parts)
        for tensor in part.tensors
    )
    configs = {str(place): part.config for place, part in enumerate(parts)}
    known = all(config is not None for config in configs.values())
    return replace(
        parts[0], path=" + ".join(part.path for part in parts), tensors=tensors, config=configs if known else None
    )
