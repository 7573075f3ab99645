"""Judge the hyper-parameters of the layer pairs by their values, and where these differ, by the outputs of the layers.

Two layers may differ in a field (a hyper-parameter) because of a neighbouring layer, such as a separate padding layer
in Keras. The neighbours compensate the difference if the Keras layer, on the inputs that torch recorded, returns
torch's outputs in float64. A field that matters only in training has no effect on the outputs. To find such a field,
the torch layer is run again with the value of the Keras side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from keras3conv.alignment.audit import FieldPair, audit
from keras3conv.model.paths import split_layers
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.rules.correspondence import same_value
from keras3conv.transforms import Arrays
from keras3conv.validators.running.call_pairs import call_pairs, probe_calls
from keras3conv.validators.running.isolated import isolated_probe
from keras3conv.validators.running.left_to_float64 import LEFT
from keras3conv.validators.running.neighbours import agrees_in_float64, compensated_pairs, would_agree_in_isolation
from keras3conv.validators.running.stacked_dropouts import is_of_a_stack, with_rates_between
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.weightless import weightless_pairs

_COMPENSATED = "no mistake: the layer before or after it makes up for the difference, and its outputs agree"

_TRAINING = "no output depends on it in inference"
"""The note on a hyper-parameter that has an effect in training only."""

_SMALL = 2.0**-40
"""The factor on a layer's inputs that makes its values so small that the effect of an epsilon is visible."""

Verdict = Literal["equal", "failed", "training only", "left to float64", "not judged"]


@dataclass(frozen=True, kw_only=True)
class JudgedField:
    """A hyper-parameter (field) of a layer pair, the verdict on it, and the reason for the verdict."""

    field: FieldPair
    verdict: Verdict
    note: str = ""


def judged_fields(subject: Subject) -> Iterator[JudgedField]:
    """Yield the verdict on every hyper-parameter (field) that the rules of the layer pairs compare."""
    from keras3conv.frameworks.torch.module import frozen_parameters

    weightless = list(weightless_pairs(subject))
    agreement: dict[tuple[str, str], bool] | None = None
    pairs, frozen = [*subject.plan.pairs, *(match.pair for match in weightless)], frozen_parameters(subject.torch)
    for audited in audit(pairs, subject.torch_view, subject.keras_view, frozen=frozen):
        field = with_rates_between(subject, audited) if is_of_a_stack(audited) else audited
        if field.agrees:
            yield JudgedField(field=field, verdict="equal", note=_equal_because(field))
        elif field.agrees is None:
            verdict: Verdict = LEFT if field.keras_field else "not judged"
            yield JudgedField(field=field, verdict=verdict, note=field.note)
        elif (judged := _judged_without_outputs(field)) is not None:
            yield judged
        else:
            if agreement is None:  # `_agreement` runs the Keras model, so it is called only if a field differs
                agreement = _agreement(subject) | {match.key: match.same_output for match in weightless}
            judged = _judged_difference(subject, field, agreement)
            follows = judged.verdict == "failed" and field.follows
            note = f"it differs only because {field.follows} does"
            yield replace(judged, verdict="not judged", note=note) if follows else judged


def _equal_because(field: FieldPair) -> str:
    """Return why a field is equal although Keras has another value than the translation of torch's value; else "".

    For example, padding="same" with a kernel of size 1 is padding=0 in torch. This may depend on the input size.
    """
    if not (field.torch_field and field.keras_field) or same_value(field.wanted, field.keras_value):
        return ""
    beside = f" {field.beside}" if field.beside else ""
    return f"for inputs of this size, {shown(field.keras_value)} in Keras is {shown(field.in_torch)} in torch{beside}"


def _judged_without_outputs(field: FieldPair) -> JudgedField | None:
    """Return the verdict on a hyper-parameter that differs, but cannot change the outputs of one inference: momentum.

    Return None for a hyper-parameter that can change these outputs: the verdict on it depends on them.
    """
    if field.selects:
        note = "Keras returns a part of torch's outputs, and float64 compares this part"
        return JudgedField(field=field, verdict=LEFT, note=note)
    if field.acts == "in training":
        return JudgedField(field=field, verdict="training only", note=_TRAINING)
    if field.acts == "between calls":
        note = "every run of the proofs begins with the initial state"
        return JudgedField(field=field, verdict="not judged", note=note)
    return None


