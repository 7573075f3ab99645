"""Compare the names that a user gives to inputs with the names of a model's inputs.

A model with one input takes the only array that was given, whatever its name; the report of the validation then says
so. With several inputs, a wrong name is an error: the order of the arrays is no reason to give one to a certain input.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from keras3conv.errors import InputError
from keras3conv.transforms import Array


class OneArray(dict[str, Array]):
    """The only array of a file, by its name. Unlike a dict of the user, it is never passed to a model as a dict."""


def only_array(inputs: Any, names: Sequence[str], *, required: int, known: Collection[str] = ()) -> tuple[Any, str]:
    """Return inputs for a model, and a note if its only input gets an array of another name.

    Args:
        inputs: What the user gave: an array, a tuple, or a dict by name.
        names: The names of the inputs of the model, the required ones first; empty if they are unknown.
        required: The number of inputs that the model needs.
        known: Other names of the first input, which need no note.
    """
    if not isinstance(inputs, Mapping) or len(inputs) != 1:
        return inputs, ""
    ((given, array),) = inputs.items()
    if given in names or not (isinstance(inputs, OneArray) or required == 1):
        return inputs, ""
    is_noted = names and given not in known
    return array, f"the input '{given}' was given to '{names[0]}'" if is_noted else ""


def require_names(inputs: Any, names: Sequence[str], argument: str, title: str) -> None:
    """Raise `InputError` if a dict of inputs has other names than the inputs of a model.

    Args:
        inputs: What the user gave; only a dict has names.
        names: The names of the inputs of the model; empty if they are unknown.
        argument: The argument with the inputs: "keras_inputs".
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
