"""The pair at another size of its values: where variances are small, an epsilon beside them is large.

A mistake in an epsilon shows by its share of the variance that it is added to. Beside pixels from 0 to 255, or in a
stream that grew from layer to layer, that share is below what float64 resolves. Two models that are one function agree
at any size, so they run once more, on inputs and under weights that keep the values of every layer tiny.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.frameworks.shared.inputs_scaled import resized, sizes_of
from keras3conv.model.views import TensorRef
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

SMALL = 2.0**-18
"""The size of small values, about 4e-6: their variance of 1.5e-11 is near the smallest epsilons in use (1e-12), and a
constant of 1 beside them, which a norm takes away again, leaves them eleven digits."""

USUAL = 1.0
"""The size of most values in a model that learned: beside pixels a softmax has one value alone, a sigmoid is flat."""

_FAR = 8.0
"""Inputs that are larger than usual values so many times, or smaller, are not all that a model is run on."""

SAMPLES = 2
"""So many samples run at another size: a norm over the batch needs two."""


@dataclass(frozen=True, kw_only=True)
class Resized:
    """A pair that is run at another size of its values.

    Attributes:
        subject: The pair, with the inputs and the probe weights of that size; None where it cannot be run so.
        reason: Why it cannot.
    """

    subject: Subject | None = None
    reason: str = ""


def other_sizes(subject: Subject) -> tuple[float, ...]:
    """The sizes of values at which a pair is run beside that of its inputs: small ones always."""
    far = any(not 1 / _FAR <= size / USUAL <= _FAR for size in sizes_of(subject.given))
    return (USUAL, SMALL) if far else (SMALL,)


def at_size(subject: Subject, size: float) -> Resized:
    """The pair with values of a size: both models ran, and what torch computed is finite.

    Args:
        subject: The pair on the inputs that were given.
        size: The root of the mean square that inputs and the outputs of layers are to have.
    """
    reason = ""
    for inputs in _inputs(subject, size):
        try:
            made = _with_weights(subject, inputs, size)
            if _is_finite(made):
                made.keras_probe  # noqa: B018 - it runs
                return Resized(subject=made)
            reason = "what torch computes is not finite"
        except ModelError as error:
            reason = str(error)
    return Resized(reason=reason)


def _inputs(subject: Subject, size: float) -> Iterator[Inputs]:
    """What both models are called with: first what costs least, last what they were given."""
    specs = subject.outlines[1].input_specs
    few = first_samples(subject.given, specs, SAMPLES)
    if few is not None:
        yield resized(few, size)
    yield resized(subject.given, size)
    yield subject.given


def _with_weights(subject: Subject, inputs: Inputs, size: float) -> Subject:
    from keras3conv.frameworks.torch import magnitudes as torch_magnitudes
    from keras3conv.frameworks.torch import module as torch_side

    tensors = {tensor.path: tensor for tensor in subject.torch_view.tensors()}
    fixed = subject.constants
    start = {
        path: array if path in fixed else _start(tensors[path], array, size)
        for path, array in subject.probe_weights.items()
    }
    with torch_side.precise():
        factors = torch_magnitudes.factors_for(subject.torch, inputs.torch, start, size, fixed=fixed)
    views = subject.torch_view, subject.keras_view
    return replace(
        subject,
        views=lambda: views,
        inputs=inputs,
        options=replace(subject.options, proofs=("float64",)),
        probes={path: array * factors[path] if path in factors else array for path, array in start.items()},
    )


def _start(tensor: TensorRef, values: Array, size: float) -> Array:
    """Probe weights of another size: what is added to values, and what norms know of them. Products keep theirs."""
    if "var" in tensor.role:
        return values * size**2
    is_added = len(tensor.shape) < 2 or (len(tensor.shape) > 2 and tensor.shape[0] == 1)
    return values * size if is_added else values


def _is_finite(subject: Subject) -> bool:
    run = subject.torch_probe
    arrays = [*run.outputs.values(), *(array for call in run.calls for array in call.outputs)]
    return all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")