def _judged_difference(subject: Subject, field: FieldPair, agreement: dict[tuple[str, str], bool]) -> JudgedField:
    """Return the verdict on a field (hyper-parameter) that has different values on the two sides.

    Args:
        subject: The two models.
        field: The field on both sides.
        agreement: Whether the two layers of a pair compute the same function, by their paths.
    """
    if (field.torch, field.keras) not in agreement:
        return _judged_by_others(subject, field)
    effect = _effect(subject, field)
    if effect != "none" and not agreement[field.torch, field.keras]:
        return JudgedField(field=field, verdict="failed", note="the two layers compute different values")
    if effect == "visible":
        is_same = field.torch_field and same_value(field.torch_value, field.in_torch)
        note = "the whole Keras layer corresponds to this value" if is_same else _COMPENSATED
        return JudgedField(field=field, verdict=LEFT, note=note)
    if effect == "hidden":
        note = "its effect is too small to be seen with these inputs, but not with smaller inputs"
        return JudgedField(field=field, verdict="failed", note=note)
    return JudgedField(field=field, verdict="training only", note=_TRAINING)


def _judged_by_others(subject: Subject, field: FieldPair) -> JudgedField:
    """Return the verdict on a field of layers without an output of their own (two torch layers for one of Keras).

    If all of them run, the layers after them and the outputs of the model show what a difference does.
    """
    sides = (subject.torch_probe, split_layers(field.torch)), (subject.keras_probe, split_layers(field.keras))
    if all(run.of(path) for run, paths in sides for path in paths):
        note = "the layers of this pair together are judged by the layers after them"
        return JudgedField(field=field, verdict=LEFT, note=note)
    return JudgedField(field=field, verdict="not judged", note="no run calls these layers")


def _agreement(subject: Subject) -> dict[tuple[str, str], bool]:
    """Return, for every pair of layers that runs, whether its layers compute the same function, by their paths.

    They compute the same function if the Keras layer, on torch's inputs, returns torch's outputs in float64, or if
    neighbouring layers compensate the difference.
    """
    agreement: dict[tuple[str, str], bool] = {}
    whole = probe_calls(subject)
    if would_agree_in_isolation(whole):
        return {call.key: True for call in whole}
    for call in call_pairs(subject, subject.torch_probe, isolated_probe(subject)):
        agreement[call.key] = agreement.get(call.key, True) and agrees_in_float64(call)
    if subject.keras_probe.masks and not all(agreement.values()):  # padding that only Keras masks is no field's fault
        for call in call_pairs(subject, subject.torch_probe, isolated_probe(subject, masked=False)):
            agreement[call.key] = agreement.get(call.key, True) or agrees_in_float64(call)
    compensated = frozenset() if all(agreement.values()) else compensated_pairs(subject)
    return {key: agrees or key in compensated for key, agrees in agreement.items()}


def _effect(subject: Subject, field: FieldPair) -> Literal["visible", "hidden", "none"]:
    """Return the effect of a field's Keras value on the output of the torch layer: "hidden", "none" or "visible".

    "hidden": the effect is within rounding (an epsilon that is added to a large variance). "none": the output does not
    change even at small inputs. "visible": any other effect; also if the layer raises with this value.
    """
    if not field.torch_field or field.in_torch is None or same_value(field.torch_value, field.in_torch):
        return "visible"
    inputs = subject.torch_probe.of(field.torch)[0].inputs
    change = _change(subject, field, inputs)
    if change > FLOAT64_LIMIT:
        return "visible"
    small = tuple(array * _SMALL if array.dtype.kind == "f" else array for array in inputs)
    return "hidden" if change or _change(subject, field, small) else "none"


def _change(subject: Subject, field: FieldPair, inputs: Arrays) -> float:
    """Return the relative change of the torch layer's output when a field gets the value of the Keras side.

    The change is infinite if the layer cannot run with this value.
    """
    from keras3conv.frameworks.torch import replay as torch_experiment

    run = partial(torch_experiment.run_with, subject.torch, field.torch)
    before = run({}, inputs, subject.probe_weights)
    after = run({field.torch_field: field.in_torch}, inputs, subject.probe_weights)
    if before is None or after is None or len(before) != len(after):
        return float("inf")
    pairs = [(new, old) for new, old in zip(after, before, strict=True) if old.size or new.size]
    if any(new.shape != old.shape for new, old in pairs):
        return float("inf")
    return max((compare(new, old).max_rel for new, old in pairs), default=0.0)


def shown(value: object) -> str:
    """Return a field's value as text for a report; floats get twelve digits, so that rounding is not visible."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(shown, value)) + ")"
    return "-" if value is None else str(value)
