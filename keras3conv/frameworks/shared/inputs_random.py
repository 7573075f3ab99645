"""Make random arrays for inputs: numbers, row indices, masks, and sequences with padding."""

import numpy as np

from keras3conv.formats.safe.source import dtype_named
from keras3conv.model.views import InputSpec, ModelView
from keras3conv.transforms import Array

SEED = 20240229

BATCH = 2

MASKED_BATCH = 3
"""The number of samples for a model with masks: one without padding, and two of different lengths."""


def random_array(spec: InputSpec, keras: ModelView, size: int, place: int) -> Array:
    """Return a random array for an input: numbers, row indices of an embedding, or a mask.

    Args:
        spec: The specification of the input.
        keras: The Keras model, whose tables limit the indices and whose masks need padding.
        size: The size of every dynamic axis but the batch.
        place: The number of the input; it determines which sample has no padding.
    """
    generator = np.random.default_rng(SEED)
    batch = spec.shape[0] or (MASKED_BATCH if keras.mask_values else BATCH)
    shape = (batch, *(axis or size for axis in spec.shape[1:]))
    if spec.dtype == "bool":
        return random_mask(shape)
    if spec.dtype.startswith("float") or spec.dtype == "bfloat16":
        # Of float64 too, the values are those of float32: both sides can hold them exactly.
        values = generator.standard_normal(shape).astype(np.float32)
        return padded(values, spec.padding, place=place).astype(dtype_named(spec.dtype))
    rows = [tensor.shape[0] for layer in keras.layers for tensor in layer.tensors if tensor.role == "embeddings"]
    codes = random_codes(generator, min(rows, default=2), shape)
    return padded(codes, spec.padding, place=place).astype(spec.dtype)


def random_codes(generator: np.random.Generator, rows: int, shape: tuple[int, ...]) -> Array:
    """Return random row indices into a table with this number of rows, including the first and the last row.

    Args:
        generator: The generator of random numbers.
        rows: The number of rows of the table.
        shape: The shape of the array of indices.
    """
    codes = generator.integers(0, rows, shape)
    steps = codes.reshape(len(codes), -1)
    for sample, row in ((0, rows - 1), (-1, 0)):
        steps[sample, 0] = row  # the first step of a sample is never padding
    if len(codes) == 1:
        steps[0, -1] = rows - 1
    return codes


def random_mask(shape: tuple[int, ...]) -> Array:
    """Return a random boolean mask, True where a step is used.

    In a mask of shape (batch, steps), a random number of last steps of each sample are False, as in padding. In one of
    shape (batch, steps, steps), random elements are False, but not the first of a row, because a row without True has
    no result. If there are several samples, all elements of the first one are True.
    """
    everything = np.ones(shape, dtype=bool)
    if len(shape) < 2:
        return everything
    if len(shape) == 2:
        return padded(everything, 0, replacement=True)
    found = np.random.default_rng(SEED).random(shape) < 0.5
    found[..., 0] = True
    found[: 1 if len(found) > 1 else 0] = True
    return found


def padded(array: Array, padding: float | None, *, replacement: float | None = None, place: int = 0) -> Array:
    """Return a batch of sequences with padding at the end of all samples but one, to different lengths.

    The padding value occurs nowhere else, as in real inputs, because a module may count the steps by it.

    Args:
        array: The sequences: tokens of shape (batch, steps), or features of shape (batch, steps, features). A single
            sample is padded.
        padding: The value that the model masks; None if it masks nothing.
        replacement: The value that replaces the padding value where the array has it by chance; by default 1, or 0.
        place: The number of the input among several; it determines which sample has no padding.
    """
    if padding is None or array.ndim < 2:
        return array
    replacement = (1 if padding == 0 else 0) if replacement is None else replacement
    array, steps = np.where(array == padding, np.asarray(replacement, array.dtype), array), array.shape[1]
    whole = 1 if len(array) > 1 else 0
    rows = [(place + number) % len(array) for number in range(whole, len(array))]
    for number, row in enumerate(rows):
        array[row, max(1, steps * (len(rows) - number) // (len(rows) + 1)) :] = padding
    return array
