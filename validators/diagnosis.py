"""Why a layer differs: the usual suspects are tried on it, and the one that explains the difference is named.

A suspect predicts what the Keras side would have computed if it were the cause. It explains the difference if its
prediction comes a thousand times closer to what Keras computed than torch's output does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from keras3conv.frameworks.layout import like_keras
from keras3conv.rule import Config, find
from keras3conv.transforms import Array
from keras3conv.validators import suspects
from keras3conv.validators.layers import Meeting
from keras3conv.validators.subject import Subject
from keras3conv.validators.suspects import Case, Suspicion

EXPLAINS = 1e-3
"""A prediction explains a difference if it leaves at most this share of it."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A cause in words, and the line to paste."""

    cause: str
    fix: str


def explain(subject: Subject, meeting: Meeting, weights: Mapping[str, Array] | None) -> Explanation | None:
    """Says why the first layer that differs does; None if no suspect explains it.

    Args:
        subject: The two models.
        meeting: The call of the layer pair.
        weights: The torch tensors of that run, by path; None for the model's own.
    """
    case = _case(subject, meeting, weights)
    if case is None:
        return None
    if (between := _input_differs(case)) is not None:
        return between
    return _best(suspects.of_layer(case), case.keras_output, case.torch_output)


def explain_outputs(torch: Array, keras: Array) -> Explanation | None:
    """Says why two outputs differ: an activation that only one side applies."""
    found = _best(suspects.of_activation(torch, "torch", "at the end"), keras, torch)
    return found or _best(suspects.of_activation(keras, "Keras", "at the end"), torch, keras)


def _best(suspicions: Iterator[Suspicion], wanted: Array, found: Array) -> Explanation | None:
    """The suspicion whose prediction is closest to what was wanted, if it is close enough."""
    before = distance(found, wanted)
    ranked = [(distance(suspicion.prediction, wanted), suspicion) for suspicion in suspicions]
    close = [entry for entry in ranked if entry[0] <= EXPLAINS * before]
    if not close:
        return None
    best = min(close, key=lambda entry: entry[0])[1]
    return Explanation(cause=best.cause, fix=best.fix)


def distance(first: Array, second: Array) -> float:
    """The largest absolute difference; infinite where the shapes differ or a value is not finite."""
    if first.shape != second.shape:
        return float("inf")
    largest = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64)), initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _case(subject: Subject, meeting: Meeting, weights: Mapping[str, Array] | None) -> Case | None:
    torch_call, keras_call = meeting.torch_call, meeting.keras_call
    if torch_call is None or keras_call is None or meeting.keras is None or meeting.torch is None:
        return None
    if not torch_call.inputs or not keras_call.inputs:
        return None
    torch_layer, keras_layer = subject.torch_layers[meeting.pair.torch], subject.keras_layers[meeting.pair.keras]
    read: Callable[[str], Array] = subject.torch_view.read
    given = weights or {}
    tensors = {
        tensor.role: given[tensor.path] if tensor.path in given else read(tensor.path) for tensor in torch_layer.tensors
    }
    rule = find(meeting.pair.rule)
    config: Config = keras_layer.config or {}
    return Case(
        torch_path=meeting.pair.torch,
        keras_path=meeting.pair.keras,
        rule=rule,
        torch_config=torch_layer.config or {},
        keras_config=config,
        tensors=tensors,
        torch_input=like_keras(torch_call.inputs[0], rule, torch_layer.config, config),
        keras_input=keras_call.inputs[0],
        torch_output=meeting.torch,
        keras_output=meeting.keras,
    )


def _input_differs(case: Case) -> Explanation | None:
    """If the layer was given something else already, what stands before it is the cause."""
    ours, theirs = case.torch_input, case.keras_input
    if ours.shape != theirs.shape or distance(ours, theirs) <= EXPLAINS * distance(
        case.torch_output, case.keras_output
    ):
        return None
    found = _best(suspects.of_activation(ours, "torch", f"before {case.torch_path}"), theirs, ours)
    found = found or _best(suspects.of_activation(theirs, "Keras", f"before {case.keras_path}"), ours, theirs)
    found = found or _best(suspects.of_order(ours, theirs, case), theirs, ours)
    if found:
        return found
    cause = (
        "its input differs already: the cause stands before it, in a layer without weights "
        "(an activation, a pooling, a padding, an addition)"
    )
    return Explanation(cause=cause, fix=f"# compare what {case.torch_path} and {case.keras_path} are given")
