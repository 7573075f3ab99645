"""Chooses within groups of layers that all fit each other: by uniqueness, by names, by order."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair
from keras3conv.model.views import LayerView, Side
from keras3conv.planner.evidence import flow, names
from keras3conv.planner.evidence.structure import Group

Places = Mapping[flow.Place, flow.Position]


_SHOWN_CANDIDATES = 5


def numbers(groups: Iterable[Group]) -> dict[flow.Place, int]:
    """The number of the group of every layer."""
    found: dict[flow.Place, int] = {}
    for number, group in enumerate(groups):
        found |= {("torch", layer.path): number for layer in group.torch_layers}
        found |= {("keras", layer.path): number for layer in group.keras_layers}
    return found


def anchors(pairs: Iterable[Pair]) -> dict[flow.Place, int]:
    """A number for the layers of every pair that was made before, which no group has."""
    found: dict[flow.Place, int] = {}
    for number, pair in enumerate(pairs, 1):
        found |= {("torch", path): -number for path in pair.torch.split(" + ")}
        found |= {("keras", path): -number for path in pair.keras.split(" + ")}
    return found


def match_groups(groups: Iterable[Group], places: Places) -> Iterator[Pair]:
    """Pairs the layers of every group; what cannot be decided is left without a pair.

    Args:
        groups: Layers that fit each other.
        places: Where the layers stand in the flow of the data; empty where that is not known.
    """
    for group in groups:
        yield from _match(group, places)


def _match(group: Group, places: Places) -> Iterator[Pair]:
    if _is_one_pair(group):
        yield from _only(group, "shape", "no other layer has these shapes")
        return
    for part in _by_running(group):
        for alike, at_one_place in _by_flow(part, places) if places else ((part, False),):
            if at_one_place and _is_one_pair(alike):
                yield from _only(alike, "data flow", "the only one with these layers before or after it")
                continue
            for subgroup in _by_meaning(alike):
                if at_one_place and _is_one_pair(subgroup):
                    yield from _only(subgroup, "name", names.meaning(subgroup.torch_layers[0].path))
                else:
                    yield from _by_name_or_order(subgroup, _doubt(alike) if at_one_place else [])


def _only(group: Group, kind: EvidenceKind, detail: str) -> Iterator[Pair]:
    """The pair of a group that has no other."""
    (torch,), (keras,) = group.torch_layers, group.keras_layers
    yield from _pair(group, torch, keras, [Evidence(kind=kind, detail=detail)])


def _doubt(group: Group) -> list[Evidence]:
    number = len(group.torch_layers)
    return [Evidence(kind="interchangeable", detail=f"{number} layers stand at one place of the flow of the data")]


def _is_one_pair(group: Group) -> bool:
    return len(group.torch_layers) == len(group.keras_layers) == 1


def _by_running(group: Group) -> Iterator[Group]:
    """Layers that run and layers that never do are not each other's counterpart, where that is known of both."""

    def runs(layer: LayerView) -> bool:
        return layer.calls is None or len(layer.calls) > 0

    yield from _split(group, lambda layer: "runs" if runs(layer) else "never runs")


_PLACES: tuple[Callable[[flow.Position], Hashable], ...] = (
    lambda place: place,
    lambda place: (place.before, place.after),
    lambda place: place.before,
    lambda place: place.after,
    lambda place: place.near,
)
"""What two layers may have in common, the most first; the last does not tell them from others far away."""


def _by_flow(group: Group, places: Places) -> Iterator[tuple[Group, bool]]:
    """Splits off the layers at one place of the flow of the data, and says whether they are; the rest comes last."""
    rest = group
    for label in _PLACES:
        torch = _placed(rest.torch_layers, "torch", places, label)
        keras = _placed(rest.keras_layers, "keras", places, label)
        equal = [key for key in torch if key is not None and len(torch[key]) == len(keras.get(key, ()))]
        for key in equal:
            yield replace(group, torch_layers=torch[key], keras_layers=keras[key]), label is not _PLACES[-1]
        done = {layer.path for key in equal for layer in torch[key]}, {x.path for key in equal for x in keras[key]}
        rest = replace(
            group,
            torch_layers=tuple(layer for layer in rest.torch_layers if layer.path not in done[0]),
            keras_layers=tuple(layer for layer in rest.keras_layers if layer.path not in done[1]),
        )
    if rest.torch_layers or rest.keras_layers:
        yield rest, False


def _placed(
    layers: Sequence[LayerView], side: Side, places: Places, label: Callable[[flow.Position], Hashable]
) -> dict[Hashable, tuple[LayerView, ...]]:
    """The layers of a side by a label of their place; None is the label of those that have none."""
    placed: dict[Hashable, list[LayerView]] = {}
    for layer in layers:
        place = places.get((side, layer.path))
        placed.setdefault(None if place is None else label(place), []).append(layer)
    return {key: tuple(found) for key, found in placed.items()}


