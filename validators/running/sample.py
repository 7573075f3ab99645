"""Measure the noise floor (torch's own rounding error) on a few samples of a batch, if only outputs are validated.

Float32 rounding in torch is visible in a few samples as well as in the whole batch. Fewer samples give a smaller or
equal noise floor, so the judgement is not more lenient. If an output exceeds the noise floor of the samples, that of
the whole batch decides. The method is valid for an output whose first axis is the batch, if each sample's values depend
on this sample only. For any other output, the noise floor of the whole batch decides.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.inputs import Inputs, arrays_of, map_arrays
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.difference import noise_floor
from keras3conv.numerics.judgement import judge
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

SHARE = 16
"""The float64 run uses one of every `SHARE` samples, and at least one sample."""

SMALLEST_BATCH = 4
"""The smallest batch of which samples are taken; a second run saves no time for a smaller one."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The torch module on the first samples of a batch.

    Attributes:
        run: The run of the samples in the module's own dtype.
        truth: The run of the samples in float64.
        whole: The run of the whole batch in the module's own dtype.
        description: Number of samples and size of the batch, in words.
    """

    run: Recording
    truth: Recording
    whole: Recording
    description: str

    @cached_property
    def floors(self) -> dict[str, float]:
        """The noise floor (largest rounding error) by output name, for outputs whose samples are independent."""
        floors = {}
        for name, output in self.run.outputs.items():
            truth = self.truth.outputs[name]
            if name in self.whole.outputs and _is_sample_of(output, self.whole.outputs[name], truth):
                floors[name] = noise_floor(output, truth)
        return floors


def sample_of(subject: Subject) -> Sample | None:
    """Run the torch module on a few samples, in its own dtype and in float64, and return the runs.

    The result is None if the whole batch runs in float64 anyway, for another proof, if the user gave a tolerance, if
    the batch is small, or if the module supports only one batch size (a reshape to a constant size).
    """
    from keras3conv.frameworks.torch import module as torch_side

    if subject.records_layers or subject.options.tolerance is not None:
        return None
    sampled = sampled_inputs(subject.required_inputs)
    if sampled is None:
        return None
    inputs, description = sampled
    try:
        with torch_side.precise():
            run = torch_side.run(subject.torch, inputs, watch=False)
            truth = torch_side.run(subject.torch, inputs, float64=True, watch=False, in_parts=subject.in_parts)
    except ModelError:  # the noise is measured on the whole batch instead
        return None
    return Sample(run=run, truth=truth, whole=subject.torch_run, description=description)


def _is_sample_of(output: Array, whole: Array, truth: Array) -> bool:
    """Return whether an output has a first axis over samples, and the same values as in the whole batch up to noise.

    A mean over the batch has no such axis, and less noise than a single sample. A normalisation over the batch returns
    other values if only a few samples are run.
    """
    if not output.ndim or output.ndim != whole.ndim or output.shape[1:] != whole.shape[1:]:
        return False
    if len(output) >= len(whole) or output.size == 0:
        return False
    return judge(whole[: len(output)], output, truth).passed


def sampled_inputs(inputs: Inputs) -> tuple[Any, str] | None:
    """Return torch's inputs cut to their first samples, and a description; None if the batch cannot be sampled.

    The first axis is taken as the batch axis only if it has the same size in all arrays, and both sides have the same
    values in the first samples. Otherwise it may be a time axis, which is first in torch and second in Keras.
    """
    from keras3conv.frameworks.torch import module as torch_side

    torch_arrays = list(torch_side.input_arrays(inputs.torch).values())
    keras_arrays = arrays_of(inputs.keras)
    sizes = {array.shape[:1] for array in (*torch_arrays, *keras_arrays)}
    if len(sizes) != 1 or sizes == {()} or len(torch_arrays) != len(keras_arrays):
        return None
    ((size,),) = sizes
    if size < SMALLEST_BATCH:
        return None
    number = max(1, size // SHARE)
    for torch_array, keras_array in zip(torch_arrays, keras_arrays, strict=True):
        if not _same_values(torch_array[:number], keras_array[:number]):
            return None
    return map_arrays(inputs.torch, lambda array: array[:number]), f"{number} of {size} samples"


def _same_values(first: Array, second: Array) -> bool:
    """Return whether two arrays have the same values, in any order."""
    return first.size == second.size and np.array_equal(np.sort(first, axis=None), np.sort(second, axis=None))
