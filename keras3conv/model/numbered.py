"""Match the variables of a live Keras model with those of a Keras 3 file, which numbers the variables of some layers.

A file stores no names of variables. Those of Keras' own layers are known; the variables of other layers are "gate/0"
and "gate/1" in the view of the file, and "gate/kernel" and "gate/scale" in the view of the live model.
"""

from keras3conv.model.views import ModelView


def names_by_location(source: ModelView, target: ModelView) -> dict[str, str]:
    """Return the paths that variables of one Keras view have in another one, for variables that one of them numbers.

    Two paths name the same variable if Keras stores it under the same path in a file, with the same shape.

    Args:
        source: The view whose paths are translated.
        target: The view to whose paths they are translated.

    Returns:
        A dict from the path in `source` to that in `target`, for variables that one of the views numbers.
    """
    known = {tensor.location: tensor for tensor in target.tensors() if tensor.location}
    names = {}
    for tensor in source.tensors():
        other = known.get(tensor.location)
        if other is None or other.path == tensor.path or other.shape != tensor.shape:
            continue
        if _is_numbered(tensor.path) or _is_numbered(other.path):
            names[tensor.path] = other.path
    return names


def has_numbers(view: ModelView) -> bool:
    """Return True if a model has variables with a number in place of a name, such as "gate/0"."""
    return any(_is_numbered(tensor.path) for tensor in view.tensors())


def _is_numbered(path: str) -> bool:
    return path.rpartition("/")[2].isdecimal()
