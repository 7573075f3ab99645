"""Compare shapes: without axes of size one, and by number of elements."""

from collections import Counter
from math import prod

from keras3conv.errors import TransformError
from keras3conv.model.views import LayerView
from keras3conv.transforms import Axes, Same, Shape, Transform
from keras3conv.transforms.axes import side_of

_AXIS_NAMES = "abcdefghijklmnop"


def without_ones(shape: Shape) -> Shape:
    """Return a shape without its axes of size one."""
    return tuple(size for size in shape if size != 1)


def same_axes(first: Shape, second: Shape) -> bool:
    """Return whether two shapes have axes of the same sizes in any order, apart from axes of size one."""
    return sorted(without_ones(first)) == sorted(without_ones(second))


def float_sizes(layer: LayerView) -> Counter[int]:
    """Count the floating-point tensors of a layer by number of elements: two tensors of 6 elements give {6: 2}."""
    return Counter(prod(tensor.shape) for tensor in layer.tensors if tensor.dtype.startswith(("float", "bfloat")))


def reshaping(torch: Shape, keras: Shape) -> Transform:
    """Return the transform from a torch shape to a Keras shape that differs only in axes of size 1: (1, n) and (n,).

    Raises:
        TransformError: The shapes differ in an axis of another size.
    """
    if torch == keras:
        return Same()
    if without_ones(torch) != without_ones(keras):
        raise TransformError(
            f"the torch shape {torch} and the Keras shape {keras} differ in more than axes of size 1, so no transform "
            'is obvious: give one, such as transform="a b -> b a"'
        )
    return Axes(f"{side_of(torch, _AXIS_NAMES)} -> {side_of(keras, _AXIS_NAMES)}")
