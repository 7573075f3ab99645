"""Compare the positions of layers in the call graphs of both sides, by their predecessors and successors.

A traced run shows from which layers' outputs each input was computed. This distinguishes the branches of a network,
even if the two sides run them in different orders. Only layers that fit a layer of the other side are nodes of the
graph. Layers between them (an activation, a container, a layer that only one side has) are skipped. Layers that may
correspond to each other, because their classes and shapes fit, are in the same group; a group has a number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keras3conv.model.views import LayerView, Side

LayerKey = tuple[Side, str]
"""A layer of either model: the side ("torch" or "keras") and the path."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """The position of a layer in the call graph, as numbers that can be compared between the two models.

    Each of the first three numbers identifies a part of the call graph; isomorphic parts have the same number.

    Attributes:
        before: The number of the part that has all layers before the layer.
        after: The number of the part that has all layers after the layer.
        near: The number of the part that has all layers at most two edges away from the layer.
        beside: The group numbers (layers that fit each other are one group) of the layers with the same input tensor.
    """

    before: int
    after: int
    near: int
    beside: tuple[int, ...] = ()


def positions(
    torch: Sequence[LayerView], keras: Sequence[LayerView], groups: Mapping[LayerKey, int]
) -> Mapping[LayerKey, Position]:
    """Return the position in the call graph of each layer that is in a group, by (side, path): ("torch", "fc1").

    Return an empty dict if the call graph of one of the two models is unknown.

    Args:
        torch: Every layer of the torch model.
        keras: Every layer of the Keras model.
        groups: The group number of each layer; layers that may correspond to each other are in the same group.
    """
    numbers: dict[tuple[object, ...], int] = {}
    found: dict[LayerKey, Position] = {}
    sides: tuple[tuple[Side, Sequence[LayerView]], ...] = (("torch", torch), ("keras", keras))
    for side, layers in sides:
        running = sorted((layer for layer in layers if layer.run.calls), key=lambda layer: layer.run.first_call)
        own = {layer.path: groups[side, layer.path] for layer in running if (side, layer.path) in groups}
        if not own or any(layer.run.follows is None for layer in running if layer.path in own):
            return {}
        edges = _edges(running, own)
        forward = _numbered("before", own, own, edges, numbers)
        reverse = _reversed(edges)
        backward = _numbered("after", reversed(own), own, reverse, numbers)
        near = _surrounded(_surrounded(own, edges, reverse, numbers), edges, reverse, numbers)
        for layer in running:
            if (path := layer.path) in own:
                beside = sorted(own[other] for other in layer.run.beside or () if other in own)
                found[side, path] = Position(
                    before=forward[path], after=backward[path], near=near[path], beside=tuple(beside)
                )
    return found


def _edges(running: Sequence[LayerView], own: Mapping[str, int]) -> dict[str, set[str]]:
    """Return the paths of the predecessors of each layer in the call graph, by the path of the layer.

    Only layers that ran before a layer are its predecessors, so the graph has no cycle.

    Args:
        running: All layers that ran, in call order.
        own: The layers that fit a layer of the other side (the nodes of the graph), with the numbers of their groups.
    """
    passes = {layer.path: layer.run.passes or () for layer in running}
    made_of: dict[str, set[str]] = {path: {path} for path in own}
    edges: dict[str, set[str]] = {}
    for layer in running:
        if layer.path in own:
            sources = [_made_of(source, passes, made_of) for source in layer.run.follows or ()]
            edges[layer.path] = set[str]().union(*sources) & edges.keys()
    return edges


def _made_of(path: str, passes: Mapping[str, tuple[str, ...]], made_of: dict[str, set[str]]) -> set[str]:
    """Return the paths of the nodes (layers that fit one of the other side) that a layer's output directly depends on.

    If the layer is a node, the result is only its own path. If it is not (an activation, a container), the result is
    the nearest nodes before it.

    Args:
        path: The path of the layer.
        passes: For each layer, the layers whose outputs its own output was computed from.
        made_of: The results so far, by path, to which new ones are added. The caller puts in {path: {path}} for every
            node of the graph.
    """
    waiting = [path]
    begun = {path}
    while waiting:
        last = waiting[-1]
        unknown = [source for source in passes.get(last, ()) if source not in made_of and source not in begun]
        if last in made_of or not unknown:
            known = [made_of.get(source, set()) for source in passes.get(last, ())]
            made_of.setdefault(last, set().union(*known))
            waiting.pop()
        else:
            begun.update(unknown)
            waiting += unknown
    return made_of[path]


def _reversed(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    reverse: dict[str, set[str]] = {path: set() for path in edges}
    for path, sources in edges.items():
        for source in sources:
            reverse[source].add(path)
    return reverse


def _numbered(
    direction: str,
    order: Iterable[str],
    groups: Mapping[str, int],
    edges: Mapping[str, set[str]],
    numbers: dict[tuple[object, ...], int],
) -> dict[str, int]:
    """Return a number for each layer, which identifies the subgraph of the layer and all layers before it.

    Two layers, of one model or of both, get the same number if these subgraphs are equal except for names: their layers
    are in the same groups.

    Args:
        direction: "before", or "after" if the layers after a layer count instead of those before it.
        order: The paths of the layers, in call order; for "after" in reverse.
        groups: The number of the group of each layer.
        edges: The predecessors of each layer; for "after" the successors.
        numbers: The number of each subgraph of both models so far, by (direction, group, numbers of the predecessors);
            new ones are added.
    """
    found: dict[str, int] = {}
    for path in order:
        neighbours = sorted(found[neighbour] for neighbour in edges[path] if neighbour in found)
        key = (direction, groups[path], *neighbours)
        found[path] = numbers.setdefault(key, len(numbers))
    return found


def _surrounded(
    labels: Mapping[str, int],
    edges: Mapping[str, set[str]],
    reverse: Mapping[str, set[str]],
    numbers: dict[tuple[object, ...], int],
) -> dict[str, int]:
    """Return a number for each layer; two layers get the same if their labels and their neighbours' labels are equal.

    Args:
        labels: The label of each layer: the number of its group, or the number that an earlier call gave it.
        edges: The predecessors of each layer.
        reverse: The successors of each layer.
        numbers: The numbers given so far to layers of both models, by the labels; new ones are added in place.
    """
    found = {}
    for path, label in labels.items():
        before, after = (tuple(sorted(labels[other] for other in side[path])) for side in (edges, reverse))
        found[path] = numbers.setdefault(("near", label, before, after), len(numbers))
    return found
