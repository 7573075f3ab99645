"""Why two models part: the usual suspects are tried, and the one that explains the difference is named.

Where a layer is the first to differ, torch is run again with a suspect's change (another epsilon, another order of the
gates, no activation), as far as that layer. If it then gives what Keras gave, to rounding, the suspect is the cause;
nothing less is called one. What is "to rounding" is the same as for the proof that failed: in float64 a fixed limit, in
the models' own dtype the measured noise floor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.compare import FLOAT64_LIMIT, compare, judge
from keras3conv.errors import ModelError
from keras3conv.frameworks.layout import like_keras, output_like_keras
from keras3conv.frameworks.record import Call
from keras3conv.rule import find
from keras3conv.transforms import Array, Shape
from keras3conv.validators.ends import OutputPair
from keras3conv.validators.layers import Meeting, in_keras_layout
from keras3conv.validators.subject import Subject

if TYPE_CHECKING:
    from keras3conv.frameworks.torch_replay import Change, Key, Operation, Replayed, Stage, Target
    from keras3conv.validators.suspects import Case, Suspicion

TRIED = 3
"""So many layers of the same shape that differ are looked at for a cause, if the first shows none."""

PATIENCE = 30.0
"""Seconds after which no other suspect is tried: a model that runs for long has many places to look at."""

CLOSER = 4.0
"""A change that does not bring torch at least so many times closer to Keras explains nothing, even within the noise."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A cause in words, and the line to paste.

    Attributes:
        cause: What the two sides do not share, or why it was not found.
        fix: The line to paste; empty where there is none.
        is_found: Whether a suspect explains the difference.
    """

    cause: str
    fix: str
    is_found: bool = True

    @property
    def fixes(self) -> tuple[str, ...]:
        """The line to paste, where there is one."""
        return (self.fix,) if self.fix else ()


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Where two runs part, and how to see what torch would compute there.

    Attributes:
        stage: The torch module, with what it is called with, and its tensors.
        target: The call of the layer, or the end of the model.
        wanted: What Keras has there.
        found: What torch has there, in Keras' layout.
        look: Picks that out of a replay.
        float64: Whether the proof that failed ran in float64.
        flattened: What torch flattened into the layer's input.
    """

    stage: "Stage"
    target: "Target"
    wanted: Array
    found: Array
    look: "Callable[[Replayed], Array]"
    float64: bool
    flattened: Shape | None = None


def first_to_blame(
    subject: Subject, met: Sequence[Meeting], differing: Sequence[int], weights: Mapping[str, Array] | None
) -> tuple[int, Explanation | None]:
    """Which of the calls that differ is the first to blame, and why it differs; None if no suspect explains it.

    It is the first, but for one that nothing explains: a layer beside it may complete it, as a cropping does a
    transposed convolution. Then the next ones are tried, a few of the same shape: where torch, changed in one cause
    only, gives what Keras gave, what stands before is made up for.

    Args:
        subject: The two models.
        met: The calls of all layer pairs.
        differing: The places of those that differ.
        weights: The torch tensors of that run, by path; None for the model's own, in their own dtype.
    """
    tried: list[tuple[int, Explanation | None]] = []
    for place in differing:
        found = explain(subject, met[place], weights)
        tried.append((place, found))
        if found is not None and found.is_found:
            return place, found
        if not met[place].odd and (found is not None or len(tried) >= TRIED):
            break
    return tried[0]


