"""Turn the choices of the probe into the pairs of a plan, with evidence for or against each pair."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras3conv.alignment.binding import make_pair, pair_of_tensors
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, ModelView
from keras3conv.numerics.fingerprint import EXACT
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.option import Candidate, TensorSlice
from keras3conv.planner.probe.outcome import Ambiguous, Choice, Comparison, Compensated, Confirmed, Forced
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.planner.probe.search import Search
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import WeightMapping
from keras3conv.rules.units import numbered
from keras3conv.transforms import Array, Chain, Concat, Split, Transform
from keras3conv.transforms.base import Shapes
from keras3conv.transforms.combine import each_of

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The result of the probe: the pairs that it found, and the difference between the outputs of the models.

    Attributes:
        torch: The view of the torch model, with the call order and the shapes of the run.
        keras: The view of the Keras model, with the call order and the shapes of the run.
        pairs: The pairs that the probe found.
        notes: Remarks for the user, to be added to the plan.
        difference: A sentence on how the outputs of the two models differ; empty if no difference is known.
        constants: For each torch buffer that Keras needs no variable for, the reason.
        unused: The torch tensors on which no output depended.
    """

    torch: ModelView
    keras: ModelView
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    difference: str = ""
    constants: Mapping[str, str] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()


def probed_pairs(search: Search) -> Iterator[Pair]:
    """Yield the pairs of layers that the probe chose; Keras layers that use slices of one torch layer are one pair."""
    slices: dict[str, list[Choice]] = {}
    choices = _without_taken_alternatives(_with_mutual_alternatives(search.choices))
    for choice in choices.values():
        candidate = choice.candidate
        if candidate.kind == "slice" or candidate.is_parameter_slice:
            name = candidate.slices[0].path if candidate.is_parameter_slice else candidate.torch
            slices.setdefault(name, []).append(choice)
        else:
            yield from _pairs_of(choice, search.run)
    for parts in slices.values():
        yield from _packed_pairs(sorted(parts, key=lambda choice: choice.candidate.slices[0].start), search.run)


