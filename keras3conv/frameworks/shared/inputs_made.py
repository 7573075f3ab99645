"""Make the inputs of both models: from given Keras inputs, or random ones from the Keras input specification."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.formats.safe.source import dtype_named
from keras3conv.frameworks.shared.inputs import (
    SEED,
    Inputs,
    as_array,
    dict_as_argument,
    flatten,
    given_inputs,
    is_array,
    only_array,
    require_numbers,
    together,
)
from keras3conv.frameworks.shared.layout import channels_first
from keras3conv.messages import count
from keras3conv.model.views import InputSpec, ModelView
from keras3conv.transforms import Array

BATCH = 2

MASKED_BATCH = 3
"""The number of samples for a model with masks: one without padding, and two of different lengths."""

FREE_SIZES = (32, 64, 128, 224, 16, 8, 4)
"""The sizes to try for dynamic axes, in this order: some models halve images several times, others have few positions.
"""

_DOUBLED = tuple(2**power for power in range(9, 16))
"""More sizes to try for a model of sequences that crops its input; images of these sizes would be too large."""

_IMAGE = 4
"""The number of axes from which on an input is an image or volume, with the channels second in torch."""

Accepts = Callable[[Inputs], bool]
"""A function that runs both models on inputs, and returns whether both accept them."""


def both_inputs(
    torch: ModelView, keras: ModelView, inputs: Any, keras_inputs: Any, accepts: Accepts | None = None
) -> Inputs:
    """Return the inputs of both sides: those that the user gave, else random ones.

    Args:
        torch: The torch side, whose layers show which inputs are channels-first.
        keras: The Keras side, for its input specification.
        inputs: The user's inputs for the torch side, or None.
        keras_inputs: The user's inputs for the Keras side, or None.
        accepts: Returns whether the models run on inputs, to choose dynamic sizes; None if the models cannot be run.

    Raises:
        InputError: The inputs are not given and cannot be made, or the Keras ones cannot be derived.
    """
    if inputs is None and keras_inputs is None:
        return _random_inputs(torch, keras, accepts)
    names = [spec.key or spec.name for spec in keras.input_specs]
    inputs, torch_note = only_array(inputs, torch.arguments, required=torch.required, known=names)
    keras_inputs, keras_note = only_array(keras_inputs, names, required=len(names), known=torch.arguments)
    inputs, dict_note = dict_as_argument(inputs, torch.keywords, required=torch.required)
    if inputs is not None:
        require_arguments(inputs, torch)
        given = given_inputs(torch, keras, inputs, keras_inputs)
    else:
        require_names(keras_inputs, names, "keras_inputs", keras.title)
        given = _from_keras(torch, keras, keras_inputs, accepts)
    notes = "".join(f"; {note}" for note in (torch_note, dict_note, keras_note) if note)
    return replace(given, note=given.note + notes)


def _random_inputs(torch: ModelView, keras: ModelView, accepts: Accepts | None) -> Inputs:
    """Return random inputs of the shapes in the Keras input specification; see `both_inputs` for the arguments."""
    if not keras.input_specs:
        raise InputError(f"{keras.title} has no input specification: give inputs=..., the inputs of the torch module")
    free = [spec for spec in keras.input_specs if None in spec.shape[1:]]
    layouts = _layouts(torch, keras)
    if not free and (accepts is None or len(layouts) == 1):
        return _made(torch, keras, 0, channels_first=layouts[0])
    is_image = any(len(spec.shape) > 3 for spec in free)
    sizes = (FREE_SIZES if is_image else (*FREE_SIZES, *_DOUBLED)) if free else (0,)
    for place, size in enumerate(sizes if accepts else ()):
        for first in layouts:
            made = _made(torch, keras, size, channels_first=first)
            if accepts and accepts(made):
                refused = ", ".join(map(str, sizes[:place]))
                chosen = f"; the dynamic sizes are {size}" if free else ""
                return replace(made, note=made.note + chosen + (f", as the models refuse {refused}" if refused else ""))
    if not free:
        return _made(torch, keras, 0, channels_first=layouts[0])
    tried = f", and the models accept none of {', '.join(map(str, sizes))}" if accepts else ""
    raise InputError(
        f"{keras.title} takes an input of shape {free[0].shape}, with None for dynamic sizes{tried}: give inputs=..., "
        "the inputs of the torch module"
    )


def _from_keras(torch: ModelView, keras: ModelView, keras_inputs: Any, accepts: Accepts | None) -> Inputs:
    """Return the inputs of both sides if the user gave only those of the Keras model.

    Args:
        torch: The torch side.
        keras: The Keras side, whose input specification has the order and the names of the inputs.
        keras_inputs: The user's inputs for the Keras side.
        accepts: Returns whether the models run on inputs, to choose the layout of sequences in torch; or None.

    Raises:
        InputError: The inputs do not fit the specification, or the models accept none of the layouts.
    """
    specs = keras.input_specs
    names = [spec.key or spec.name for spec in specs]
    is_named = isinstance(keras_inputs, dict) and set(keras_inputs) == set(names)
    ordered = [keras_inputs[name] for name in names] if is_named else keras_inputs
    arrays = [as_array(value) for _, value in flatten([ordered] if is_array(ordered) else ordered, is_array)]
    if not specs or len(arrays) != len(specs):
        raise InputError(
            f"keras_inputs has {count(len(arrays), 'array')}, and the input specification of {keras.title} has "
            f"{len(specs)}: give the inputs of the torch module too, as inputs=..."
        )
    for array in arrays:
        require_numbers(array)
    note = "inputs given for Keras; those of torch are the same arrays in torch's layout"
    same = "inputs given for Keras, and used for torch as they are"
    tried = [
        _both(torch, keras, arrays, same if first is None else note, channels_first=first)
        for first in _layouts(torch, keras)
    ]
    for made in tried:
        if accepts is None or len(tried) == 1 or accepts(made):
            return made
    raise InputError(
        "no torch inputs that the models accept can be derived from keras_inputs, neither in the same layout nor with "
        "the channels first: give the inputs of the torch module too, as inputs=..."
    )


def _layouts(torch: ModelView, keras: ModelView) -> tuple[bool | None, ...]:
    """Return the layouts to try for torch inputs, the more likely ones first.

    Images have their channels second in torch; for sequences, True means (batch, channels, steps), and False means
    (batch, steps, channels). None means that all inputs have the layout of Keras, as after
    `convert(..., channels="last")`.

    Args:
        torch: The torch side; a convolution or pooling over one axis makes channels before the steps likely.
        keras: The Keras side, whose input specification shows which inputs are sequences.
    """
    as_in_keras = (None,) if any(len(spec.shape) >= _IMAGE for spec in keras.input_specs) else ()
    if all(len(spec.shape) != 3 for spec in keras.input_specs):
        return (False, *as_in_keras)
    likely = any(kind.endswith(("Conv1d", "Pool1d")) for layer in torch.layers for kind in layer.kinds)
    return (likely, not likely, *as_in_keras)


def _made(torch: ModelView, keras: ModelView, size: int, *, channels_first: bool | None) -> Inputs:
    """Return random inputs for both sides, with the same values in both.

    Args:
        torch: The torch side.
        keras: The Keras side, whose input specification determines the shapes.
        size: The size of every dynamic axis.
        channels_first: Whether sequences have the channels before the steps in torch; None if torch has the layout of
            Keras, also for images.
    """
    made = [_random(spec, keras, size, place) for place, spec in enumerate(keras.input_specs)]
    shapes = ", ".join(str(array.shape) for array in _in_torch(made, channels_first=channels_first))
    note = f"random inputs of shape {shapes}, seed {SEED}, made from the Keras model's input specification"
    return _both(torch, keras, made, note, channels_first=channels_first)


def _both(torch: ModelView, keras: ModelView, arrays: list[Array], note: str, *, channels_first: bool | None) -> Inputs:
    """Return the inputs of both sides, made from the arrays of the Keras inputs.

    Args:
        torch: The torch side.
        keras: The Keras side.
        arrays: The arrays in Keras' layout, in the order of its input specification.
        note: The origin of the inputs, for the report.
        channels_first: Whether sequences have the channels before the steps in torch; None if torch has the layout of
            Keras, also for images.
    """
    torch_made = _in_torch(arrays, channels_first=channels_first)
    names = [spec.key or spec.name for spec in keras.input_specs]
    by_name = dict(zip(names, torch_made, strict=True))
    are_named = len(names) > 1 and set(names) == set(torch.arguments[: len(names)])
    are_one_argument = len(names) > 1 and len(torch.keywords) == 1 and all(spec.key for spec in keras.input_specs)
    return Inputs(
        torch=by_name if are_named else (by_name,) if are_one_argument else tuple(torch_made),
        keras=together(arrays, [spec.key for spec in keras.input_specs]),
        note=note,
    )


def _random(spec: InputSpec, keras: ModelView, size: int, place: int) -> Array:
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


def _in_torch(arrays: list[Array], *, channels_first: bool | None) -> list[Array]:
    """Return Keras inputs in a layout of torch, as `_layouts` returns it: None leaves all inputs unchanged."""
    return arrays if channels_first is None else [_torch_layout(one, sequences_first=channels_first) for one in arrays]


def _torch_layout(array: Array, *, sequences_first: bool) -> Array:
    """Return a Keras input in the layout of torch: an image of shape (1, 32, 32, 3) becomes (1, 3, 32, 32).

    Args:
        array: The input of the Keras model.
        sequences_first: Whether the channels of a sequence become the second axis, too.
    """
    if array.ndim >= _IMAGE or (array.ndim == 3 and sequences_first):
        return np.ascontiguousarray(channels_first(array))
    return array


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


def require_names(inputs: Any, names: Sequence[str], argument: str, title: str) -> None:
    """Raise `InputError` if a dict of inputs has a name that is not an input of the model; missing names are allowed.

    Args:
        inputs: The user's inputs; only a dict has names.
        names: The names of the inputs of the model; empty if they are unknown.
        argument: The argument with the inputs, such as "keras_inputs".
        title: The model.
    """
    if not isinstance(inputs, Mapping) or not names:
        return
    unknown = [str(name) for name in inputs if name not in names]
    missing = [name for name in names if name not in inputs]
    if unknown:
        instead = f", and no {' and '.join(missing)}" if missing else ""
        raise InputError(
            f"{argument} has {' and '.join(unknown)}{instead}: the inputs of {title} are {', '.join(names)}"
        )


def require_arguments(inputs: Any, torch: ModelView) -> None:
    """Raise `InputError` if a dict of inputs lacks required arguments of a torch module, or has names it does not take.

    A dict without any name that the module takes is left alone if the module needs only one argument.

    Args:
        inputs: The user's inputs for the torch module; only a dict has names.
        torch: The torch side, for the names of the arguments of its `forward`.
    """
    if not isinstance(inputs, Mapping) or not torch.keywords:
        return
    if torch.required <= 1 and not any(name in torch.keywords for name in inputs):
        return
    unknown = [str(name) for name in inputs if name not in torch.keywords]
    required = torch.arguments[: torch.required]
    missing = [name for name in required if name not in inputs]
    if unknown or missing:
        wrong = ", and ".join(
            f"{word}{' and '.join(names)}" for word, names in (("", unknown), ("no ", missing)) if names
        )
        given = ", ".join(f'"{name}": {name}' for name in torch.keywords if name in required or name in inputs)
        raise InputError(
            f"inputs has {wrong}: the arguments of {torch.title} are {', '.join(torch.keywords)}\n"
            f"Fix:  inputs={{{given}}}"
        )
