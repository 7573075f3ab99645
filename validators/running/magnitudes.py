"""Run the two models at another magnitude of their values, to detect a wrong epsilon.

A wrong epsilon changes the outputs in proportion to its ratio to the variance that it is added to. With pixels from 0
to 255, or activations that grow from layer to layer, the change is below float64 rounding. Two models that compute the
same function agree at every magnitude. So they run again with inputs and weights that keep the values of every layer
tiny.
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
"""Root mean square of small values, about 4e-6. Their variance of 1.5e-11 is near the smallest epsilon in use (1e-12).
If 1 is added to them and subtracted again by a normalisation, eleven digits are left."""

USUAL = 1.0
"""Root mean square of the activations of most trained models: at pixel values a softmax or a sigmoid saturates."""

_FAR = 8.0
"""If the inputs are larger or smaller than `USUAL` by this factor, the models also run at the usual magnitude."""

SAMPLES = 2
"""Number of samples that run at another magnitude: a normalisation over the batch needs two."""


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """Two models prepared for another magnitude of their values.

    Attributes:
        subject: The models with rescaled inputs and probe weights; None if the models do not run with these values.
        reason: The reason why the models do not run; empty if they run.
    """

    subject: Subject | None = None
    reason: str = ""


def other_magnitudes(subject: Subject) -> tuple[float, ...]:
    """Return the additional magnitudes to run: `SMALL`, and `USUAL` if the inputs are far from it."""
    are_far = any(not 1 / _FAR <= size / USUAL <= _FAR for size in sizes_of(subject.required_inputs))
    return (USUAL, SMALL) if are_far else (SMALL,)


def at_magnitude(subject: Subject, magnitude: float) -> Rescaled:
    """Run both models at a magnitude, with the first of several rescaled inputs for which torch's values are finite.

    Args:
        subject: The models with the original inputs.
        magnitude: Target root mean square of the inputs and of the layer outputs.
    """
    reason = ""
    for inputs in _candidate_inputs(subject, magnitude):
        try:
            rescaled = _with_rescaled_weights(subject, inputs, magnitude)
            if _is_finite(rescaled):
                rescaled.keras_probe  # noqa: B018 - runs the Keras model, which may raise
                return Rescaled(subject=rescaled)
            reason = "torch computes values that are not finite"
        except ModelError as error:
            reason = str(error)
    return Rescaled(reason=reason)


def _candidate_inputs(subject: Subject, magnitude: float) -> Iterator[Inputs]:
    """Yield inputs to try, the fewest samples first and the original inputs last."""
    specs = subject.outlines[1].input_specs
    few = first_samples(subject.required_inputs, specs, SAMPLES)
    if few is not None:
        yield resized(few, magnitude)
    yield resized(subject.required_inputs, magnitude)
    yield subject.required_inputs


def _with_rescaled_weights(subject: Subject, inputs: Inputs, magnitude: float) -> Subject:
    from keras3conv.frameworks.torch import magnitudes as torch_magnitudes
    from keras3conv.frameworks.torch import module as torch_side

    tensors = {tensor.path: tensor for tensor in subject.torch_view.tensors()}
    constants = subject.constants
    weights = {}
    for path, values in subject.probe_weights.items():
        weights[path] = values if path in constants else _rescaled(tensors[path], values, magnitude)
    with torch_side.precise():
        factors = torch_magnitudes.factors_for(subject.torch, inputs.torch, weights, magnitude, fixed=constants)
    weights = {path: values * factors.get(path, 1.0) for path, values in weights.items()}
    views = subject.torch_view, subject.keras_view
    return replace(
        subject,
        views=lambda: views,
        inputs=inputs,
        options=replace(subject.options, proofs=("float64",)),
        probes=weights,
    )


def _rescaled(tensor: TensorRef, values: Array, magnitude: float) -> Array:
    """Rescale a tensor if it is added (a bias, a table) or a statistic; a factor of a product is not changed."""
    if "var" in tensor.role:
        return values * magnitude**2
    is_added = len(tensor.shape) < 2 or (len(tensor.shape) > 2 and tensor.shape[0] == 1)
    return values * magnitude if is_added else values


def _is_finite(subject: Subject) -> bool:
    run = subject.torch_probe
    arrays = [*run.outputs.values(), *(array for call in run.calls for array in call.outputs)]
    return all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")