def _with_mutual_alternatives(choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return the choices; if two layers may have each other's weights, both of them list this as an alternative.

    The search notes the alternative only for the layer that was called first. When it chose the weights of the second
    layer, those of the first were taken, so that the second seemed to have no alternative.
    """
    found = dict(choices)
    for path in choices:
        choice = found[path]
        if not isinstance(choice.outcome, Ambiguous) or choice.candidate.kind == "parameter":
            continue
        for other in list(found.values()):
            shares = any(set(option.slices) == set(other.candidate.slices) for option in choice.alternatives)
            if shares and not other.confirmed_by and not other.alternatives:
                found[other.path] = other.with_alternatives((choice.candidate,))
    return found


def _without_taken_alternatives(choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return the choices without those alternatives whose torch tensors another layer needs.

    A layer needs the tensors of its choice if that choice has no alternatives.
    """
    taken: dict[str, list[TensorSlice]] = {}
    for choice in choices.values():
        if not choice.alternatives:
            for part in choice.candidate.slices:
                taken.setdefault(part.path, []).append(part)

    def is_free(candidate: Candidate) -> bool:
        return not any(part.overlaps(used) for part in candidate.slices for used in taken.get(part.path, ()))

    return {
        path: choice.with_alternatives(tuple(filter(is_free, choice.alternatives))) if choice.alternatives else choice
        for path, choice in choices.items()
    }


def _pairs_of(choice: Choice, run: TorchRun) -> Iterator[Pair]:
    candidate, evidence = choice.candidate, _evidence(choice, run)
    candidates = _candidate_names(choice)
    if candidate.kind == "layer" and candidate.rule is not None and candidate.rows is None:
        yield Pair(
            torch=candidate.torch,
            keras=candidate.keras.path,
            rule=candidate.rule.name,
            weights=candidate.mappings,
            evidence=evidence,
            candidates=candidates,
        )
        return
    for mapping in candidate.mappings:
        yield pair_of_tensors([_with_real_tensors(mapping, candidate)], evidence, candidates)


def _with_real_tensors(mapping: WeightMapping, candidate: Candidate) -> WeightMapping:
    """Return a mapping that starts from tensors of the torch model, for a candidate that joins or reorders tensors.

    The candidate's own mapping starts from the joined tensor, which the torch model lacks. The steps that make the
    joined tensor are put before the transform of the candidate's mapping.
    """
    if not mapping.torch or (candidate.kind != "joined" and candidate.rows is None):
        return mapping
    (name,) = mapping.torch
    slices = candidate.sources[name]
    steps = [*_reordering(candidate, name), mapping.transform]
    if candidate.kind == "joined":
        steps.insert(0, Concat(slices[0].axis, tuple(part.stop for part in slices)))
    return WeightMapping(torch=tuple(part.path for part in slices), keras=mapping.keras, transform=Chain(*steps))


def _reordering(candidate: Candidate, name: str) -> Iterator[Transform]:
    """Yield the transform that reorders the rows of a torch tensor, if Keras has them in another order; else nothing.

    Args:
        candidate: The candidate, which has the order of the rows.
        name: The name of the torch tensor in the candidate's `sources`.
    """
    if candidate.rows is not None:
        tensors = {tensor.path: tensor for layer in candidate.layers for tensor in layer.tensors}
        yield candidate.rows.transform(len(tensors[candidate.sources[name][0].path].shape))


def _packed_pairs(choices: Sequence[Choice], run: TorchRun) -> Iterator[Pair]:
    """Yield the pair of a packed torch layer with the Keras layers whose weights are slices of it.

    Yield nothing unless the slices together are the whole torch tensor.

    Args:
        choices: The choices that use slices of this torch layer, in the order of the slices.
        run: The recorded torch run.
    """
    layer = choices[0].candidate.layers[0]
    tensors = {tensor.path: tensor for tensor in layer.tensors}
    first = choices[0].candidate.slices[0]
    stops = [choice.candidate.slices[0].stop for choice in choices]
    starts = [choice.candidate.slices[0].start for choice in choices]
    shapes: Shapes = (tensors[first.path].shape,)
    for reordering in _reordering(choices[0].candidate, choices[0].candidate.mappings[0].torch[0]):
        shapes = reordering.shapes(shapes)
    if starts != [0, *stops[:-1]] or stops[-1] != shapes[0][first.axis]:
        return
    evidence = max((_evidence(choice, run) for choice in choices), key=lambda found: found[-1].kind != "probe")
    candidates = tuple(dict.fromkeys(path for choice in choices for path in _candidate_names(choice)))[:_SHOWN]
    if pair := _by_rule(layer, choices, run, evidence, candidates):
        yield pair
        return
    for position in range(len(choices[0].candidate.mappings)):
        mappings = [choice.candidate.mappings[position] for choice in choices]
        slices = [
            choice.candidate.sources[mapping.torch[0]][0] for choice, mapping in zip(choices, mappings, strict=True)
        ]
        split = Split(slices[0].axis, tuple(part.stop - part.start for part in slices))
        combined = WeightMapping(
            torch=(slices[0].path,),
            keras=tuple(mapping.keras[0] for mapping in mappings),
            transform=Chain(
                *_reordering(choices[0].candidate, mappings[0].torch[0]),
                split,
                each_of([entry.transform for entry in mappings]),
            ),
        )
        yield pair_of_tensors([combined], evidence, candidates)


def _by_rule(
    layer: LayerView,
    choices: Sequence[Choice],
    run: TorchRun,
    evidence: tuple[Evidence, ...],
    candidates: tuple[str, ...],
) -> Pair | None:
    """Pair one torch layer with several Keras layers by a rule.

    Return None if no rule gives the Keras variables the values that the probe chose for them.

    Args:
        layer: The torch layer.
        choices: The choices for the Keras layers, each of which uses a slice of the torch layer.
        run: The recorded torch run, with the weights from which the values are computed.
        evidence: The evidence to record in the pair.
        candidates: The other layers that fit as well, to record in the pair.
    """
    combined = numbered([choice.candidate.keras for choice in choices], "keras")
    wanted: dict[str, Array] = {}
    for choice in choices:
        wanted |= choice.candidate.values(run.weights)
    for rule in lookup(layer.kinds, combined.kinds, (1, len(choices))):
        if not rule.parallel or not rule.applies(rule.config_of(layer)):
            continue
        try:
            pair = make_pair(rule, layer, combined, evidence, candidates)
        except RuleError:  # the rule splits every tensor in the same way, but these are split differently
            continue
        values: dict[str, Array] = {}
        for mapping in pair.weights:
            given = tuple(run.weights[path] for path in mapping.torch)
            if mapping.transform.shapes(tuple(array.shape for array in given)):
                values |= dict(zip(mapping.keras, mapping.transform(given), strict=True))
        if values.keys() == wanted.keys() and all(np.array_equal(values[path], wanted[path]) for path in wanted):
            return pair
    return None


def _candidate_names(choice: Choice) -> tuple[str, ...]:
    own = _name(choice.candidate)
    names = dict.fromkeys(_name(other) for other in choice.alternatives if _name(other) != own)
    return tuple(names)[:_SHOWN]


def _name(candidate: Candidate) -> str:
    if not candidate.slices:
        return candidate.torch
    first = candidate.slices[0]
    if candidate.is_parameter_slice:
        return candidate.mappings[0].torch[0]
    if candidate.kind == "slice":
        return f"{candidate.torch}[{first.start}:{first.stop}]"
    return first.path if candidate.kind == "parameter" else candidate.torch


def _evidence(choice: Choice, run: TorchRun) -> tuple[Evidence, ...]:
    outcome = choice.outcome
    if choice.candidate.kind == "parameter" or outcome.comparison is None:
        return (_evidence_of_parameter(choice, run),)
    if isinstance(outcome, Forced):
        return (Evidence(kind="forced", detail=_disagreement(outcome.comparison)),)
    if isinstance(outcome, Compensated):
        same = "but the outputs of the models are equal, and only with these weights"
        return (Evidence(kind="probe", detail=f"its output {_difference(outcome.comparison)}, {same}"),)
    if isinstance(outcome, Ambiguous):
        return (Evidence(kind="ambiguous", detail="other layers have the same output, and no later layer decides"),)
    rows = f"; the rows of torch are reordered: {choice.candidate.rows.name}" if choice.candidate.rows else ""
    return (Evidence(kind="probe", detail=_agreement(outcome, outcome.comparison) + rows),)


def _disagreement(comparison: Comparison) -> str:
    detail = f"chosen by names and order: its output {_difference(comparison)}"
    return f"{detail}, and wrong weights would give nearly the same error" if comparison.error <= NEAR else detail


def _difference(comparison: Comparison) -> str:
    if np.isfinite(comparison.error):
        return f"differs by {comparison.error:.2g} of the largest value"
    return "has another shape than torch's"


def _agreement(outcome: Confirmed, comparison: Comparison) -> str:
    error = comparison.error
    detail = "its output equals torch's"
    if comparison.factor != 1.0:
        detail = f"its output equals torch's times {comparison.factor:.6g}"
    elif not comparison.agrees:
        detail = f"it has the same weights, but its output differs by {error:.2g} of the largest value"
        detail += "" if comparison.input_agrees else "; its input already differs"
    elif error > EXACT:
        detail = f"its output equals torch's up to {error:.2g} of the largest value: torch computed in float32"
    return f"{detail}; {outcome.confirmed_by} excludes other layers" if outcome.confirmed_by else detail


def _evidence_of_parameter(choice: Choice, run: TorchRun) -> Evidence:
    if choice.confirmed_by:
        return Evidence(kind="probe", detail=f"{choice.confirmed_by} depends on it and agrees with torch")
    used = run.output_dependencies & choice.candidate.bits(run)
    reason = "no value that agrees with torch depends on it" if used else "no output depends on it"
    if names.words(choice.candidate.slices[0].path) == names.words(choice.candidate.keras.path):
        return Evidence(kind="name", detail=f"the Keras layer has the name of this parameter; {reason}")
    if choice.alternatives:
        return Evidence(kind="ambiguous", detail=f"other parameters have this shape, too; {reason}")
    return Evidence(kind="shape", detail=f"no other parameter has this shape; {reason}")
