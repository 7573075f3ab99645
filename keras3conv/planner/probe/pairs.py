"""What the probe found, as pairs of a plan; each says how it was confirmed, or that it was not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras3conv.alignment.binding import RULE, make_pair
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.numerics.fingerprint import EXACT
from keras3conv.planner.probe.layouts import transforms_between
from keras3conv.planner.probe.option import Option, Part
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.planner.probe.search import Search
from keras3conv.planner.probe.trail import Choice
from keras3conv.planner.probe.weights import moves
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import WeightMapping
from keras3conv.rules.units import numbered
from keras3conv.transforms import Array, Beside, Chain, Concat, Each, Split, Transform


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What the probe found.

    Attributes:
        torch: The torch side, with what the run told.
        keras: The Keras side, likewise.
        pairs: The pairs that it found.
        notes: What the plan says of it.
    """

    torch: ModelView
    keras: ModelView
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


_SHOWN = 5


def probed_pairs(search: Search) -> Iterator[Pair]:
    """The pairs of everything that was chosen; the parts of one torch layer are one pair."""
    parts: dict[str, list[Choice]] = {}
    _open_together(search.choices)
    _forget_taken(search.choices)
    for choice in search.choices.values():
        if choice.option.kind == "part" or choice.option.is_piece:
            name = choice.option.parts[0].path if choice.option.is_piece else choice.option.torch
            parts.setdefault(name, []).append(choice)
        else:
            yield from _pairs_of(choice, search.run)
    for choices in parts.values():
        yield from _packed_pairs(sorted(choices, key=lambda choice: choice.option.parts[0].start), search.run)


def _open_together(choices: Mapping[str, Choice]) -> None:
    """The last of several that nothing told apart had no other left; it is as open as they are."""
    for choice in list(choices.values()):
        if choice.settled_by or not choice.others or choice.option.kind == "parameter":
            continue
        for other in choices.values():
            mine = [option for option in choice.others if set(option.parts) == set(other.option.parts)]
            if mine and not other.settled_by and not other.others:
                other.others = (choice.option,)


def _forget_taken(choices: Mapping[str, Choice]) -> None:
    """What another layer was filled with, and surely, is no candidate any more."""
    taken: dict[str, list[Part]] = {}
    for choice in choices.values():
        if choice.settled_by or not choice.others:
            for part in choice.option.parts:
                taken.setdefault(part.key, []).append(part)
    for choice in choices.values():
        choice.others = tuple(
            other
            for other in choice.others
            if not any(part.overlaps(used) for part in other.parts for used in taken.get(part.key, ()))
        )


