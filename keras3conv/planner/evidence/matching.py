"""Choose the pairs within a group: torch layers and Keras layers that all fit each other by class and shapes.

A group is split by call graph and names until a subgroup has one layer on each side; the remaining layers are paired in
order.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair
from keras3conv.model.views import LayerView, Side
from keras3conv.planner.evidence import flow, names
from keras3conv.planner.evidence.series import in_series
from keras3conv.planner.evidence.structure import Group

Positions = Mapping[flow.LayerKey, flow.Position]

_SHOWN_CANDIDATES = 5


def numbers(groups: Iterable[Group]) -> dict[flow.LayerKey, int]:
    """Return a dict from layer (side and path) to the number of its group; groups are numbered from 0."""
    found: dict[flow.LayerKey, int] = {}
    for number, group in enumerate(groups):
        found |= {("torch", layer.path): number for layer in group.torch_layers}
        found |= {("keras", layer.path): number for layer in group.keras_layers}
    return found


def anchors(pairs: Iterable[Pair]) -> dict[flow.LayerKey, int]:
    """Return group numbers for the layers of existing pairs: -1 for both layers of the first pair, -2 for the second.

    The comparison of the call graphs uses them together with the groups of unpaired layers, whose numbers begin at 0.
    """
    found: dict[flow.LayerKey, int] = {}
    for number, pair in enumerate(pairs, 1):
        found |= {("torch", path): -number for path in pair.torch_layers}
        found |= {("keras", path): -number for path in pair.keras_layers}
    return found


def match_groups(groups: Iterable[Group], positions: Positions) -> Iterator[Pair]:
    """Yield the pairs of layers within every group; a layer stays unpaired if neither graph, names nor order decide.

    Args:
        groups: Groups of layers that fit each other.
        positions: The positions of the layers in the call graph; empty if the graph is unknown.
    """
    for group in groups:
        counts = len(group.torch_layers), len(group.keras_layers)
        for pair in _match(group, positions):
            yield pair if counts[0] == counts[1] else _doubted(pair, counts)


def _doubted(pair: Pair, counts: tuple[int, int]) -> Pair:
    """Return a pair with an `Evidence` added that marks it as unconfirmed: "3 torch layers fit 2 Keras layers".

    Args:
        pair: A pair of two layers of a group.
        counts: The number of torch layers and the number of Keras layers in this group.
    """
    doubt = Evidence(kind="interchangeable", detail=f"{counts[0]} torch layers fit {counts[1]} Keras layers")
    return replace(pair, evidence=(*pair.evidence, doubt))


def _match(group: Group, positions: Positions) -> Iterator[Pair]:
    if _is_one_pair(group):
        yield from _single_pair(group, "shape", "no other layer has these shapes")
        return
    for part in _by_running(group):
        for subgroup, same_position in _by_position(part, positions) if positions else ((part, False),):
            if same_position and _is_one_pair(subgroup):
                yield from _single_pair(subgroup, "data flow", "no other layer has these predecessors or successors")
                continue
            for synonyms in _by_meaning(subgroup):
                if same_position and _is_one_pair(synonyms):
                    yield from _single_pair(synonyms, "name", names.meaning(names.name_of(synonyms.torch_layers[0])))
                else:
                    yield from _by_name_or_order(synonyms, _doubt(subgroup) if same_position else [])


def _single_pair(group: Group, kind: EvidenceKind, detail: str) -> Iterator[Pair]:
    """Yield the pair of a group that has only one layer on each side; yield nothing if no rule allows the pair."""
    (torch,), (keras,) = group.torch_layers, group.keras_layers
    yield from _pair(group, torch, keras, [Evidence(kind=kind, detail=detail)])


def _doubt(group: Group) -> list[Evidence]:
    number = len(group.torch_layers)
    return [Evidence(kind="interchangeable", detail=f"{number} layers have the same position in the call graph")]


def _is_one_pair(group: Group) -> bool:
    return len(group.torch_layers) == len(group.keras_layers) == 1


def _by_running(group: Group) -> list[Group]:
    """Split a group of fitting layers in two: layers that a traced run called, and layers that it did not call.

    Do not split it if a part would have more layers of one side than of the other.
    """
    parts, rest = _split(group, lambda layer, _: layer.run.calls is None or len(layer.run.calls) > 0)
    return [group] if rest.torch_layers or rest.keras_layers else parts


_LABELS: tuple[Callable[[flow.Position], Hashable], ...] = (
    lambda position: position,
    lambda position: (position.before, position.after),
    lambda position: position.before,
    lambda position: position.after,
    lambda position: position.near,
)
"""Functions that return the numbers of a call graph position to compare, the strictest comparison first.