def explain(subject: Subject, meeting: Meeting, weights: Mapping[str, Array] | None) -> Explanation | None:
    """Says why the first layer that differs does; None if no suspect explains it.

    Args:
        subject: The two models.
        meeting: The call of the layer pair.
        weights: The torch tensors of that run, by path; None for the model's own, in their own dtype.
    """
    torch_call, keras_call = meeting.torch_call, meeting.keras_call
    if torch_call is None or keras_call is None or not torch_call.inputs or not keras_call.inputs:
        return None
    rule, pair = find(meeting.pair.rule), meeting.pair
    configs = subject.torch_layers[pair.torch].config or {}, subject.keras_layers[pair.keras].config or {}

    def given(replayed: "Replayed") -> Array:
        return _as_flattened(like_keras(replayed.inputs[0], rule, *configs), torch_call, keras_call)

    def returned(replayed: "Replayed") -> Array:
        call = Call(path=pair.torch, place=0, inputs=replayed.inputs, outputs=replayed.outputs)
        assert meeting.keras is not None
        return in_keras_layout(subject, pair, call, meeting.keras.shape)

    assert meeting.torch is not None
    assert meeting.keras is not None
    ours = _as_flattened(like_keras(torch_call.inputs[0], rule, *configs), torch_call, keras_call)
    theirs = keras_call.inputs[0]
    indices = ours.dtype.kind in "iu"  # a table that looks elsewhere is given other indices
    inside = (
        indices or ours.shape != theirs.shape or distance(ours, theirs) <= 1e-3 * distance(meeting.torch, meeting.keras)
    )
    target = _target(subject, torch_call, deployed=weights is None)
    scene = _Scene(
        stage=_stage(subject, weights),
        target=target,
        wanted=meeting.keras if inside else theirs,
        found=meeting.torch if inside else ours,
        look=returned if inside else given,
        float64=weights is not None,
        flattened=torch_call.flattened,
    )
    found = _search(subject, scene, pair.torch, pair.keras, inside=inside)
    if found is None and not inside:
        cause = (
            "its input differs already: the cause stands before it, in a layer without weights "
            "(an activation, a pooling, a padding, an addition)"
        )
        return Explanation(cause=cause, fix=f"# compare what {pair.torch} and {pair.keras} are given", is_found=False)
    return found


def _as_flattened(array: Array, torch_call: Call, keras_call: Call) -> Array:
    """What torch flattened, in the order in which Keras flattened it, where both are known."""
    ours, theirs = torch_call.flattened, keras_call.flattened
    if not ours or not theirs or array.ndim != 2 or (ours[1:] + ours[:1]) != theirs:
        return array
    return np.moveaxis(array.reshape(-1, *ours), 1, -1).reshape(array.shape)


def explain_end(subject: Subject, pair: OutputPair, weights: Mapping[str, Array] | None) -> Explanation | None:
    """Says why an output of the models differs although every layer before it agrees; None if no suspect explains it.

    Args:
        subject: The two models.
        pair: The output.
        weights: The torch tensors of that run, by path; None for the model's own, in their own dtype.
    """
    from keras3conv.frameworks.torch_replay import Target

    recording = subject.torch_run if weights is None else subject.torch_probe
    places = {f"output {name or place}": place for place, name in enumerate(recording.outputs)}
    place = places[pair.torch_name]
    scene = _Scene(
        stage=_stage(subject, weights),
        target=Target(),
        wanted=pair.keras,
        found=pair.torch,
        look=lambda replayed: output_like_keras(replayed.outputs[place], pair.keras.shape)[0],
        float64=weights is not None,
    )
    return _search(subject, scene, "", "", inside=False)


def distance(first: Array, second: Array) -> float:
    """The largest absolute difference; infinite where the shapes differ or a value is not finite."""
    if first.shape != second.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):  # an infinity less another one
        largest = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64)), initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _stage(subject: Subject, weights: Mapping[str, Array] | None) -> "Stage":
    from keras3conv.frameworks.torch_replay import Stage

    assert subject.inputs is not None
    return Stage(module=subject.torch, inputs=subject.inputs.torch, tensors=weights)


def _target(subject: Subject, call: Call, *, deployed: bool) -> "Target":
    from keras3conv.frameworks.torch_replay import Target

    run = subject.torch_run if deployed else subject.torch_probe
    places = [other.place for other in run.of(call.path)]
    return Target(path=call.path, call=places.index(call.place))


def _search(subject: Subject, scene: _Scene, torch_path: str, keras_path: str, *, inside: bool) -> Explanation | None:
    """Tries every suspect, first on what torch calls since the layers agreed last, then on everything before."""
    try:
        seen = scene.stage.replay(scene.target, float64=scene.float64, listing=True)
    except ModelError:
        return None
    until = monotonic() + PATIENCE
    for operations, feeding in _windows(subject, seen, inside=inside, at_end=not torch_path):
        case = _case(subject, scene, torch_path, keras_path, inside, operations, feeding)
        found = _first_cause(scene, case, until)
        if found is not None:
            return found
    return None