def rest_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Single tensors that are left over on both sides, of one size that no other has: what never ran."""
    pairs = tuple(pairs)
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    counterparts = _counterparts(torch, keras, pairs)
    ours = [tensor for tensor in _untied(torch, placed) if moves(tensor)]
    theirs = [tensor for tensor in keras.tensors() if tensor.path not in placed and not tensor.is_seed]
    for tensor in theirs:
        fitting = [other for other in ours if _sizes(other) == _sizes(tensor)]
        rivals = [other for other in theirs if _sizes(other) == _sizes(tensor)]
        ways = list(transforms_between(fitting[0].shape, tensor.shape)) if fitting else []
        if len(fitting) == len(rivals) == len(ways) == 1 and _may_belong(fitting[0], tensor, counterparts):
            mapping = WeightMapping(torch=(fitting[0].path,), keras=(tensor.path,), transform=ways[0])
            detail = "no other tensor that is left has this shape; it never ran"
            evidence = (Evidence(kind="shape", detail=detail),)
            yield Pair(torch=fitting[0].path, keras=tensor.path, rule=RULE, weights=(mapping,), evidence=evidence)


def _counterparts(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> dict[str, set[str]]:
    """The Keras layers that have tensors of a torch layer, by every tensor of it; and the other way round."""
    siblings = {
        tensor.path: layer.tensors for view in (torch, keras) for layer in view.layers for tensor in layer.tensors
    }
    found: dict[str, set[str]] = {}
    for pair in pairs:
        for mapping in pair.weights:
            for ours, theirs in ((mapping.torch, mapping.keras), (mapping.keras, mapping.torch)):
                others = {sibling.path for path in theirs for sibling in siblings.get(path, ())}
                for sibling in (sibling for path in ours for sibling in siblings.get(path, ())):
                    found.setdefault(sibling.path, set()).update(others)
    return found


def _may_belong(torch: TensorRef, keras: TensorRef, counterparts: Mapping[str, set[str]]) -> bool:
    """Whether both layers are each other's, as far as they have a place: a bias belongs where the rest of its layer is.

    A layer of which nothing has a place may be part of one that has: a head, of the table that it reverses.
    """
    ours, theirs = counterparts.get(torch.path), counterparts.get(keras.path)
    return ours is None or theirs is None or (keras.path in ours and torch.path in theirs)


def _untied(view: ModelView, placed: set[str]) -> Iterator[TensorRef]:
    storages = {tensor.storage for tensor in view.tensors() if tensor.path in placed and tensor.storage}
    for tensor in view.tensors():
        if tensor.path not in placed and (not tensor.storage or tensor.storage not in storages):
            storages.add(tensor.storage)
            yield tensor


def _sizes(tensor: TensorRef) -> tuple[int, ...]:
    return tuple(sorted(size for size in tensor.shape if size != 1))


def _pairs_of(choice: Choice, run: TorchRun) -> Iterator[Pair]:
    option, evidence = choice.option, _evidence(choice, run)
    candidates = _candidates(choice)
    if option.kind == "layer" and option.rule is not None:
        yield Pair(
            torch=option.torch,
            keras=option.keras.path,
            rule=option.rule.name,
            weights=option.mappings,
            evidence=evidence,
            candidates=candidates,
        )
        return
    for mapping in option.mappings:
        made = _joining(mapping, option.sources) if option.kind == "joined" else mapping
        yield Pair(
            torch=" + ".join(made.torch),
            keras=" + ".join(made.keras),
            rule=RULE,
            weights=(made,),
            evidence=evidence,
            candidates=candidates,
        )


def _joining(mapping: WeightMapping, sources: Mapping[str, Sequence[Part]]) -> WeightMapping:
    """The torch tensors are joined before the transform of the one that they are together."""
    (name,) = mapping.torch
    parts = sources[name]
    join = Concat(parts[0].axis, tuple(part.stop for part in parts))
    return WeightMapping(
        torch=tuple(part.path for part in parts), keras=mapping.keras, transform=Chain(join, mapping.transform)
    )


def _packed_pairs(choices: Sequence[Choice], run: TorchRun) -> Iterator[Pair]:
    """The one pair of a torch layer with all Keras layers that have a part of it; nothing if a part is missing."""
    layer = choices[0].option.layers[0]
    whole = {tensor.path: tensor for tensor in layer.tensors}
    first = choices[0].option.parts[0]
    ends = [choice.option.parts[0].stop for choice in choices]
    starts = [choice.option.parts[0].start for choice in choices]
    if starts != [0, *ends[:-1]] or ends[-1] != whole[first.path].shape[first.axis]:
        return
    evidence = max((_evidence(choice, run) for choice in choices), key=lambda found: found[-1].kind != "probe")
    candidates = tuple(dict.fromkeys(path for choice in choices for path in _candidates(choice)))[:_SHOWN]
    if pair := _by_rule(layer, choices, run, evidence, candidates):
        yield pair
        return
    for place in range(len(choices[0].option.mappings)):
        mappings = [choice.option.mappings[place] for choice in choices]
        parts = [choice.option.sources[mapping.torch[0]][0] for choice, mapping in zip(choices, mappings, strict=True)]
        cut = Split(parts[0].axis, tuple(part.stop - part.start for part in parts))
        keras = tuple(mapping.keras[0] for mapping in mappings)
        made = WeightMapping(
            torch=(parts[0].path,), keras=keras, transform=Chain(cut, _each([entry.transform for entry in mappings]))
        )
        yield Pair(
            torch=parts[0].path,
            keras=" + ".join(keras),
            rule=RULE,
            weights=(made,),
            evidence=evidence,
            candidates=candidates,
        )


def _by_rule(
    layer: LayerView,
    choices: Sequence[Choice],
    run: TorchRun,
    evidence: tuple[Evidence, ...],
    candidates: tuple[str, ...],
) -> Pair | None:
    """The pair that a rule for one layer against several makes, if it is what was confirmed."""
    together = numbered([choice.option.keras for choice in choices], "keras")
    wanted: dict[str, Array] = {}
    for choice in choices:
        wanted |= choice.option.values(run.weights)
    for rule in lookup(layer.kinds, together.kinds, (1, len(choices))):
        if not rule.parallel or not rule.applies(rule.config_of(layer)):
            continue
        try:
            pair = make_pair(rule, layer, together, evidence, candidates)
        except RuleError:  # the rule is for parts that are all split in one way
            continue
        made: dict[str, Array] = {}
        for mapping in pair.weights:
            given = tuple(run.weights[path] for path in mapping.torch)
            if mapping.transform.shapes(tuple(array.shape for array in given)):
                made |= dict(zip(mapping.keras, mapping.transform(given), strict=True))
        if made.keys() == wanted.keys() and all(np.array_equal(made[path], wanted[path]) for path in wanted):
            return pair
    return None


def _each(transforms: Sequence[Transform]) -> Transform:
    same = all(transform == transforms[0] for transform in transforms)
    return Each(transforms[0]) if same else Beside(*transforms)


def _candidates(choice: Choice) -> tuple[str, ...]:
    if choice.settled_by:
        return ()
    names = dict.fromkeys(_name(other) for other in choice.others if _name(other) != _name(choice.option))
    return tuple(names)[:_SHOWN]


def _name(option: Option) -> str:
    part = option.parts[0]
    if option.is_piece:
        return option.mappings[0].torch[0]
    if option.kind == "part":
        return f"{option.torch}[{part.start}:{part.stop}]"
    return part.path if option.kind == "parameter" else option.torch


def _evidence(choice: Choice, run: TorchRun) -> tuple[Evidence, ...]:
    if choice.option.kind == "parameter":
        return (_of_parameter(choice, run),)
    error = choice.error if choice.error is not None else float("inf")
    if choice.doubtful or error > NEAR:
        apart = f"differs by {error:.2g} of the largest value" if np.isfinite(error) else "has another shape"
        apart += ", and would hardly differ more with other weights" if error <= NEAR else ""
        return (Evidence(kind="forced", detail=f"chosen by names and order: its output {apart}"),)
    if choice.others and not choice.settled_by:
        return (
            Evidence(kind="ambiguous", detail="others compute the same here, and nothing after it told them apart"),
        )
    return (Evidence(kind="probe", detail=_agreement(choice, error)),)


def _agreement(choice: Choice, error: float) -> str:
    said = "its output is torch's"
    if choice.factor != 1.0:
        said = f"its output is torch's times {choice.factor:.6g}"
    elif EXACT < error <= choice.limit:
        said = f"its output is torch's but for {error:.2g} of the largest value: torch computed in float32"
    elif error > choice.limit:
        said = f"the same weights, but its output differs by {error:.2g} of the largest value"
        said += "" if choice.input_agrees else "; its input does already"
    return f"{said}; told apart at {choice.settled_by}" if choice.settled_by and choice.others else said


def _of_parameter(choice: Choice, run: TorchRun) -> Evidence:
    if choice.settled_by:
        return Evidence(kind="probe", detail=f"{choice.settled_by} depends on it, and agrees")
    used = any(run.depends & run.bits.get(part.path, 0) for part in choice.option.parts)
    why = "nothing that agrees depends on it" if used else "no output depends on it"
    if choice.others:
        return Evidence(kind="ambiguous", detail=f"others have its shape, and {why}")
    return Evidence(kind="shape", detail=f"no other parameter has this shape; {why}")
