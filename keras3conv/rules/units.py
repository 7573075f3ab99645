"""Combine a container (a layer that contains layers) with its inner layers into one layer: an LSTM and its cell.

This is done if a rule exists for the class of the container. The roles of the combined tensors then start with the name
of the inner layer, which is the same in every model: "out_proj.weight", "forward_layer/cell/kernel". The inner layers
are paired separately if no rule exists for the container, or if the other side has no such container.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from keras3conv.model.paths import join_layers, separator
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.rules.library import known_classes
from keras3conv.rules.stored_units import is_torch_file, named_units


def units(view: ModelView, *, ties: bool = False) -> tuple[LayerView, ...]:
    """Return the layers that can be paired: containers (attention, LSTM) that have a rule, and all layers with tensors.

    The inner layers of a container are included in addition to the container.

    Args:
        view: The model.
        ties: Whether to include every layer that has a tied tensor, or only the first of those that share it. The probe
            (a run of both models) needs all, because it compares the outputs of each.
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
    return _with_named(found, view) if is_torch_file(view) else tuple(found)


def _with_named(found: Sequence[LayerView], view: ModelView) -> tuple[LayerView, ...]:
    """Return the layers of a torch file, with the modules whose tensors have the names of a rule of the user.

    Args:
        found: The layers as the file lists them.
        view: The view of the file.
    """
    named = {module.path: module for module in named_units(view)}
    if not named:
        return tuple(found)
    place = {tensor.path: number for number, tensor in enumerate(view.tensors())}
    layers = [*named.values(), *(layer for layer in found if layer.path not in named)]
    return tuple(sorted(layers, key=lambda layer: min(place[tensor.path] for tensor in layer.tensors)))


def whole_of(layer: LayerView, children: Mapping[str, list[LayerView]], side: Side) -> LayerView:
    """Return a container as one layer that also has the tensors of its inner layers.

    Args:
        layer: The container.
        children: The direct inner layers of each layer, by its path.
        side: The side of the layers: "torch" or "keras".

    Returns:
        The layer; the role of an inner tensor starts with the name of its layer, such as "out_proj.weight".
    """
    between = separator(side)
    parts = tuple(
        replace(tensor, role=f"{part.attribute or part.path.rpartition(between)[2]}{between}{tensor.role}")
        for child in children.get(layer.path, ())
        for part in [whole_of(child, children, side)]
        for tensor in part.tensors
    )
    return replace(layer, tensors=(*layer.tensors, *parts))


def without_parts(layers: Iterable[LayerView], wholes: Iterable[LayerView], side: Side) -> Iterator[LayerView]:
    """Yield the layers that are not inside one of the given containers."""
    between = separator(side)
    inside = {whole.path for whole in wholes}
    for layer in layers:
        names = layer.path.split(between)
        outer = {between.join(names[:length]) for length in range(1, len(names))}
        if not outer & inside:
            yield layer


def children_of(view: ModelView) -> dict[str, list[LayerView]]:
    """Return the direct inner layers of each container, by the path of the container.

    If a file does not list a container, its inner layers belong to the innermost listed layer that contains them.
    """
    between = separator(view.side)
    paths = {layer.path for layer in view.layers}
    children: dict[str, list[LayerView]] = {}
    for layer in view.layers:
        owner = layer.path.rpartition(between)[0]
        while owner and owner not in paths:  # a file does not list every container
            owner = owner.rpartition(between)[0]
        if layer.path and owner in paths:
            children.setdefault(owner, []).append(layer)
    return children


def numbered(layers: Iterable[LayerView], side: Side) -> LayerView:
    """Return several layers as one, to pair them together; roles start with the index of a layer: "0.weight"."""
    parts = list(layers)
    between = separator(side)
    tensors = tuple(
        replace(tensor, role=f"{number}{between}{tensor.role}")
        for number, part in enumerate(parts)
        for tensor in part.tensors
    )
    configs = {str(number): part.config for number, part in enumerate(parts)}
    known = all(config is not None for config in configs.values())
    return replace(
        parts[0], path=join_layers(part.path for part in parts), tensors=tensors, config=configs if known else None
    )
