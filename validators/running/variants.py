"""List further runs of the two models, at other magnitudes, with padding and at other sizes, to cover all branches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras3conv.errors import ModelError, message_of
from keras3conv.frameworks.shared.bounds import SLICE, Bound
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.frameworks.shared.inputs_masked import (
    padded_at_the_start,
    wider_integers,
    with_masks,
    with_padding,
)
from keras3conv.frameworks.shared.inputs_varied import (
    FARTHEST,
    are_long_images,
    larger_sizes,
    repeated,
)
from keras3conv.transforms import Array
from keras3conv.validators.running.magnitudes import (
    SMALL,
    USUAL,
    Rescaled,
    at_large_magnitudes,
    at_magnitude,
    is_far_from_usual,
)
from keras3conv.validators.running.smaller import SAMPLES, at_smaller_size, on_smaller_images
from keras3conv.validators.running.subject import Subject

PADDING = "with padding"

_AT_THE_START = "with padding at the start"

_BETWEEN = "with padding between other steps"

_NOT_FINITE = ", some not finite on both sides"

_LENGTHS = 3
"""The number of samples that run with padding; each sample has another length."""

_FEW = 512
"""The number of elements below which inputs are repeated, to have room for many different integers."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Two models, with other inputs or weights than in the first run.

    Attributes:
        name: The difference from the original run, such as "at values of 32".
        subject: The models; None if they do not run, or if their run was judged and dropped.
        reason: Why they do not run; empty if they do.
        is_small: The values are so small that an activation hardly changes anything.
        may_overflow: Values that are infinite or NaN on both sides count as equal.
        is_optional: A difference is reported but is no failure, because the models may be used without such inputs.
        bounds: The bounds (limits of a clip) that were observed.
        is_scaled_in_run: The weights were scaled during the run of torch.
    """

    name: str
    subject: Subject | None = None
    reason: str = ""
    is_small: bool = False
    may_overflow: bool = False
    is_optional: bool = False
    bounds: tuple[Bound, ...] = ()
    is_scaled_in_run: bool = False

    @property
    def is_large(self) -> bool:
        """Whether the values are larger than those of the first run."""
        return self.is_scaled_in_run and not self.is_small


def variants(subject: Subject) -> Iterator[Variant]:
    """Yield the further runs of the two models; each run is made only when the iterator reaches it."""
    small, sizes = on_smaller_images(subject)
    if is_far_from_usual(subject):
        yield _at(at_magnitude(small, USUAL), sizes)
    beyond = 0
    for run in at_large_magnitudes(small):
        beyond = max([beyond, *(int(bound.value) for bound in run.bounds if bound.function == SLICE)])
        yield _at(run, sizes)
        del run  # its recorded values are large: they are freed before the next run
    for name, inputs in _other_inputs(subject):
        yield _with_inputs(subject, name, inputs)
    yield from _at_other_sizes(subject, beyond)
    if beyond > FARTHEST and any(None in spec.shape[1:] for spec in subject.outlines[1].input_specs):
        yield Variant(name=f"at a size beyond {beyond}", reason=f"a slice ends there; up to {FARTHEST} are tried")
    yield from _with_wider_integers(subject)
    yield _at(at_magnitude(small, SMALL), sizes)
    yield from _with_padding_at_the_start(subject)


def _at(run: Rescaled, sizes: str) -> Variant:
    """Return the run at another magnitude of values as a variant.

    Args:
        run: The run.
        sizes: The sizes of its images in words; empty if they are those of the original inputs.
    """
    magnitude = f"{run.magnitude:.2g}" if run.magnitude >= 1 else f"{run.magnitude:.1g}"
    smaller = f" and size {sizes}" if sizes else ""
    return Variant(
        name=f"at values of {magnitude}{smaller}" + ("" if run.is_finite else _NOT_FINITE),
        subject=run.subject,
        reason=run.reason,
        is_small=run.magnitude == SMALL,
        may_overflow=not run.is_finite,
        bounds=tuple(bound for bound in run.bounds if bound.function != SLICE),
        is_scaled_in_run=True,
    )


def _other_inputs(subject: Subject) -> Iterator[tuple[str, Inputs]]:
    """Yield (name, inputs) for runs with other inputs of the same size; a name is "with padding", for example."""
    given, specs = subject.required_inputs, subject.outlines[1].input_specs
    padded = _padded(subject)
    if padded is not None:
        yield PADDING, padded
    masked = with_masks(first_samples(given, specs, _LENGTHS) or given)
    if masked is not None:
        yield "with masks that hide something", masked


def _at_other_sizes(subject: Subject, beyond: int) -> Iterator[Variant]:
    """Yield the models with inputs of a smaller and of a larger size, if a size is dynamic.

    Args:
        subject: The models with the original inputs.
        beyond: The largest end of a slice that is beyond its axis, such as 512 for `x[:512]` of 77 elements; 0 if
            there is no such slice.
    """
    smaller = at_smaller_size(subject)
    if smaller is not None:
        yield Variant(name=f"at size {smaller.sizes}", subject=smaller.subject, reason=smaller.reason)
    given, specs = subject.required_inputs, subject.outlines[1].input_specs
    numbers = (1, SAMPLES) if are_long_images(given, specs) else (SAMPLES,)
    few = [*filter(None, (first_samples(given, specs, number) for number in numbers))]
    larger = filter(None, (larger_sizes(inputs, specs, beyond) for inputs in few or [given]))
    found = None
    for sizes, inputs in larger:
        found = _with_inputs(subject, f"at size {sizes}", inputs)
        if found.subject is not None:
            break
    if found is not None:
        yield found


def _padded(subject: Subject) -> Inputs | None:
    """Return a few samples with padding added; None if Keras does not mask padding or the samples have some."""
    given, outline = subject.required_inputs, subject.outlines[1]
    few = first_samples(given, outline.input_specs, _LENGTHS) or given
    return with_padding(few, outline.input_specs, outline.mask_values)


def _with_padding_at_the_start(subject: Subject) -> Iterator[Variant]:
    """Yield the models with inputs in which padding precedes the steps, as `pad_sequences` of Keras pads by default.

    A module that takes the first steps of each sample (`pack_padded_sequence`) supports padding at the end only.
    """
    padded = _padded(subject) or subject.required_inputs
    turned = padded_at_the_start(padded, subject.outlines[1].mask_values)
    if turned is not None:
        yield replace(_with_inputs(subject, _AT_THE_START, turned), is_optional=True)


def _with_wider_integers(subject: Subject) -> Iterator[Variant]:
    """Yield, for each integer input, the models with the largest range of integers that both accept.

    If one side reads every integer but 0 as 1, the input is a mask. A difference is then no failure.
    """
    from keras3conv.frameworks.torch import module as torch_side

    if not torch_side.indices_are_checked(subject.torch):
        return
    given, specs = subject.required_inputs, subject.outlines[1].input_specs
    rows = [tensor.shape[0] for tensor in subject.outlines[1].tensors() if tensor.role == "embeddings"]
    few = repeated(given, specs, most=_FEW) or first_samples(given, specs, SAMPLES) or given
    for ranges in wider_integers(few, rows, is_masked=0 in subject.outlines[1].mask_values):
        for wide in ranges:
            variant = _with_inputs(subject, f"with integers from 0 to {wide.end}", wide.inputs)
            if variant.subject is None:
                continue
            finite = [_are_finite(run.outputs) for run in (variant.subject.torch_probe, variant.subject.keras_probe)]
            if finite[0] != finite[1] and not wide.is_given:
                continue  # a mask times -1e38, for example, is too large for float32, in which only one side computes
            if False in finite:  # a length of 0, for example: the mean of no steps
                variant = replace(variant, name=f"{variant.name}{_NOT_FINITE}", may_overflow=True)
            if _agree_on_a_side(variant, _with_inputs(subject, "", wide.as_mask)):
                yield replace(variant, name=f"{variant.name} in a mask", is_optional=True)
                break
            yield variant
            for name, inputs in (("with negative integers", wide.negative), (_BETWEEN, wide.between)):
                other = _with_inputs(subject, name, inputs) if inputs else None
                if other and other.subject is not None:
                    yield replace(other, is_optional=True)
            break


def _are_finite(outputs: Mapping[str, Array]) -> bool:
    """Return whether all floating-point outputs of a model are finite."""
    return all(bool(np.isfinite(array).all()) for array in outputs.values() if array.dtype.kind == "f")


def _agree_on_a_side(first: Variant, second: Variant) -> bool:
    """Return whether at least one of the two models returns the same values in both runs."""
    if first.subject is None or second.subject is None:
        return False
    for run in ("torch_probe", "keras_probe"):
        one, other = (getattr(subject, run).outputs for subject in (first.subject, second.subject))
        if all(np.array_equal(one[name], other.get(name), equal_nan=True) for name in one):
            return True
    return False


def _with_inputs(subject: Subject, name: str, inputs: Inputs) -> Variant:
    varied = subject.varied(inputs)
    try:
        for run in ("torch_probe", "keras_probe"):
            getattr(varied, run)
    except ModelError as error:
        return Variant(name=name, reason=" ".join(message_of(error).split()))
    return Variant(name=name, subject=varied)
