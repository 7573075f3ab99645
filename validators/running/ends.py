"""The outputs of two whole models, paired and brought into one layout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from keras3conv.frameworks.shared.layout import channels_last, output_like_keras
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.messages import count
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class OutputPair:
    """One output of both models, in Keras' layout.

    Attributes:
        name: What it is called in tables.
        torch_name: What torch calls it.
        keras_name: What Keras calls it.
        torch: The values of the torch side.
        keras: The values of the Keras side.
        layout: How the layout was brought together, in words.
        odd: Why they cannot be compared; empty if they can.
        keys: What the recordings of the two sides call it.
    """

    name: str
    torch_name: str
    keras_name: str
    torch: Array
    keras: Array
    layout: str
    odd: str = ""
    keys: tuple[str, str] = ("", "")


def output_pairs(torch: Recording, keras: Recording) -> Iterator[OutputPair]:
    """The outputs of both sides: by name where the names are the same, else by order, or by shape where it must be."""
    first, second = torch.outputs, keras.outputs
    if len(first) != len(second) or not first:
        odd = f"torch returns {_listed(first)}, Keras {_listed(second)}"
        nothing = np.zeros(0)
        yield OutputPair(
            name="outputs", torch_name="outputs", keras_name="outputs", torch=nothing, keras=nothing, layout="", odd=odd
        )
        return
    for place, (torch_name, keras_name) in enumerate(zip(_paired(first, second), second, strict=True)):
        theirs = second[keras_name]
        ours, layout = _like_keras(first[torch_name], theirs)
        odd = "" if ours.shape == theirs.shape else f"torch returns {ours.shape}, Keras {theirs.shape}"
        yield OutputPair(
            name=torch_name or str(place),
            torch_name=f"output {torch_name or place}",
            keras_name=f"output {keras_name or place}",
            torch=ours,
            keras=theirs,
            layout=layout,
            odd=odd,
            keys=(torch_name, keras_name),
        )


def _paired(first: Mapping[str, Array], second: Mapping[str, Array]) -> list[str]:
    """The names of torch's outputs in the order of Keras'.

    Two models that call them differently, or not at all, may have them in another order too: a pooled output before a
    sequence. Shapes tell these apart; among outputs of one shape the order stays.
    """
    if set(first) == set(second) and not all(name.partition(".")[0].isdigit() for name in first):
        return list(second)
    left, found = list(first), []
    for theirs in second.values():
        fitting = [name for name in left if output_like_keras(first[name], theirs.shape)[0].shape == theirs.shape]
        if not fitting:
            return list(first)
        found.append(fitting[0])
        left.remove(fitting[0])
    return found


def _like_keras(array: Array, keras: Array) -> tuple[Array, str]:
    """A torch output in Keras' layout. Where an equal number of channels and places leaves two, the values decide."""
    found, layout = output_like_keras(array, keras.shape)
    if array.ndim > 2 and array.shape == keras.shape == channels_last(array).shape:
        both = {"same layout": array, "channels moved last": channels_last(array)}
        return min(((made, name) for name, made in both.items()), key=lambda entry: _distance(entry[0], keras))
    return found, layout


def _distance(first: Array, second: Array) -> float:
    distance = np.abs(first.astype(np.float64) - second)
    return float(np.max(distance, where=np.isfinite(distance), initial=0.0))


def _listed(outputs: Mapping[str, Array]) -> str:
    """How many arrays a side returns, and their names; what is no array, and in no tuple, list or dict, is none."""
    if not outputs:
        return "no array"
    return f"{count(len(outputs), 'array')} ({', '.join(name or 'unnamed' for name in outputs)})"
