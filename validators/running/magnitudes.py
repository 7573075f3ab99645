"""Run the two models with other magnitudes of values: small, where an epsilon matters, and large, beyond any clipping.

A wrong epsilon is visible only if it is not negligible next to the variance. With pixels from 0 to 255, or in
activations that grow from layer to layer, its effect is below float64 rounding. A bound (the 6 of a ReLU6, the limits
of a clip) is visible only in values beyond it. Two models that compute the same function agree at every magnitude, so
they run again with inputs and weights for tiny values in every layer, and for large values of both signs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from keras3conv.errors import ModelError, message_of
from keras3conv.frameworks.shared.bounds import Bound
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.frameworks.shared.inputs_scaled import resized, sizes_of
from keras3conv.frameworks.shared.inputs_varied import both_signs, with_more_samples
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.model.views import TensorRef
from keras3conv.transforms import Array
from keras3conv.validators.running.smaller import SAMPLES
from keras3conv.validators.running.subject import Subject

SMALL = 2.0**-18
"""Root mean square of small values, about 4e-6. Their variance of 1.5e-11 is near the smallest epsilon in use (1e-12).
If 1 is added to them and subtracted again by a normalisation, eleven digits are left."""

USUAL = 1.0
"""The root mean square of the activations of most trained models; at that of pixels, softmax and sigmoid saturate."""

LARGE = (32.0, 8.0)
"""Root mean square of large values: past the 6 of a ReLU6 and most other bounds.

