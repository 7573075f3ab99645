"""Choose the layer to blame where two models differ: the first one that differs, unless later layers compensate it."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from keras3conv.alignment.audit import audit
from keras3conv.alignment.pair import Pair
from keras3conv.errors import Problem, first_of
from keras3conv.rules.library import find
from keras3conv.rules.registry import is_users_own
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.causes import Explanation, explained_problem
from keras3conv.validators.diagnosis.lines import setting_lines
from keras3conv.validators.diagnosis.search import INPUT_DIFFERS, explain_layer
from keras3conv.validators.running.call_pairs import CallPair, call_pairs
from keras3conv.validators.running.judged_fields import shown
from keras3conv.validators.running.neighbours import agrees_in_float64
from keras3conv.validators.running.subject import Subject

TRIED = 3
"""The largest number of differing layers whose cause is searched; the search ends at the first layer with a cause."""

_ORDER = ": the same rows in another order"
"""The remark for a layer that returns torch's values in a different order."""


def layer_problem(
    subject: Subject,
    calls: Sequence[CallPair],
    failed: Sequence[int],
    clear: Sequence[int],
    in_words: Callable[[CallPair], str],
) -> Problem:
    """Return the problem of the layer to blame for the differences of a run in float64, with its cause.

    Args:
        subject: The models with the inputs and weights of this run.
        calls: The calls of all layer pairs.
        failed: Indices of the calls that differ.
        clear: Indices of those that differ by more than a constant that one side rounds to float32 explains. A cause
            of theirs comes first, because the deployed models agree up to such constants.
        in_words: Describes the difference of a call.
    """

    def with_cause(candidates: Sequence[CallPair], differing: Sequence[int], fact: str) -> Problem | None:
        index, explanation = blame_layer(subject, candidates, differing, subject.probe_weights)
        if explanation is None or not explanation.is_found:
            return None
        call = candidates[index]
        return explained_problem(*call.key, f"{fact}: {in_words(call)}", explanation)

    order = ""
    if clear and clear[0] != failed[0]:
        problem = with_cause(calls, clear, "the first layer that differs by more than rounded constants")
        if problem is not None:
            return problem
    if not subject.outputs_are_near:
        in_order = list(call_pairs(subject, subject.torch_probe, subject.keras_probe, any_order=True))
        others = [place for place in failed if not agrees_in_float64(in_order[place])]
        if others and any(in_order[place].order is not None for place in failed):
            # An order of rows that ends before the outputs is no mistake: a layer with other rows is blamed first. That
            # its inputs have another order may be its mistake, or that of a layer before it.
            for candidates in (calls, in_order):
                problem = with_cause(candidates, others, "the first layer that differs")
                if problem is not None:
                    return problem
        if failed[0] not in others:
            order = _ORDER + "".join(
                f"; the first with other rows is {calls[place].pair.torch}" for place in others[:1]
            )
    index, explanation = blame_layer(subject, calls, failed, subject.probe_weights)
    call = calls[index]
    uncompensated = "" if index == failed[0] else " and is not compensated by a neighbouring layer"
    order = order if index == failed[0] and not (explanation and explanation.is_found) else ""
    fact = f"the first layer that differs{uncompensated}: {in_words(call)}{order}"
    return explained_problem(*call.key, fact, explanation)


def blame_layer(
    subject: Subject, calls: Sequence[CallPair], differing: Sequence[int], weights: Mapping[str, Array] | None
) -> tuple[int, Explanation | None]:
    """Return the layer call to blame for a difference (its index), with the explanation; None if no layer differs.

    The first call that differs is blamed, with two exceptions. First, if no cause is found for this call, a
    neighbouring layer may compensate its difference (a cropping after a transposed convolution). The next differing
    calls are then searched, and the first one with a single cause is blamed. Second, even a call with a cause may be
    compensated. If the next call agrees or has the same shape on both sides, and the next differing call has a
    different cause, this later call is blamed.

    Args:
        subject: The two models.
        calls: The calls of all layer pairs.
        differing: Indices of the calls that differ.
        weights: Torch's tensors in this run, by path; None for the module's own tensors, in its own dtype.
    """
    first: tuple[int, Explanation | None] | None = None
    for number, index in enumerate(differing):
        explanation = _own_setting(subject, calls[index].pair) or explain_layer(subject, calls[index], weights)
        first = first or (index, explanation)
        if explanation is not None and explanation.is_found:
            later = _later_cause(subject, calls, differing[number:], explanation, weights)
            return later or (index, explanation)
        if not calls[index].mismatch and (explanation is not None or number + 1 >= TRIED):
            break
    assert first is not None, "blame_layer needs at least one differing call"
    found = first[1] or _own_rule(calls[first[0]].pair.rule)
    return first[0], found and _with_place(found, calls[: first[0]], {*differing})


