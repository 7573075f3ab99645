"""Complete the layers of a Keras file that are inside other layers: their order, their attributes, the outer layers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras3conv.formats.keras.names import attribute_of, class_of, qualified
from keras3conv.model.views import LayerView, made

_STACK = "keras.layers.StackedRNNCells"


def with_parts(described: list[LayerView], parts: list[LayerView]) -> tuple[LayerView, ...]:
    """Return all layers: those of the architecture, and inserted among them those it lacks, such as an LSTM's cell.

    Args:
        described: The layers that the architecture lists.
        parts: The layers that it does not list; each is inserted after the layer that contains it.
    """
    owners: dict[str, list[LayerView]] = {}
    known = {layer.path for layer in described}
    for part in parts:
        owner = next((prefix for prefix in _prefixes(part.path) if prefix in known), "")
        owners.setdefault(owner, []).append(part)
    result = []
    for layer in described:
        result.append(layer)
        parts_inside = owners.pop(layer.path, [])
        result += [replace(part, run=replace(part.run, calls=layer.run.calls)) for part in parts_inside]
    return (*result, *(part for rest in owners.values() for part in rest))


def _prefixes(path: str) -> Iterator[str]:
    """Yield the paths of the layers that contain a layer, the innermost first: "a/b" and "a" for "a/b/c"."""
    while path := path.rpartition("/")[0]:
        yield path


def with_wholes(layers: list[LayerView]) -> tuple[LayerView, ...]:
    """Return the layers, with a LayerView added for each outer layer that has no variables of its own.

    In a file without an architecture, the layer "gru/gru_cell" has variables, but its outer layer "gru" has none.
    The outer layer is inserted before the sublayer, with the class that the HDF5 group "layers/gru/cell" implies: GRU.
    """
    paths = {layer.path for layer in layers}
    result = []
    for layer in layers:
        names = layer.path.split("/")
        groups = layer.tensors[0].location.partition("/vars/")[0].split("/") if layer.tensors else []
        # The layer "gru/gru_cell" has the group "layers/gru/cell": the group has one part more than the path.
        if names[0] not in paths and len(groups) == len(names) + 1 and (name := class_of(groups[1])):
            paths.add(names[0])
            result.append(LayerView(path=names[0], kinds=(qualified(name),)))
        result.append(layer)
    return tuple(result)


def with_attributes(layers: tuple[LayerView, ...]) -> tuple[LayerView, ...]:
    """Return the layers with `LayerView.attribute` set, such as "cell" for the cell of an RNN."""
    by_path = {layer.path: layer for layer in layers}
    named = []
    for layer in layers:
        whole = next((by_path[prefix] for prefix in _prefixes(layer.path) if prefix in by_path), None)
        if whole is None:
            named.append(layer)
        else:
            part = made(LayerView, {**vars(layer), "attribute": _attribute(whole, layer)})
            named.append(_with_equation(whole, part))
    return _with_places(tuple(named))


_ATTENTIONS = ("keras.layers.MultiHeadAttention", "keras.layers.GroupQueryAttention")


def _with_equation(whole: LayerView, part: LayerView) -> LayerView:
    """Return an EinsumDense inside an attention with its equation "abc,cde->abde"; return other layers unchanged.

    A weight file does not contain the equation.
    """
    if whole.kind not in _ATTENTIONS or part.kind != "keras.layers.EinsumDense" or part.config is not None:
        return part
    is_output = part.attribute == "output_dense"
    equation, bias_axes = ("abcd,cde->abe", "e") if is_output else ("abc,cde->abde", "de")
    has_bias = any(tensor.role == "bias" for tensor in part.tensors)
    return replace(part, config={"equation": equation, "bias_axes": bias_axes if has_bias else None})


def _with_places(layers: tuple[LayerView, ...]) -> tuple[LayerView, ...]:
    """Return the layers; the cells of a StackedRNNCells get "cells.0", "cells.1" as `LayerView.attribute`.

    If the order of the cells is unknown, their attributes are unchanged.
    """
    by_path = {layer.path: layer for layer in layers}
    places: dict[str, int] = {}
    for stack in layers:
        if stack.kind == _STACK:
            owner = by_path.get(stack.path.rpartition("/")[0])
            cells = [layer for layer in layers if layer.path.rpartition("/")[0] == stack.path]
            places |= _places((owner.config if owner else None) or {}, cells)
    return tuple(
        replace(layer, attribute=f"cells.{places[layer.path]}") if layer.path in places else layer for layer in layers
    )


def _places(config: Mapping[str, Any], cells: Sequence[LayerView]) -> dict[str, int]:
    """Return, for the path of each cell in a StackedRNNCells, its position: 0 for the first; {} if unknown.

    The positions follow from the configuration of the RNN, else from the numbers of the groups. Keras numbers the
    groups of each class separately, so the numbers give the order only if all cells have the same class.

    Args:
        config: The configuration of the RNN that contains the stack; empty if the file has none.
        cells: The cells of the stack.
    """
    stack = (config.get("cell") or {}).get("config", {}).get("cells", ())
    named = {cell.get("config", {}).get("name"): place for place, cell in enumerate(stack)}
    if named:
        names = {cell.path: cell.path.rpartition("/")[2] for cell in cells}
        return {path: named[name] for path, name in names.items() if name in named}
    if len({cell.kind for cell in cells}) != 1:
        return {}
    numbers = {cell.path: re.search(r"_(\d+)$", cell.attribute) for cell in cells}
    return {path: int(found[1]) if found else 0 for path, found in numbers.items()}


def _attribute(whole: LayerView, part: LayerView) -> str:
    """Return the attribute path by which an outer layer holds an inner one: "cell", "forward_layer/cell".

    In a Keras 3 file the names of the groups are the attributes. A file of Keras 2 has the names of the inner layers,
    from which the attributes follow.
    """
    names = part.path.removeprefix(f"{whole.path}/").split("/")
    group, variables, _ = part.tensors[0].location.partition("/vars/") if part.tensors else ("", "", "")
    if variables:
        return "/".join(name.lstrip("_") for name in group.split("/")[-len(names) :])
    if part.kind == _STACK:
        return "cell"
    if whole.kind == "keras.layers.TimeDistributed":
        return "/".join(["layer", *names[1:]])
    return "/".join(attribute_of(name) for name in names)