The last function compares only nearby layers.
"""


def _by_position(group: Group, positions: Positions) -> Iterator[tuple[Group, bool]]:
    """Split a group of fitting layers by their position in the call graph.

    First yield the subgroups whose layers have equal predecessors or successors in the whole graph, each with True.
    Then yield, with False, the subgroups whose layers have equal neighbours (at most two edges away), and last the
    remaining layers.
    """
    rest = group
    for label in _LABELS:
        parts, rest = _split(rest, _of_position(positions, label))
        yield from ((part, label is not _LABELS[-1]) for part in parts)
    if rest.torch_layers or rest.keras_layers:
        yield rest, False


def _of_position(
    positions: Positions, label: Callable[[flow.Position], Hashable]
) -> Callable[[LayerView, Side], Hashable]:
    """Return a function from a layer and its side to the label of its position; None for a layer without a position."""

    def of_layer(layer: LayerView, side: Side) -> Hashable:
        position = positions.get((side, layer.path))
        return None if position is None else label(position)

    return of_layer


def _by_meaning(group: Group) -> Iterator[Group]:
    """Split a group of fitting layers by the function that their names express, such as query, key or value.

    A function makes a subgroup if as many torch layers as Keras layers have it. All other layers stay in one group.
    """
    parts, rest = _split(group, lambda layer, _: names.meaning(names.name_of(layer)) or None)
    yield from parts
    if rest.torch_layers and rest.keras_layers:
        yield rest


def _split(group: Group, label: Callable[[LayerView, Side], Hashable]) -> tuple[list[Group], Group]:
    """Split off subgroups of layers with the same label, for each label that as many torch layers as Keras layers have.

    Args:
        group: A group of fitting layers.
        label: Computes the label of a layer of a side; None for a layer that belongs to no subgroup.

    Returns:
        The subgroups, and the group of all other layers.
    """
    torch = _labelled(group.torch_layers, lambda layer: label(layer, "torch"))
    keras = _labelled(group.keras_layers, lambda layer: label(layer, "keras"))
    parts = {
        key: replace(group, torch_layers=tuple(layers), keras_layers=tuple(keras[key]))
        for key, layers in torch.items()
        if key is not None and len(layers) == len(keras.get(key, ()))
    }
    rest = replace(
        group,
        torch_layers=tuple(layer for layer in group.torch_layers if label(layer, "torch") not in parts),
        keras_layers=tuple(layer for layer in group.keras_layers if label(layer, "keras") not in parts),
    )
    return list(parts.values()), rest


def _labelled(layers: Iterable[LayerView], label: Callable[[LayerView], Hashable]) -> dict[Hashable, list[LayerView]]:
    labelled: dict[Hashable, list[LayerView]] = {}
    for layer in layers:
        labelled.setdefault(label(layer), []).append(layer)
    return labelled


def _by_name_or_order(group: Group, doubts: Sequence[Evidence]) -> Iterator[Pair]:
    torch, keras = group.torch_layers, group.keras_layers
    both_run = _all_ran(torch) and _all_ran(keras)
    if both_run and len(torch) == len(keras):
        yield from _in_order(group, _by_first_call(torch), _by_first_call(keras), "call order", doubts)
        return
    named = list(_named_alike(group, _words_of))
    yield from named
    paired = {pair.torch for pair in named}, {pair.keras for pair in named}
    rest_torch = tuple(layer for layer in torch if layer.path not in paired[0])
    rest_keras = tuple(layer for layer in keras if layer.path not in paired[1])
    if len(rest_torch) > 1 and not all(layer.is_ordered for layer in rest_keras):
        yield from _named_alike(replace(group, torch_layers=rest_torch, keras_layers=rest_keras), _last_word_of)
        return
    if len(rest_torch) == len(rest_keras) and rest_torch:
        first = _by_first_call(rest_torch) if _all_ran(rest_torch) else list(rest_torch)
        second = _by_first_call(rest_keras) if _all_ran(rest_keras) else list(rest_keras)
        if len(rest_torch) == 1:
            yield from _in_order(group, first, second, "shape", doubts)
            return
        matches = in_series(first, second)
        pairs = _in_order(
            group, [match.torch for match in matches], [match.keras for match in matches], "definition order", doubts
        )
        unordered = {match.torch.path for match in matches if match.by_order and not match.torch.is_ordered}
        for pair in pairs:
            yield replace(pair, evidence=(*pair.evidence, _SORTED)) if pair.torch in unordered else pair


_SORTED = Evidence(
    kind="interchangeable", detail="the torch file lists its tensors by name, which is not the order of the layers"
)


def _words_of(layer: LayerView) -> str:
    return " ".join(names.words(names.name_of(layer)))


def _last_word_of(layer: LayerView) -> str:
    return names.words(names.name_of(layer))[-1]


def _named_alike(group: Group, name: Callable[[LayerView], str]) -> Iterator[Pair]:
    """Pair the torch and Keras layers of a group that have the same name: "layer1.conv" and "layer_1/conv".

    A layer is left out if another layer of its model in the group has the same name.

    Args:
        group: A group of fitting layers.
        name: Computes the name: all words of a path, or only the last one. The last one helps with weight files that
            store the tensors in no meaningful order.
    """
    for part in _split(group, lambda layer, _: name(layer))[0]:
        if _is_one_pair(part):
            yield from _single_pair(part, "name", name(part.torch_layers[0]))


def _in_order(
    group: Group,
    torch: Sequence[LayerView],
    keras: Sequence[LayerView],
    kind: EvidenceKind,
    doubts: Sequence[Evidence],
) -> Iterator[Pair]:
    candidates = tuple(layer.path for layer in keras)
    for position, (first, second) in enumerate(zip(torch, keras, strict=True), 1):
        many = len(torch) > 1
        detail = f"number {position} of {len(torch)} layers that fit" if many else "the only unpaired layer that fits"
        others = [path for path in candidates[max(0, position - 3) : position + 3] if path != second.path]
        evidence = [Evidence(kind=kind, detail=detail)]
        if (words := _words_of(first)) == _words_of(second) and kind != "shape":
            evidence.insert(0, Evidence(kind="name", detail=words))
        evidence += doubts
        yield from _pair(group, first, second, evidence, others[:_SHOWN_CANDIDATES])


def _pair(
    group: Group, torch: LayerView, keras: LayerView, evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Iterator[Pair]:
    """Yield the pair of two layers that fit; yield nothing if no rule accepts the configurations of both.

    Args:
        group: The group of fitting layers that contains both.
        torch: A torch layer of the group.
        keras: A Keras layer of the group.
        evidence: The reasons for the pair, to be recorded in it.
        candidates: Other layers that fit as well, to be recorded in the pair.
    """
    rule = group.rule_for(torch, keras)
    if rule is not None:
        yield make_pair(rule, torch, keras, evidence, candidates)


def _all_ran(layers: tuple[LayerView, ...]) -> bool:
    """Return whether a traced run called each of these layers at least once."""
    return all(layer.run.calls for layer in layers)


def _by_first_call(layers: tuple[LayerView, ...]) -> list[LayerView]:
    """Return the layers sorted by their first call in a traced run of the model."""
    return sorted(layers, key=lambda layer: layer.run.first_call)
