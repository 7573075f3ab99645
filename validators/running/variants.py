"""List further runs of the two models, at other magnitudes, with padding and at other sizes, to cover all branches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.bounds import Bound
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.frameworks.shared.inputs_varied import (
    has_padding,
    integers_in_words,
    other_sizes,
    sizes_in_words,
    with_padding,
)
from keras3conv.messages import count
from keras3conv.validators.running.magnitudes import (
    SAMPLES,
    SMALL,
    USUAL,
    Rescaled,
    at_large_magnitudes,
    at_magnitude,
    is_far_from_usual,
)
from keras3conv.validators.running.subject import Subject

PADDING = "with padding"

_LENGTHS = 3
"""The number of samples that run with padding, each of another length."""

_SHOWN = 5
"""The number of bounds listed in the report."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Two models with other inputs or weights.

    Attributes:
        name: What differs, in words: "at values of 32".
        subject: The models; None if they do not run.
        reason: Why they do not run.
        is_small: Whether the values are so small that an activation hardly changes anything.
        may_overflow: Whether values that are infinite or NaN on both sides count as equal.
        bounds: The limits of clips and similar operations that were observed.
        is_scaled_in_run: Whether the weights were scaled during the run of torch.
    """

    name: str
    subject: Subject | None = None
    reason: str = ""
    is_small: bool = False
    may_overflow: bool = False
    bounds: tuple[Bound, ...] = ()
    is_scaled_in_run: bool = False


def variants(subject: Subject) -> Iterator[Variant]:
    """Yield the further runs lazily: a run is made when the iterator reaches it."""
    if is_far_from_usual(subject):
        yield _at(at_magnitude(subject, USUAL))
    for run in at_large_magnitudes(subject):
        yield _at(run)
    for name, inputs in _other_inputs(subject):
        yield _with_inputs(subject, name, inputs)
    yield _at(at_magnitude(subject, SMALL))


def _at(run: Rescaled) -> Variant:
    size = f"{run.magnitude:.2g}" if run.magnitude >= 1 else f"{run.magnitude:.1g}"
    return Variant(
        name=f"at values of {size}" + ("" if run.is_finite else ", some not finite on both sides"),
        subject=run.subject,
        reason=run.reason,
        is_small=run.magnitude == SMALL,
        may_overflow=not run.is_finite,
        bounds=run.bounds,
        is_scaled_in_run=True,
    )


def _other_inputs(subject: Subject) -> Iterator[tuple[str, Inputs]]:
    """Yield inputs with padding if the Keras model masks it, and inputs of other sizes along its dynamic axes."""
    given, outline = subject.required_inputs, subject.outlines[1]
    specs = outline.input_specs
    padded = with_padding(first_samples(given, specs, _LENGTHS) or given, outline.mask_values)
    if padded is not None:
        yield PADDING, padded
    for sizes, inputs in other_sizes(first_samples(given, specs, SAMPLES) or given, specs):
        yield f"at size {sizes}", inputs


def _with_inputs(subject: Subject, name: str, inputs: Inputs) -> Variant:
    views = subject.torch_view, subject.keras_view
    varied = replace(
        subject,
        views=lambda: views,
        inputs=inputs,
        options=replace(subject.options, proofs=("float64",)),
        probes=subject.probe_weights,
    )
    try:
        for run in ("torch_probe", "keras_probe"):
            getattr(varied, run)
    except ModelError as error:
        return Variant(name=name, reason=" ".join(str(error).split()))
    return Variant(name=name, subject=varied)


def exercised(subject: Subject, seen: Sequence[Variant]) -> dict[str, str]:
    """Return report facts about the behaviour that the runs covered and did not cover, such as bounds and padding.

    Args:
        subject: The models with the original inputs.
        seen: The further runs that were made.
    """
    outline = subject.outlines[1]
    sizes = sizes_in_words(subject.required_inputs, outline.input_specs)
    names = [variant.name for variant in seen if variant.subject]
    bounds = _over_all_runs([variant.bounds for variant in seen if variant.bounds])
    passed = sum(bound.is_passed for bound in bounds)
    integers = integers_in_words(subject.required_inputs)
    parts = ["the inputs" + (f" of size {sizes}" if sizes else ""), *([integers] if integers else []), *names]
    if bounds:
        parts.append(f"values on both sides of {passed} of {count(len(bounds), 'bound')}")
    is_padded = has_padding(subject.required_inputs, outline.mask_values)
    parts += ["padded steps"] if is_padded else []
    missed = [f"{variant.name} ({variant.reason})" for variant in seen if not variant.subject]
    unpassed = list(dict.fromkeys(str(bound) for bound in bounds if not bound.is_passed))
    missed += unpassed[:_SHOWN] + ([f"{len(unpassed) - _SHOWN} more bounds"] if len(unpassed) > _SHOWN else [])
    if (
        outline.mask_values
        and not is_padded
        and not any(variant.name == PADDING and variant.subject for variant in seen)
    ):
        missed.append("padded steps, which the Keras model masks")
    facts = {"exercised": ", ".join(parts)}
    return facts | ({"not reached": "; ".join(missed)} if missed else {})


def _over_all_runs(runs: Sequence[Sequence[Bound]]) -> list[Bound]:
    """Return every bound once: from a run with values beyond it if there is one, else from the last run."""
    if len({len(run) for run in runs}) != 1:
        return list(runs[-1]) if runs else []
    return [next((bound for bound in same if bound.is_passed), same[-1]) for same in zip(*runs, strict=True)]


__all__ = ["Variant", "exercised", "variants"]