The second number is for models whose values overflow at the first.
"""

_STRONGEST = 2.0**20
"""The largest factor by which values are made larger than `LARGE`, to pass a bound."""

_FAR = 8.0
"""The factor between the size of the inputs and `USUAL` from which the models also run at the usual magnitude."""


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """Two models prepared for another magnitude of their values.

    Attributes:
        subject: The models with rescaled inputs and random weights; None if they do not run with them.
        reason: Why they do not run; empty if they do.
        magnitude: The root mean square of the values.
        bounds: The bounds (limits of a clip) in the operations of both models; empty in a run at small values.
        is_finite: Whether all values of both models are finite; at large values some may overflow.
    """

    subject: Subject | None = None
    reason: str = ""
    magnitude: float = 0.0
    bounds: tuple[Bound, ...] = ()
    is_finite: bool = True


def is_far_from_usual(subject: Subject) -> bool:
    """Return whether the inputs are so large or small that the models should also run with inputs of the usual size."""
    return any(not 1 / _FAR <= size / USUAL <= _FAR for size in sizes_of(subject.required_inputs))


def at_magnitude(subject: Subject, magnitude: float) -> Rescaled:
    """Run both models with values of another size: for the first rescaled inputs with which torch's values are finite.

    Args:
        subject: The models with the original inputs.
        magnitude: The size of the values: the target root mean square of the inputs and of the layer outputs.
    """
    reason = ""
    for inputs in _candidate_inputs(subject, lambda given: resized(given, magnitude)):
        try:
            rescaled = _with_rescaled_weights(subject, inputs, magnitude, [])
            infinite = _first_infinite(rescaled.torch_probe, subject.torch_probe)
            if not infinite:
                rescaled.keras_probe  # noqa: B018 - runs the Keras model, which may raise
                return Rescaled(subject=rescaled, magnitude=magnitude)
            reason = f"torch computes values that are not finite, first in {infinite}"
        except ModelError as error:
            reason = message_of(error)
    return Rescaled(reason=reason, magnitude=magnitude)


def at_large_magnitudes(subject: Subject) -> Iterator[Rescaled]:
    """Run both models at large values, and again at larger ones while a bound (limit of a clip) is not exceeded.

    The last run has the largest values, so that also values which a small factor reduces before the bound exceed it.
    """
    best = _first_finite(run for magnitude in LARGE for run in _large_runs(subject, magnitude))
    yield best
    growth = [2.0 ** ceil(log2(4 * _missing_factor(best))), _STRONGEST]
    for factor in growth:
        if not (best.subject and best.is_finite and 1 < _missing_factor(best) <= _STRONGEST):
            return
        larger = _first_finite(_large_runs(subject, best.magnitude * factor))
        if not (larger.subject and larger.is_finite):
            return
        best = larger
        yield best


def _missing_factor(run: Rescaled) -> float:
    return max((bound.missing_factor for bound in run.bounds), default=1.0)


def _first_finite(runs: Iterable[Rescaled]) -> Rescaled:
    """Return the first run in which all values are finite; else the first that did not raise; else the first."""
    tried = []
    for run in runs:
        if run.subject and run.is_finite:
            return run
        tried.append(run)
    return next((run for run in tried if run.subject), tried[0])


def _large_runs(subject: Subject, magnitude: float) -> Iterator[Rescaled]:
    """Yield runs of both models with large values: with rescaled inputs of more, few and all samples, then unscaled."""
    many = with_more_samples(both_signs(subject.required_inputs), subject.outlines[1].input_specs)
    if many is not None:
        yield _large_run(subject, resized(many, magnitude), magnitude)
    for inputs in _candidate_inputs(subject, lambda given: resized(both_signs(given), magnitude)):
        yield _large_run(subject, inputs, magnitude)


def _large_run(subject: Subject, inputs: Inputs, magnitude: float) -> Rescaled:
    from keras3conv.frameworks.keras import bounds as keras_bounds
    from keras3conv.frameworks.torch import bounds as torch_bounds

    try:
        with torch_bounds.observed_bounds() as in_torch:
            rescaled = _with_rescaled_weights(subject, inputs, magnitude, in_torch)
            is_finite = not _first_infinite(rescaled.torch_probe, subject.torch_probe)
        with keras_bounds.observed_bounds() as in_keras, torch_bounds.observed_slices() as slices:
            is_finite = not _first_infinite(rescaled.keras_probe, subject.keras_probe) and is_finite
    except ModelError as error:
        return Rescaled(reason=message_of(error), magnitude=magnitude)
    return Rescaled(subject=rescaled, magnitude=magnitude, bounds=(*in_torch, *in_keras, *slices), is_finite=is_finite)


def _candidate_inputs(subject: Subject, change: Callable[[Inputs], Inputs]) -> Iterator[Inputs]:
    """Yield inputs for a run at another magnitude: a few rescaled samples, then all, then the original inputs."""
    specs = subject.outlines[1].input_specs
    few = first_samples(subject.required_inputs, specs, SAMPLES)
    if few is not None:
        yield change(few)
    yield change(subject.required_inputs)
    yield subject.required_inputs


def _with_rescaled_weights(subject: Subject, inputs: Inputs, magnitude: float, bounds: list[Bound]) -> Subject:
    """Return the models with random weights for layer outputs of a magnitude, and with torch's run under these weights.

    The factor of each weight is found during the run of torch, layer by layer.

    Args:
        subject: The models with the original inputs.
        inputs: The rescaled inputs.
        magnitude: Target root mean square of the layer outputs.
        bounds: The bounds that are observed in torch's run.
    """
    from keras3conv.frameworks.torch import magnitudes as torch_magnitudes
    from keras3conv.frameworks.torch import module as torch_side

    tensors = {tensor.path: tensor for tensor in subject.torch_view.tensors()}
    constants = subject.constants
    weights = {}
    for path, values in subject.probe_weights.items():
        weights[path] = values if path in constants else _rescaled(tensors[path], values, magnitude)
    with torch_side.precise():
        found = torch_magnitudes.scaled_run(
            subject.torch,
            inputs.torch,
            weights,
            magnitude,
            fixed=constants,
            record=subject.recorded_in_probe["torch"].__contains__,
            bounds=bounds,
        )
    weights = {path: values * found.factors.get(path, 1.0) for path, values in weights.items()}
    rescaled = subject.varied(inputs, weights)
    if found.recording is None:
        bounds.clear()
    else:
        rescaled.take_torch_probe(found.recording)
    return rescaled


def _rescaled(tensor: TensorRef, values: Array, magnitude: float) -> Array:
    """Return the values of a weight for layer outputs of another magnitude.

    A tensor that is added (a bias, a table of positions) is multiplied by the magnitude, a variance by its square. Any
    other tensor, such as a kernel, is unchanged.
    """
    if "var" in tensor.role:
        return values * magnitude**2
    is_added = len(tensor.shape) < 2 or (len(tensor.shape) > 2 and tensor.shape[0] == 1)
    return values * magnitude if is_added else values


def _first_infinite(run: Recording, usual: Recording) -> str:
    """Return the name of the first layer call or output with values that are not finite; "" if there is none.

    The border of minus infinity before a max pooling, for example, is part of the model: a layer or output whose values
    are not all finite in the usual run either does not count.

    Args:
        run: The run of a model at another magnitude of its values.
        usual: The run of the same model with the original inputs.
    """
    allowed = {name for name, array in _named_values(usual) if not _is_finite(array)}
    return next((name for name, array in _named_values(run) if name not in allowed and not _is_finite(array)), "")


def _named_values(run: Recording) -> Iterator[tuple[str, Array]]:
    """Yield the name and each value of every layer call and every output of a run."""
    for call in run.calls:
        for array in call.outputs:
            yield call.path, array
    for name, array in run.outputs.items():
        yield f"output {name}".rstrip(), array


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
