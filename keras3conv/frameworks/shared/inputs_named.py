"""Compare the names of given inputs with the names of the arguments that a model takes.

A model with one input takes a single array of any name, and the report names it. With several inputs, a wrong name is
an error, because the order of the arrays does not show which input each belongs to.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from keras3conv.errors import InputError
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array


class OneArray(dict[str, Array]):
    """The only array of a file, by its name. Unlike a dict of the user, it is never passed to a model as a dict."""


def only_array(inputs: Any, names: Sequence[str], *, required: int, known: Collection[str] = ()) -> tuple[Any, str]:
    """Return inputs for a model, and a note if its only input gets an array of another name.

    Args:
        inputs: The user's inputs: an array, a tuple, or a dict by name.
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


def dict_as_argument(inputs: Any, keywords: Collection[str], *, required: int) -> tuple[Any, str]:
    """Return inputs for a torch module whose only required argument is a dict, and a note if a dict was given to it.

    This is the case for several arrays without any name that `forward` takes: `forward(self, batch)` with
    {"tokens": ..., "mask": ...}.

    Args:
        inputs: The user's inputs: an array, a tuple, or a dict by name.
        keywords: The names under which `forward` takes arguments; empty if it takes any name.
        required: The number of arguments without a default.
    """
    is_argument = isinstance(inputs, Mapping) and len(inputs) > 1 and not any(name in keywords for name in inputs)
    if not (is_argument and keywords and required == 1):
        return inputs, ""
    return (inputs,), "the dict of inputs was given as the only argument that forward needs"


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
    required = torch.arguments[: torch.required]
    if wrong := wrong_names(inputs, torch.keywords, required):
        given = ", ".join(f'"{name}": {name}' for name in torch.keywords if name in required or name in inputs)
        raise InputError(
            f"inputs has {wrong}: the arguments of {torch.title} are {', '.join(torch.keywords)}\n"
            f"Fix:  inputs={{{given}}}"
        )


def wrong_names(inputs: Mapping[str, Any], known: Collection[str], needed: Collection[str]) -> str:
    """Return the unknown and the missing names of inputs as text, "maks, and no mask"; empty if there are none.

    Args:
        inputs: The inputs by name.
        known: The names that the model takes.
        needed: The names without which the model cannot be called.
    """
    unknown = " and ".join(str(name) for name in inputs if name not in known)
    missing = " and ".join(name for name in needed if name not in inputs)
    return ", and ".join(filter(None, (unknown, missing and f"no {missing}")))
