"""Why two models part: the usual suspects are tried, and the one that explains the difference is named.

Where a layer is the first to differ, torch is run again with a suspect's change (another epsilon, another order of the
gates, no activation), as far as that layer. If it then gives what Keras gave, to rounding, the suspect is the cause;
nothing less is called one. What is "to rounding" is the same as for the proof that failed: in float64 a fixed limit, in
the models' own dtype the measured noise floor.
"""

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.layout import channels_last, like_keras, output_like_keras
from keras3conv.frameworks.shared.recording import Call
from keras3conv.rules.library import find
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis import causes
from keras3conv.validators.diagnosis.causes import Explanation, Scene, distance, first_cause
from keras3conv.validators.running.ends import OutputPair
from keras3conv.validators.running.meetings import Meeting, in_keras_layout
from keras3conv.validators.running.subject import Subject

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.replay import Operation, Replayed, Stage, Target
    from keras3conv.validators.diagnosis.suspects.base import Case

TRIED = 3
"""So many layers of the same shape that differ are looked at for a cause, if the first shows none."""

_MUCH = 0.1
"""Two arrays hold much the same if they differ by no more, relative to the largest value."""


def first_to_blame(
    subject: Subject, met: Sequence[Meeting], differing: Sequence[int], weights: Mapping[str, Array] | None
) -> tuple[int, Explanation | None]:
    """Which of the calls that differ is the first to blame, and why it differs; None if no suspect explains it.

    It is the first, but for one that nothing explains: a layer beside it may complete it, as a cropping does a
    transposed convolution. Then the next ones are tried, a few of the same shape: where torch, changed in one cause
    only, gives what Keras gave, what stands before is made up for. So is a layer that is explained, where the one
    after it agrees, or has its shape again, and the next that differs has a cause of its own.

    Args:
        subject: The two models.
        met: The calls of all layer pairs.
        differing: The places of those that differ.
        weights: The torch tensors of that run, by path; None for the model's own, in their own dtype.
    """
    tried: list[tuple[int, Explanation | None]] = []
    for number, place in enumerate(differing):
        found = explain(subject, met[place], weights)
        tried.append((place, found))
        if found is not None and found.is_found:
            later = _behind(subject, met, differing[number:], found, weights)
            return (place, found) if later is None else later
        if not met[place].odd and (found is not None or len(tried) >= TRIED):
            break
    return tried[0]


def _behind(
    subject: Subject,
    met: Sequence[Meeting],
    differing: Sequence[int],
    found: Explanation,
    weights: Mapping[str, Array] | None,
) -> tuple[int, Explanation] | None:
    """The next layer that differs, where its own cause explains it, and what stands between makes up for this one.

    That may be so where the next layer of all agrees, or has its shape again.
    """
    if len(differing) < 2 or met[differing[1]].odd:
        return None
    if not met[differing[0]].odd and differing[1] == differing[0] + 1:
        return None
    later = explain(subject, met[differing[1]], weights, briefly=True)
    explains = later is not None and later.is_found and found.cause not in later.cause
    return (differing[1], later) if explains and later is not None else None


def explain(
    subject: Subject, meeting: Meeting, weights: Mapping[str, Array] | None, *, briefly: bool = False
) -> Explanation | None:
    """Says why the first layer that differs does; None if no suspect explains it.

    Args:
        subject: The two models.
        meeting: The call of the layer pair.
        weights: The torch tensors of that run, by path; None for the model's own, in their own dtype.
        briefly: Whether only what stands right before the layer is looked at, and for one cause.
    """
    torch_call, keras_call = meeting.torch_call, meeting.keras_call
    if torch_call is None or keras_call is None or not torch_call.inputs or not keras_call.inputs:
        return None
    rule, pair = find(meeting.pair.rule), meeting.pair
    configs = subject.torch_layers[pair.torch].config or {}, subject.keras_layers[pair.keras].config or {}

    theirs = keras_call.inputs[0]

    def like_theirs(array: Array) -> Array:
        return _split(_as_flattened(like_keras(array, rule, *configs), torch_call, keras_call), theirs)

    def given(replayed: "Replayed") -> Array:
        return _with_channels_last(like_theirs(replayed.inputs[0]), theirs)

    def returned(replayed: "Replayed") -> Array:
        call = Call(path=pair.torch, place=0, inputs=replayed.inputs, outputs=replayed.outputs)
        assert meeting.keras is not None
        return in_keras_layout(subject, pair, call, meeting.keras.shape)

    assert meeting.torch is not None
    assert meeting.keras is not None
    ours = _with_channels_last(like_theirs(torch_call.inputs[0]), theirs)
    indices = ours.dtype.kind in "iu"  # a table that looks elsewhere is given other indices
    inside = (
        indices or ours.shape != theirs.shape or distance(ours, theirs) <= 1e-3 * distance(meeting.torch, meeting.keras)
    )
    target = _target(subject, torch_call, deployed=weights is None)
    scene = Scene(
        stage=_stage(subject, weights),
        target=target,
        wanted=meeting.keras if inside else theirs,
        found=meeting.torch if inside else ours,
        look=returned if inside else given,
        float64=weights is not None,
        flattened=torch_call.flattened,
    )
    found = _search(subject, scene, pair.torch, pair.keras, inside=inside, briefly=briefly)
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


