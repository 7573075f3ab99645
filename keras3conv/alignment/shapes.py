"""Make the transform between two shapes that differ only in axes of size one: (1, n) and (n,)."""

from keras3conv.errors import TransformError
from keras3conv.transforms import Axes, Same, Shape, Transform
from keras3conv.transforms.axes import side_of

_AXIS_NAMES = "abcdefghijklmnop"


def reshaping(torch: Shape, keras: Shape) -> Transform:
    """Return the transform from a torch shape to a Keras shape that differs only in axes of size 1: (1, n) and (n,).

    Raises:
        TransformError: The shapes differ in an axis of another size.
    """
    if torch == keras:
        return Same()
    if [size for size in torch if size != 1] != [size for size in keras if size != 1]:
        raise TransformError(
            f"the torch shape {torch} and the Keras shape {keras} differ in more than axes of size 1, so no transform "
            'is obvious: give one, such as transform="a b -> b a"'
        )
    return Axes(f"{side_of(torch, _AXIS_NAMES)} -> {side_of(keras, _AXIS_NAMES)}")
