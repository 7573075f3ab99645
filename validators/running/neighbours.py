"""What the layers beside a pair make up for: a cropping after a transposed convolution, an activation inside of one.

A pair is compared by what its two layers return. Where one side says in two layers what the other says in one, these
differ, and yet the models compute the same.
"""

from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.local import nearest_input
from keras3conv.validators.running.meetings import Meeting, meetings
from keras3conv.validators.running.subject import Subject

_CLEAR = 1e-6
"""Of the largest value: a layer that another one completes returns something else, not the same with a small error."""

NOTE = "completed by a layer beside it: what comes after agrees"


def made_up_for(subject: Subject) -> frozenset[tuple[str, str]]:
    """The pairs whose outputs differ in float64 while nothing after them does.

    Nothing is made up for unless every output of the two models agrees, and is a real number, which would show a
    difference. Then it is a pair that differs, if the next one agrees, or is given the same.
    """
    if not ends_agree(subject):
        return frozenset()
    met = list(meetings(subject, subject.torch_probe, subject.keras_probe))
    agree = [agrees_in_float64(meeting) for meeting in met]
    found = set()
    for place, meeting in enumerate(met):
        is_last = place + 1 == len(met)
        if (
            not agree[place]
            and _is_clear(meeting)
            and (is_last or agree[place + 1] or _is_given_the_same(met[place + 1]))
        ):
            found.add((meeting.pair.torch, meeting.pair.keras))
    return frozenset(found)


def ends_agree(subject: Subject) -> bool:
    """Whether every output of the two models agrees in float64, and is a real number, which would show a difference."""
    return all(map(_end_agrees, output_pairs(subject.torch_probe, subject.keras_probe)))


def agrees_in_float64(meeting: Meeting) -> bool:
    """Whether a pair returned the same, to rounding."""
    if meeting.odd or meeting.torch is None or meeting.keras is None:
        return False
    diff = compare(meeting.keras, meeting.torch)
    return diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0


def _is_clear(meeting: Meeting) -> bool:
    if meeting.odd or meeting.torch is None or meeting.keras is None:
        return True
    diff = compare(meeting.keras, meeting.torch)
    return diff.max_rel > _CLEAR or diff.nonfinite > 0


def _end_agrees(pair: OutputPair) -> bool:
    if pair.odd or pair.keras.dtype.kind != "f":
        return False
    diff = compare(pair.keras, pair.torch)
    return diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0


def _is_given_the_same(meeting: Meeting) -> bool:
    if meeting.torch_call is None or meeting.keras_call is None or not meeting.keras_call.inputs:
        return False
    given = meeting.keras_call.inputs[0]
    nearest = nearest_input(meeting.torch_call, given)
    return nearest is not None and given.size > 0 and compare(given, nearest).max_rel <= FLOAT64_LIMIT