def _with_channels_last(array: Array, like: Array) -> Array:
    """An array with its channels moved, where only that makes it fit: some modules move them themselves."""
    moved = channels_last(array) if array.ndim > 2 and array.shape != like.shape else array
    return moved if moved.shape == like.shape else array


def _split(array: Array, like: Array) -> Array:
    """An array with axes split or merged as another has them, if it then holds much the same: heads, or channels."""
    if array.shape == like.shape or array.size != like.size or array.dtype.kind not in "fiu":
        return array
    made = array.reshape(like.shape)
    return made if distance(made, like) <= _MUCH * float(np.max(np.abs(like), initial=0.0)) else array


def explain_end(subject: Subject, pair: OutputPair, weights: Mapping[str, Array] | None) -> Explanation | None:
    """Says why an output of the models differs although every layer before it agrees; None if no suspect explains it.

    Args:
        subject: The two models.
        pair: The output.
        weights: The torch tensors of that run, by path; None for the model's own, in their own dtype.
    """
    from keras3conv.frameworks.torch.replay import Target

    recording = subject.torch_run if weights is None else subject.torch_probe
    places = {f"output {name or place}": place for place, name in enumerate(recording.outputs)}
    place = places[pair.torch_name]
    scene = Scene(
        stage=_stage(subject, weights),
        target=Target(),
        wanted=pair.keras,
        found=pair.torch,
        look=lambda replayed: output_like_keras(replayed.outputs[place], pair.keras.shape)[0],
        float64=weights is not None,
    )
    return _search(subject, scene, "", "", inside=False)


def _stage(subject: Subject, weights: Mapping[str, Array] | None) -> "Stage":
    from keras3conv.frameworks.torch.replay import Stage

    assert subject.inputs is not None
    return Stage(module=subject.torch, inputs=subject.inputs.torch, tensors=weights)


def _target(subject: Subject, call: Call, *, deployed: bool) -> "Target":
    from keras3conv.frameworks.torch.replay import Target

    run = subject.torch_run if deployed else subject.torch_probe
    places = [other.place for other in run.of(call.path)]
    return Target(path=call.path, call=places.index(call.place))


def _search(
    subject: Subject, scene: Scene, torch_path: str, keras_path: str, *, inside: bool, briefly: bool = False
) -> Explanation | None:
    """Tries every suspect, first on what torch calls since the layers agreed last, then on everything before."""
    try:
        seen = scene.stage.replay(scene.target, float64=scene.float64, listing=True)
    except ModelError:
        return None
    until = monotonic() + causes.PATIENCE
    for operations, feeding in _windows(subject, seen, inside=inside, at_end=not torch_path):
        before = tuple(operation for operation in seen.operations if operation.place < seen.began)
        case = _case(subject, scene, torch_path, keras_path, inside, before, operations, feeding)
        found = first_cause(scene, case, until, alone=briefly)
        if found is not None or briefly:
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
    scene: Scene,
    torch_path: str,
    keras_path: str,
    inside: bool,
    before: "tuple[Operation, ...]",
    operations: "tuple[Operation, ...]",
    feeding: "tuple[Operation, ...]",
) -> "Case":
    from keras3conv.validators.diagnosis.suspects.base import Case

    given = scene.stage.tensors or {}
    return Case(
        torch_path=torch_path,
        keras_path=keras_path,
        inside=inside,
        keras_config=(subject.keras_layers[keras_path].config or {}) if inside else {},
        before=before,
        operations=operations,
        feeding=feeding,
        classes={layer.path: layer.kind for layer in subject.torch_view.layers},
        keras_configs=tuple(layer.config for layer in subject.keras_view.layers if layer.config),
        flattened=scene.flattened,
        ratio=_ratio(scene.wanted, scene.found),
        found=scene.found,
        wanted=scene.wanted,
        attempt=scene.attempt,
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
