"""Pair the outputs of the two whole models, and bring them into one memory layout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras3conv.frameworks.shared.layout import channels_last, output_like_keras
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.messages import count
from keras3conv.numerics.difference import Diff, compare
from keras3conv.numerics.rows import NEAR, relative_distance
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class OutputPair:
    """One output of both models, in Keras' layout.

    Attributes:
        name: Name in the tables of the report.
        torch_name: Name of the torch output, for messages.
        keras_name: Name of the Keras output, for messages.
        torch_output: Values of the torch side.
        keras_output: Values of the Keras side.
        layout: The conversion of torch's layout, in words.
        mismatch: The reason why the values cannot be compared; empty if they can be compared.
        keys: Keys of the output in the recordings of torch and Keras.
    """

    name: str
    torch_name: str
    keras_name: str
    torch_output: Array
    keras_output: Array
    layout: str
    mismatch: str = ""
    keys: tuple[str, str] = ("", "")

    @cached_property
    def diff(self) -> Diff | None:
        """The difference of the two outputs; None if they cannot be compared."""
        return None if self.mismatch else compare(self.keras_output, self.torch_output)


def output_pairs(torch: Recording, keras: Recording) -> Iterator[OutputPair]:
    """Yield the output pairs: matched by name if both models have the same names, else by shape and order.

    If the numbers of outputs differ, yield one pair with a mismatch.
    """
    torch_outputs, keras_outputs = torch.outputs, keras.outputs
    if len(torch_outputs) != len(keras_outputs) or not torch_outputs:
        yield OutputPair(
            name="outputs",
            torch_name="outputs",
            keras_name="outputs",
            torch_output=np.zeros(0),
            keras_output=np.zeros(0),
            layout="",
            mismatch=f"torch returns {_listed(torch_outputs)}, but Keras returns {_listed(keras_outputs)}",
        )
        return
    matched = zip(_matched_names(torch_outputs, keras_outputs), keras_outputs, strict=True)
    for index, (torch_key, keras_key) in enumerate(matched):
        keras_output = keras_outputs[keras_key]
        torch_output, layout = _like_keras(torch_outputs[torch_key], keras_output)
        mismatch = ""
        if torch_output.shape != keras_output.shape:
            mismatch = f"torch returns the shape {torch_output.shape}, but Keras returns {keras_output.shape}"
        yield OutputPair(
            name=torch_key or str(index),
            torch_name=f"output {torch_key or index}",
            keras_name=f"output {keras_key or index}",
            torch_output=torch_output,
            keras_output=keras_output,
            layout=layout,
            mismatch=mismatch,
            keys=(torch_key, keras_key),
        )


def torch_outputs(torch: Recording, keras: Recording) -> dict[str, Array]:
    """Return the values of the torch side of the output pairs, by their names."""
    return {pair.name: pair.torch_output for pair in output_pairs(torch, keras)}


def shown_name(pair: OutputPair, keras: object, run: Recording) -> str:
    """Return the name of an output for the report: the one in Keras if torch has only an index for it."""
    torch_key, keras_key = pair.keys
    names = tuple(getattr(keras, "output_names", ()))
    is_named = bool(torch_key) and not torch_key.isdecimal()
    if is_named or len(names) != len(run.outputs) or keras_key not in run.outputs:
        return pair.name
    return str(names[list(run.outputs).index(keras_key)])


def are_near(torch: Recording, keras: Recording) -> bool:
    """Return whether two runs have almost the same outputs."""
    pairs = output_pairs(torch, keras)
    return all(not pair.mismatch and relative_distance(pair.torch_output, pair.keras_output) <= NEAR for pair in pairs)


def _matched_names(torch_outputs: Mapping[str, Array], keras_outputs: Mapping[str, Array]) -> list[str]:
    """Return the names of torch's outputs, sorted so that each has the index of its Keras counterpart.

    If the names differ between the models, the order may differ, too: for example, one model returns the pooled output
    first, the other the sequence. Outputs are then matched by shape; outputs of the same shape keep their order.
    """
    are_named = not all(name.partition(".")[0].isdigit() for name in torch_outputs)
    if are_named and set(torch_outputs) == set(keras_outputs):
        return list(keras_outputs)
    remaining, matched = list(torch_outputs), []
    for keras_output in keras_outputs.values():
        shape = keras_output.shape
        fitting = [name for name in remaining if output_like_keras(torch_outputs[name], shape)[0].shape == shape]
        if not fitting:
            return list(torch_outputs)
        matched.append(fitting[0])
        remaining.remove(fitting[0])
    return matched


def _like_keras(torch_output: Array, keras_output: Array) -> tuple[Array, str]:
    """Return a torch output in Keras' layout, and the conversion in words.

    If both layouts have the same shape (as many channels as rows), the layout closer to the Keras output is chosen.
    """
    moved = channels_last(torch_output) if torch_output.ndim > 2 else torch_output
    if torch_output.ndim <= 2 or not torch_output.shape == keras_output.shape == moved.shape:
        return output_like_keras(torch_output, keras_output.shape)
    if _distance(moved, keras_output) < _distance(torch_output, keras_output):
        return moved, "channels moved last"
    return torch_output, "same layout"


def _distance(first: Array, second: Array) -> float:
    distance = np.abs(first.astype(np.float64) - second)
    return float(np.max(distance, where=np.isfinite(distance), initial=0.0))


def _listed(outputs: Mapping[str, Array]) -> str:
    """Return the number of arrays and their names, in words, such as "2 outputs (a, b)"."""
    if not outputs:
        return "no array"
    return f"{count(len(outputs), 'array')} ({', '.join(name or 'unnamed' for name in outputs)})"