def _with_place(explanation: Explanation, before: Sequence[CallPair], differing: Set[int]) -> Explanation:
    """Return an explanation; if the input of the layer differs, with the layers before it that agree, the last first.

    Args:
        explanation: The explanation of the first layer that differs.
        before: The calls before that of this layer.
        differing: Indices of the calls that differ.
    """
    agree = [call.pair.torch for place, call in enumerate(before) if place not in differing and not call.mismatch]
    if not agree or not explanation.cause.startswith(INPUT_DIFFERS):
        return explanation
    named = first_of([*dict.fromkeys(reversed(agree))], 3)
    return replace(explanation, cause=f"{explanation.cause}; the layers before it agree: {named}")


def _own_setting(subject: Subject, pair: Pair) -> Explanation | None:
    """Return as cause the arguments that differ in a layer pair of a rule that the user registered; else None.

    The operations inside such a layer are the user's own, so that a search among them names a symptom.
    """
    if not is_users_own(find(pair.rule)):
        return None
    audited = audit([pair], subject.torch_view, subject.keras_view)
    fields = [
        field
        for field in audited
        if field.agrees is False and field.acts == "always" and field.torch_field and field.keras_field
    ]
    if not fields:
        return None
    causes: list[str] = []
    torch: list[str] = []
    keras: list[str] = []
    for field in fields:
        in_keras = f"{field.keras_field} is {shown(field.keras_value)} in Keras"
        causes.append(f"{field.torch_field} is {shown(field.torch_value)} in torch, {in_keras}")
        keras += setting_lines(field.keras_field, field.wanted, field.keras_value, field.keras, field.keras_beside)
        if field.in_torch is not None:
            torch += setting_lines(field.torch_field, field.in_torch, field.torch_value, field.torch, field.beside)
    return Explanation(cause="; ".join(causes), fix="\n".join(torch), keras="\n".join(keras))


def _own_rule(name: str) -> Explanation | None:
    """Return the advice to check the rule of a layer pair, if the user registered this rule; None for a built-in rule.

    Args:
        name: The name of the rule by which the layers are paired.
    """
    rule = find(name)
    if not is_users_own(rule):
        return None
    cause = f"the layers are paired by your rule {rule.name} ({rule.origin}): check its transforms and its arguments"
    return Explanation(cause=cause, is_found=False)


def _later_cause(
    subject: Subject,
    calls: Sequence[CallPair],
    differing: Sequence[int],
    explanation: Explanation,
    weights: Mapping[str, Array] | None,
) -> tuple[int, Explanation] | None:
    """Return the second layer call that differs (its index) and its cause, if the first call has another cause.

    In this case, the layers between the two calls compensate the first difference. This is possible only if the call
    right after the first one agrees, or has the same shape on both sides. Return None in any other case.

    Args:
        subject: The two models.
        calls: The calls of all layer pairs.
        differing: Indices of the calls that differ.
        explanation: The cause of the first of them.
        weights: Torch's tensors in this run, by path; None for the module's own tensors, in its own dtype.
    """
    if len(differing) < 2 or calls[differing[1]].mismatch:
        return None
    first, second = differing[0], differing[1]
    if second == first + 1 and not calls[first].mismatch:
        return None
    later = explain_layer(subject, calls[second], weights, briefly=True)
    if later is None or not later.is_found or explanation.cause in later.cause:
        return None
    return second, later
