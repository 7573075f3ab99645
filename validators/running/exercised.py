"""Describe the inputs, sizes, bounds and padding that the runs of two models reached, and those that they missed."""

from collections import Counter
from collections.abc import Sequence

from keras3conv.frameworks.shared.bounds import Bound
from keras3conv.frameworks.shared.inputs_masked import has_padding
from keras3conv.frameworks.shared.inputs_varied import integers_in_words, sizes_in_words
from keras3conv.messages import count
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.variants import PADDING, Variant

_SHOWN = 5
"""The number of bounds (limits of a clip) that the report lists."""

_ALIKE = ("at values of ", "at size ")
"""The beginnings of the names of runs that are listed together."""


def exercised(subject: Subject, seen: Sequence[Variant], differing: Sequence[Variant] = ()) -> dict[str, str]:
    """Return the lines "exercised" and "not reached" of the report: the inputs, sizes, bounds and padding of the runs.

    Args:
        subject: The models with the original inputs.
        seen: The further runs that were made.
        differing: The optional runs in which the models differ.
    """
    outline = subject.outlines[1]
    sizes = sizes_in_words(subject.required_inputs, outline.input_specs)
    names = in_groups([variant.name for variant in seen if not variant.reason])
    bounds = _over_all_runs([variant.bounds for variant in seen if variant.bounds])
    passed = sum(bound.is_passed for bound in bounds)
    integers = integers_in_words(subject.required_inputs)
    own = [integers] if integers and f"with {integers}" not in names else []
    parts = ["the inputs" + (f" of size {sizes}" if sizes else ""), *own, *names]
    if bounds:
        parts.append(f"values on both sides of {passed} of {count(len(bounds), 'bound')}")
    is_padded = has_padding(subject.required_inputs, outline.mask_values)
    parts += ["padded steps"] if is_padded else []
    missed = [f"{variant.name} ({variant.reason})" for variant in seen if variant.reason]
    unpassed = Counter(str(bound) for bound in bounds if not bound.is_passed)
    shown = dict(list(unpassed.items())[:_SHOWN])
    missed += [f"{bound}, {number} times" if number > 1 else bound for bound, number in shown.items()]
    rest = unpassed.total() - sum(shown.values())
    missed += [f"{rest} more"] if rest else []
    if (
        outline.mask_values
        and not is_padded
        and not any(variant.name == PADDING and not variant.reason for variant in seen)
    ):
        missed.append("padded steps, which the Keras model masks")
    facts = {"exercised": ", ".join(parts)}
    facts |= {"not reached": "; ".join(missed)} if missed else {}
    return facts | ({"they differ": ", ".join(variant.name for variant in differing)} if differing else {})


def in_groups(names: Sequence[str]) -> list[str]:
    """Return the names of runs, those that differ in one number as one: "at values of 32 and 4e-06"."""
    alike: dict[str, list[str]] = {}
    for name in names:
        start = next((start for start in _ALIKE if name.startswith(start) and " " not in name[len(start) :]), "")
        alike.setdefault(start or name, []).append(name.removeprefix(start))
    return [f"{start}{_listed(ends)}" if start in _ALIKE else start for start, ends in alike.items()]


def _listed(texts: Sequence[str]) -> str:
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def unreached_in_words(seen: Sequence[Variant]) -> str:
    """Return the number of bounds (limits of a clip) that no values exceeded, as text: "2 of 10 bounds not reached".

    The text is empty if values exceeded all bounds. A bound is counted once for each call that has it.
    """
    bounds = _over_all_runs([variant.bounds for variant in seen if variant.bounds])
    number = sum(not bound.is_passed for bound in bounds)
    return f"{number} of {count(len(bounds), 'bound')} not reached" if number else ""


def _over_all_runs(runs: Sequence[Sequence[Bound]]) -> list[Bound]:
    """Merge the bounds of several runs: each is that of a run with values on both sides of it, else of the last run."""
    if len({len(run) for run in runs}) != 1:
        return list(runs[-1]) if runs else []
    return [next((bound for bound in same if bound.is_passed), same[-1]) for same in zip(*runs, strict=True)]