def _by_meaning(group: Group) -> Iterator[Group]:
    """Query goes to query: names split a group where both sides use the same words equally often."""
    yield from _split(group, lambda layer: names.meaning(layer.path))


def _split(group: Group, label: Callable[[LayerView], str]) -> Iterator[Group]:
    """Splits a group by a label, if both sides have every label equally often; else leaves it whole."""
    torch, keras = _labelled(group.torch_layers, label), _labelled(group.keras_layers, label)
    if {name: len(layers) for name, layers in torch.items()} != {name: len(layers) for name, layers in keras.items()}:
        yield group
        return
    for name, layers in torch.items():
        yield replace(group, torch_layers=tuple(layers), keras_layers=tuple(keras[name]))


def _labelled(layers: Sequence[LayerView], label: Callable[[LayerView], str]) -> dict[str, list[LayerView]]:
    labelled: dict[str, list[LayerView]] = {}
    for layer in layers:
        labelled.setdefault(label(layer), []).append(layer)
    return labelled


def _by_name_or_order(group: Group, doubts: Sequence[Evidence]) -> Iterator[Pair]:
    torch, keras = group.torch_layers, group.keras_layers
    both_run = known(torch) and known(keras)
    if both_run and len(torch) == len(keras):
        yield from _in_order(group, by_first_call(torch), by_first_call(keras), "call order", doubts)
        return
    named = list(_same_names(group))
    yield from named
    paired = {pair.torch for pair in named}, {pair.keras for pair in named}
    rest_torch = tuple(layer for layer in torch if layer.path not in paired[0])
    rest_keras = tuple(layer for layer in keras if layer.path not in paired[1])
    if len(rest_torch) > 1 and not all(layer.is_ordered for layer in rest_keras):
        yield from _same_last_names(replace(group, torch_layers=rest_torch, keras_layers=rest_keras))
        return
    if len(rest_torch) == len(rest_keras) and rest_torch:
        first = by_first_call(rest_torch) if known(rest_torch) else list(rest_torch)
        second = by_first_call(rest_keras) if known(rest_keras) else list(rest_keras)
        kind: EvidenceKind = "shape" if len(rest_torch) == 1 else "definition order"
        yield from _in_order(group, first, second, kind, doubts)


def _same_names(group: Group) -> Iterator[Pair]:
    """Pairs of layers whose names are the same words, and no other layer's of the group."""
    torch = _labelled(group.torch_layers, lambda layer: " ".join(names.words(layer.path)))
    keras = _labelled(group.keras_layers, lambda layer: " ".join(names.words(layer.path)))
    for name, layers in torch.items():
        if len(layers) == 1 and len(keras.get(name, ())) == 1:
            yield from _pair(group, layers[0], keras[name][0], [Evidence(kind="name", detail=name)])


def _same_last_names(group: Group) -> Iterator[Pair]:
    """Pairs of layers with the same last name, where the order of a file of weights means nothing."""
    torch = _labelled(group.torch_layers, lambda layer: names.words(layer.path)[-1])
    keras = _labelled(group.keras_layers, lambda layer: names.words(layer.path)[-1])
    for name, layers in torch.items():
        if len(layers) == 1 and len(keras.get(name, ())) == 1:
            yield from _pair(group, layers[0], keras[name][0], [Evidence(kind="name", detail=name)])


def _in_order(
    group: Group,
    torch: Sequence[LayerView],
    keras: Sequence[LayerView],
    kind: EvidenceKind,
    doubts: Sequence[Evidence],
) -> Iterator[Pair]:
    candidates = tuple(layer.path for layer in keras)
    for place, (first, second) in enumerate(zip(torch, keras, strict=True), 1):
        detail = f"{place} of {len(torch)} that fit" if len(torch) > 1 else "the only one left that fits"
        others = [path for path in candidates[max(0, place - 3) : place + 3] if path != second.path]
        evidence = [Evidence(kind=kind, detail=detail)]
        if names.words(first.path) == names.words(second.path) and kind != "shape":
            evidence.insert(0, Evidence(kind="name", detail=" ".join(names.words(first.path))))
        evidence += doubts
        yield from _pair(group, first, second, evidence, others[:_SHOWN_CANDIDATES])


def _pair(
    group: Group, torch: LayerView, keras: LayerView, evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Iterator[Pair]:
    """The pair of two layers of a group; nothing where their configurations exclude each other."""
    rule = group.rule_for(torch, keras)
    if rule is not None:
        yield make_pair(rule, torch, keras, evidence, candidates)


def known(layers: tuple[LayerView, ...]) -> bool:
    """Whether it is known when these layers run, and every one of them does."""
    return all(layer.calls for layer in layers)


def by_first_call(layers: tuple[LayerView, ...]) -> list[LayerView]:
    """The layers in the order in which they first run."""
    return sorted(layers, key=lambda layer: layer.calls[0] if layer.calls else 0)
