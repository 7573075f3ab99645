"""Evidence of the data: two layers correspond if what leads to them, and what follows from them, is the same.

A run tells of which layers' outputs each input was made. Among layers of one group that makes the branches of a network
different from each other, in whatever order either side runs them. Only layers that have a counterpart of their shapes
count; whatever else stands between them (an activation, a container, a layer that one side does not have) is passed
through.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keras3conv.model.views import LayerView, Side

Place = tuple[Side, str]
"""A layer: its side and its path."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a layer stands in the flow of the data; equal numbers on both sides mean the same.

    Attributes:
        before: Everything that leads to it.
        after: Everything that follows from it.
        near: What stands at most two layers from it, which a difference far away leaves as it is.
        beside: The groups of the layers that are given the very same value.
    """

    before: int
    after: int
    near: int
    beside: tuple[int, ...] = ()


def positions(
    torch: Sequence[LayerView], keras: Sequence[LayerView], groups: Mapping[Place, int]
) -> Mapping[Place, Position]:
    """The positions of the layers that are in groups; none where one side could not be followed.

    Args:
        torch: Every layer of the torch side.
        keras: Every layer of the Keras side.
        groups: For the layers of both sides that may correspond: the number of their group.
    """
    numbers: dict[tuple[object, ...], int] = {}
    found: dict[Place, Position] = {}
    sides: tuple[tuple[Side, Sequence[LayerView]], ...] = (("torch", torch), ("keras", keras))
    for side, layers in sides:
        running = sorted((layer for layer in layers if layer.calls), key=_first_call)
        own = {layer.path: groups[side, layer.path] for layer in running if (side, layer.path) in groups}
        if not own or any(layer.follows is None for layer in running if layer.path in own):
            return {}
        edges = _edges(running, own)
        forward = _numbered("before", own, own, edges, numbers)
        turned = _turned(edges)
        backward = _numbered("after", reversed(own), own, turned, numbers)
        near = _surrounded(_surrounded(own, edges, turned, numbers), edges, turned, numbers)
        for layer in running:
            if (path := layer.path) in own:
                beside = sorted(own[other] for other in layer.beside or () if other in own)
                found[side, path] = Position(
                    before=forward[path], after=backward[path], near=near[path], beside=tuple(beside)
                )
    return found


def _first_call(layer: LayerView) -> int:
    return layer.calls[0] if layer.calls else 0


def _edges(running: Sequence[LayerView], own: Mapping[str, int]) -> dict[str, set[str]]:
    """For every layer that counts, those before it that count; in the order of the run, so that none leads back."""
    passes = {layer.path: layer.passes or () for layer in running}
    made_of: dict[str, set[str]] = {path: {path} for path in own}
    edges: dict[str, set[str]] = {}
    for layer in running:
        if layer.path in own:
            sources = [_made_of(source, passes, made_of) for source in layer.follows or ()]
            edges[layer.path] = set[str]().union(*sources) & edges.keys()
    return edges


def _made_of(path: str, passes: Mapping[str, tuple[str, ...]], made_of: dict[str, set[str]]) -> set[str]:
    """The layers that count of whose outputs the output of any layer is made; remembered in `made_of`."""
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


def _turned(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    turned: dict[str, set[str]] = {path: set() for path in edges}
    for path, sources in edges.items():
        for source in sources:
            turned[source].add(path)
    return turned


def _numbered(
    direction: str,
    order: Iterable[str],
    groups: Mapping[str, int],
    edges: Mapping[str, set[str]],
    numbers: dict[tuple[object, ...], int],
) -> dict[str, int]:
    """A number for every layer: the same for layers of one group whose neighbours in this direction have the same."""
    found: dict[str, int] = {}
    for path in order:
        neighbours = sorted(found[neighbour] for neighbour in edges[path] if neighbour in found)
        key = (direction, groups[path], *neighbours)
        found[path] = numbers.setdefault(key, len(numbers))
    return found


def _surrounded(
    labels: Mapping[str, int],
    edges: Mapping[str, set[str]],
    turned: Mapping[str, set[str]],
    numbers: dict[tuple[object, ...], int],
) -> dict[str, int]:
    """A number for every layer: the same for layers of one label whose neighbours have the same labels."""
    found = {}
    for path, label in labels.items():
        before, after = (tuple(sorted(labels[other] for other in side[path])) for side in (edges, turned))
        found[path] = numbers.setdefault(("near", label, before, after), len(numbers))
    return found