def _windows(
    subject: Subject, seen: "Replayed", *, inside: bool, at_end: bool
) -> "Iterator[tuple[tuple[Operation, ...], tuple[Operation, ...]]]":
    if inside:
        own = tuple(operation for operation in seen.operations if operation.place >= seen.began)
        yield own, ()
        return
    paired = [seen.ended[path] for path in (pair.torch for pair in subject.plan.pairs) if path in seen.ended]
    before = tuple(operation for operation in seen.operations if operation.place < seen.began)
    agreed = max((place for place in paired if place <= seen.began), default=0)
    window = tuple(operation for operation in before if operation.place >= agreed)
    values = [operation for operation in before if operation.place < agreed and operation.result is not None]
    yield window, (*values[-1:], *window)
    if len(window) < len(before) and not at_end:  # the end of a model is what stands after its last layer
        yield before, before


def _case(
    subject: Subject,
    scene: _Scene,
    torch_path: str,
    keras_path: str,
    inside: bool,
    operations: "tuple[Operation, ...]",
    feeding: "tuple[Operation, ...]",
) -> "Case":
    from keras3conv.validators.suspects import Case

    given = scene.stage.tensors or {}
    return Case(
        torch_path=torch_path,
        keras_path=keras_path,
        inside=inside,
        keras_config=(subject.keras_layers[keras_path].config or {}) if inside else {},
        operations=operations,
        feeding=feeding,
        classes={layer.path: layer.kind for layer in subject.torch_view.layers},
        keras_configs=tuple(layer.config for layer in subject.keras_view.layers if layer.config),
        flattened=scene.flattened,
        ratio=_ratio(scene.wanted, scene.found),
        tensors={tensor.path: tensor.shape for tensor in subject.torch_view.tensors()},
        read=lambda path: given[path] if path in given else subject.torch_view.read(path),
    )


def _ratio(wanted: Array, found: Array) -> float | None:
    """The factor that brings one array closest to the other."""
    if wanted.shape != found.shape:
        return None
    ours, theirs = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    square, product = float(ours @ ours), float(ours @ theirs)
    return product / square if 0 < square < float("inf") and np.isfinite(product) else None


def _first_cause(scene: _Scene, case: "Case", until: float) -> Explanation | None:
    """The best suspicion of the first suspect that has one that explains the difference."""
    from keras3conv.validators.suspects import SUSPECTS

    for tried, suspect in enumerate(SUSPECTS):
        close = []
        for suspicion in _with_all_at_once(list(suspect.suspicions(case))):
            if monotonic() > until:
                return _stopped(tried, len(SUSPECTS))
            left = _what_is_left(scene, suspicion)
            if left is not None:
                close.append((left, suspicion))
        if close:
            best = min(close, key=lambda entry: entry[0])[1]
            return Explanation(cause=best.cause, fix=best.fix)
    return None


def _stopped(tried: int, number: int) -> Explanation:
    cause = f"the search for the cause stopped after {PATIENCE:g} s: {tried} of {number} usual suspects had been tried"
    return Explanation(cause=cause, fix="", is_found=False)


def _with_all_at_once(found: "list[Suspicion]") -> "list[Suspicion]":
    """The suspicions one by one; and those of one cause together, where it may be the matter in several places."""
    from keras3conv.validators.suspects import Suspicion

    together: dict[str, list[Suspicion]] = {}
    for suspicion in found:
        together.setdefault(suspicion.cause, []).append(suspicion)
    joined = []
    for cause, alike in together.items():
        changes: dict[Key, Change] = {}
        for suspicion in alike:
            changes |= suspicion.changes
        if len(alike) > 1 and len(changes) == len(alike):
            joined.append(Suspicion(cause=cause, fix=alike[0].fix, changes=changes))
    return [*found, *joined]


def _what_is_left(scene: _Scene, suspicion: "Suspicion") -> float | None:
    """How far from Keras torch still is with this change; None if the change does not explain the difference."""
    predicted = _predict(scene, suspicion, float64=scene.float64)
    if predicted is None or predicted.shape != scene.wanted.shape:
        return None
    left = distance(predicted, scene.wanted)
    if not CLOSER * left <= distance(scene.found, scene.wanted):
        return None
    if scene.float64:
        diff = compare(scene.wanted, predicted)
        return left if diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0 else None
    truth = _predict(scene, suspicion, float64=True)
    return left if truth is not None and judge(scene.wanted, predicted, truth).passed else None


def _predict(scene: _Scene, suspicion: "Suspicion", *, float64: bool) -> Array | None:
    """What torch has at the target with this change; None where the change cannot be made there."""
    try:
        replayed = scene.stage.replay(
            scene.target, changes=suspicion.changes, tensors=suspicion.tensors, float64=float64
        )
    except ModelError:
        return None
    return scene.look(replayed)
