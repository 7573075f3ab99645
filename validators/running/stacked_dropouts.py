"""Find the dropout between the recurrent layers of Keras that correspond to one stacked torch module (num_layers=2)."""

from dataclasses import replace
from itertools import pairwise
from math import isclose, prod

from keras3conv.alignment.audit import FieldPair
from keras3conv.frameworks.shared.recording import Call
from keras3conv.numerics.difference import compare
from keras3conv.validators.running.neighbours import agrees
from keras3conv.validators.running.subject import Subject

_DROPOUT = "keras.layers.Dropout"


def is_of_a_stack(field: FieldPair) -> bool:
    """Return whether a field is the dropout of a torch module that corresponds to several recurrent layers of Keras."""
    return field.torch_field == "dropout" and not field.keras_field and " + " in field.keras


def with_rates_between(subject: Subject, field: FieldPair) -> FieldPair:
    """Return the field with the rate of the Keras `Dropout` layers between the recurrent layers; 0 without one.

    If these layers have different rates, the value is the first rate that differs from torch's.
    """
    layers = next(pair.keras_layers for pair in subject.plan.pairs if (pair.torch, pair.keras) == _key(field))
    rates = [_rate(subject, *gap) for gap in pairwise(layers)]
    other = next((rate for rate in rates if not isclose(rate, field.torch_value, abs_tol=1e-12)), None)
    rate = field.torch_value if other is None else other
    return replace(field, keras_value=rate, in_torch=rate, agrees=other is None, acts="in training")


def _key(field: FieldPair) -> tuple[str, str]:
    return field.torch, field.keras


def _rate(subject: Subject, first: str, second: str) -> float:
    """Return the rate with which values are dropped between two recurrent layers of Keras."""
    calls = subject.keras_probe.calls
    start = next(place for place, call in enumerate(calls) if call.path == first)
    between: list[Call] = []
    for call in calls[start + 1 :]:
        if call.path == second:
            break
        between.append(call)
    dropouts = [call.path for call in between if _is_dropout_of(subject, call, calls[start])]
    return 1.0 - prod(1.0 - float((subject.keras_layers[path].config or {})["rate"]) for path in dropouts)


def _is_dropout_of(subject: Subject, call: Call, source: Call) -> bool:
    """Return whether `call` calls a Dropout layer on the output of `source`."""
    layer = subject.keras_layers.get(call.path)
    if layer is None or _DROPOUT not in layer.kinds or not call.inputs or not source.outputs:
        return False
    given, made = call.inputs[0], source.outputs[0]
    return given.shape == made.shape and agrees(compare(given, made))
