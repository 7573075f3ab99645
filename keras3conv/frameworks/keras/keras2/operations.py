"""Call the function of `keras.ops` that is equivalent to one of TensorFlow; implement those that `keras.ops` lacks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras3conv.formats.keras2.functions import OWN
from keras3conv.formats.keras2.operations import Applied
from keras3conv.frameworks.keras.keras2 import functions_of_images, functions_of_sizes, functions_of_values
from keras3conv.model.graph import leaves

Axis = int | Sequence[int] | None


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """Compute tf.linalg.matmul, which may first transpose the last two axes of each matrix."""
    return ops.matmul(_swapped(a) if transpose_a else a, _swapped(b) if transpose_b else b)


def _swapped(x: Any) -> Any:
    return ops.swapaxes(x, -1, -2)


def l2_normalize(x: Any, axis: Axis = None, epsilon: float = 1e-12) -> Any:
    """Compute tf.math.l2_normalize; epsilon is the lower bound of the sum of squares."""
    squares = ops.sum(ops.square(x), axis=_axes(axis), keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, epsilon)))


def norm(tensor: Any, axis: Axis = None, keepdims: bool | None = False) -> Any:
    """Compute tf.norm and tf.math.reduce_euclidean_norm: the Euclidean norm along axes, or of all values."""
    return ops.sqrt(ops.sum(ops.square(tensor), axis=_axes(axis), keepdims=bool(keepdims)))


def split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    """Compute tf.split into a number of equal parts, or into parts of given sizes, one of which may be -1."""
    if not isinstance(num_or_size_splits, list | tuple):
        return ops.split(value, int(num_or_size_splits), axis=axis)
    sizes = [int(size) for size in num_or_size_splits]
    if -1 in sizes:
        sizes[sizes.index(-1)] = value.shape[axis] - sum(size for size in sizes if size != -1)
    return ops.split(value, [int(place) for place in np.cumsum(sizes[:-1])], axis=axis)


def unstack(value: Any, num: int | None = None, axis: int = 0) -> Any:
    """Compute tf.unstack: return the slices of a tensor along an axis, as a list."""
    return ops.unstack(value, num=num, axis=axis)


def argmax(x: Any, axis: int | None = 0, output_type: str = "int64") -> Any:
    """Compute tf.argmax, whose default is the first axis; `keras.ops.argmax` flattens by default."""
    return ops.cast(ops.argmax(x, axis=0 if axis is None else axis), output_type)


def argmin(x: Any, axis: int | None = 0, output_type: str = "int64") -> Any:
    """Compute tf.argmin, whose default is the first axis."""
    return ops.cast(ops.argmin(x, axis=0 if axis is None else axis), output_type)


def one_hot(
    indices: Any, depth: int, on_value: Any = None, off_value: Any = None, axis: int | None = -1, dtype: Any = None
) -> Any:
    """Compute tf.one_hot, with `on_value` and `off_value` instead of one and zero."""
    found = ops.one_hot(indices, depth, axis=-1 if axis is None else axis, dtype=dtype or "float32")
    on, off = 1.0 if on_value is None else on_value, 0.0 if off_value is None else off_value
    return found if (on, off) == (1.0, 0.0) else ops.add(ops.multiply(found, on - off), off)


def squared_difference(x: Any, y: Any) -> Any:
    """Compute tf.math.squared_difference."""
    return ops.square(ops.subtract(x, y))


def add_n(inputs: Sequence[Any]) -> Any:
    """Compute tf.math.add_n."""
    total = inputs[0]
    for value in inputs[1:]:
        total = ops.add(total, value)
    return total


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    """Compute tf.pad, with the same argument names."""
    widths = tuple((int(before), int(after)) for before, after in paddings)
    if mode.upper() == "CONSTANT":
        return ops.pad(tensor, widths, mode="constant", constant_values=constant_values or 0)
    return ops.pad(tensor, widths, mode=mode.lower())


def flip_left_right(image: Any) -> Any:
    """Compute tf.image.flip_left_right."""
    return ops.flip(image, axis=-2)


def flip_up_down(image: Any) -> Any:
    """Compute tf.image.flip_up_down."""
    return ops.flip(image, axis=-3)


def get_item(x: Any, key: tuple[Any, ...]) -> Any:
    """Return `x[key]`; a negative step in the key becomes a flip, because not every backend of Keras supports it."""
    axes = sum(part is not None and part is not Ellipsis for part in key)
    place, positive = 0, list(key)
    for number, part in enumerate(key):
        if part is Ellipsis:
            place += len(x.shape) - axes
        elif part is not None:
            if isinstance(part, slice) and isinstance(part.step, int) and part.step < 0:
                if (part.start, part.stop) != (None, None):
                    raise ValueError(
                        f"the slice [{part.start}:{part.stop}:{part.step}] has a negative step and a bound, which is "
                        "not supported"
                        ": flip the axis before, and use a positive step"
                    )
                x = ops.flip(x, axis=place)
                positive[number] = slice(None, None, None if part.step == -1 else -part.step)
            place += 1
    return x[tuple(positive)]


def _axes(axis: Axis) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{
        function.__name__: function
        for function in (
            add_n, argmax, argmin, flip_left_right, flip_up_down, l2_normalize, matmul, norm, one_hot, pad, split,
            squared_difference, unstack,
        )
    },
    **functions_of_sizes.FUNCTIONS,
    **functions_of_values.FUNCTIONS,
    **functions_of_images.FUNCTIONS,
}  # fmt: skip
"""The functions of TensorFlow that `keras.ops` lacks, by the names that `keras3conv.formats.keras2.functions` uses."""


_OPERANDS = frozenset({"x1", "x2", "a", "b", "x", "y", "mean", "variance", "offset", "scale"})
"""The names of the arguments that may be a tensor or a constant."""


def array_like(value: Any, other: Any) -> Any:
    """Return a list of numbers as an array with the dtype of the other operand; return anything else unchanged."""
    is_constant = isinstance(value, list) and all(isinstance(leaf, int | float) for leaf in leaves(value))
    if is_constant and isinstance(other, keras.KerasTensor):
        return np.asarray(value, dtype=other.dtype)
    return value


def operated(call: Applied) -> Any:
    """Call a function of `keras.ops`, or the implementation of one that it lacks, and return what it returns.

    Args:
        call: The function, and its arguments in the form of the file.
    """
    arguments = dict(call.arguments)
    if call.name == "get_item":
        return get_item(**arguments)
    tensor = next((leaf for leaf in keras.tree.flatten(arguments) if isinstance(leaf, keras.KerasTensor)), None)
    arguments = {name: _argument(name, value, tensor) for name, value in arguments.items()}
    if call.name.startswith(OWN):
        return FUNCTIONS[call.name.removeprefix(OWN)](*[arguments.pop(next(iter(arguments)))], **arguments)
    function: Any = keras.ops
    for part in call.name.split("."):
        function = getattr(function, part)
    return function(**arguments)


def _argument(name: str, value: Any, tensor: Any) -> Any:
    """Return an argument of a function in the form of Keras 3: axes as a tuple, constants beside tensors as arrays.

    Args:
        name: The name of the argument, such as "axis".
        value: Its value in the file.
        tensor: A tensor among the arguments, which gives constants their dtype.
    """
    if name == "axis" and isinstance(value, list):
        return tuple(value)
    if name in ("xs", "inputs") and isinstance(value, list):
        return [array_like(one, tensor) for one in value]
    return array_like(value, tensor) if name in _OPERANDS else value
