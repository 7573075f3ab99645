"""What an ONNX file of a side is fed with: the inputs of the model, by the names that its exporter gives them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.transforms import Array


def torch_feeds(inputs: Any) -> Mapping[str, Array]:
    """The arrays that a torch module is called with: keywords by name, positional ones by their place."""
    from keras3conv.frameworks.torch import module as torch_side

    return torch_side.input_arrays(inputs)


def keras_feeds(model: Any, inputs: Any) -> Mapping[str, Array]:
    """The arrays that a Keras model is called with, in the order of its own inputs, by the names of these.

    A functional model of several inputs may be called with a list, or with a dict by name; exporters know its own
    order only.
    """
    import keras

    from keras3conv.frameworks.keras import model as keras_side

    specs = keras_side.input_specs(model)
    keys = [spec.key or spec.name for spec in specs]
    by_key = isinstance(inputs, Mapping) and bool(keys) and set(keys) <= set(inputs)
    leaves = [inputs[key] for key in keys] if by_key else keras.tree.flatten(inputs)
    arrays = [leaf if isinstance(leaf, np.ndarray) else keras_side.to_numpy(leaf) for leaf in leaves]
    names = [spec.name for spec in specs] if len(specs) == len(arrays) else [str(place) for place in range(len(arrays))]
    return dict(zip(names, arrays, strict=True))


def keras_signature(model: Any, inputs: Any) -> list[Any]:
    """What `model.export` is told of inputs that it is to take in this very size, put together as the model asks."""
    import keras

    feeds = keras_feeds(model, inputs)
    specs = [keras.InputSpec(shape=array.shape, dtype=str(array.dtype), name=name) for name, array in feeds.items()]
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        return [keras.tree.pack_sequence_as(structure, specs)]
    made = keras.tree.pack_sequence_as(inputs, specs)
    return [*made] if isinstance(inputs, tuple) else [made]


def one_more(inputs: Inputs, arrays: Sequence[Array]) -> tuple[Inputs | None, int]:
    """The inputs with the first sample once more at the end; None where not every array has the same first axis.

    Args:
        inputs: The inputs of both sides.
        arrays: All arrays in them.

    Returns:
        The larger inputs, and how many samples they hold.
    """
    sizes = {array.shape[:1] for array in arrays}
    if len(sizes) != 1 or () in sizes:
        return None, 0
    return Inputs(torch=_longer(inputs.torch), keras=_longer(inputs.keras), note=inputs.note), next(iter(sizes))[0] + 1


def _longer(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _longer(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_longer(item) for item in value)
    if not hasattr(value, "shape"):
        return value
    array = _array(value)
    return np.concatenate([array, array[:1]])


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    from keras3conv.frameworks.keras import model as keras_side

    if type(value).__module__.partition(".")[0] == "torch":
        return torch_feeds(value)["0"]
    return keras_side.to_numpy(value)


def ordered(feeds: Mapping[str, Array] | Sequence[Array], names: Sequence[str], told: str) -> list[Array]:
    """The arrays in the order of a file's inputs: by name where the file has all of the names, else by order.

    Args:
        feeds: Arrays by name, or in the file's order.
        names: The names of the file's inputs.
        told: The name of the file, for the message.

    Raises:
        InputError: There are more or fewer of them, and the names do not tell which is which.
    """
    if isinstance(feeds, Mapping) and set(names) <= set(feeds):
        return [feeds[name] for name in names]
    if len(names) != len(feeds):
        raise InputError(
            f"{told} takes {len(names)} inputs ({', '.join(names)}), and the model was called with {len(feeds)}"
        )
    return list(feeds.values()) if isinstance(feeds, Mapping) else list(feeds)


def fitted(array: Array, dtype: str, told: str) -> Array:
    """An array in the dtype that a file asks for; raises `InputError` where that changes whole numbers or truths."""
    made = np.ascontiguousarray(array, dtype=dtype)
    if made.dtype.kind in "iub" and not np.array_equal(made.astype(array.dtype), array):
        raise InputError(f"{told} is {dtype}, which does not hold the values of the {array.dtype} array given")
    return made
