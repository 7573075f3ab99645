"""Prepare the inputs of a model for its export to ONNX, and convert them into the inputs of the file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs import Inputs, as_array, flatten, map_arrays
from keras3conv.messages import count
from keras3conv.transforms import Array


def torch_feeds(inputs: Any) -> Mapping[str, Array]:
    """Return torch's inputs as arrays: keyword arguments by name, positional arguments by index."""
    from keras3conv.frameworks.torch import module as torch_side

    return torch_side.input_arrays(inputs)


def keras_feeds(model: Any, inputs: Any) -> Mapping[str, Array]:
    """Return Keras' inputs as arrays, by input name and in the order of the model's inputs.

    A functional model with several inputs can be called with a list or with a dict, but exporters use the order of the
    model's inputs.
    """
    import keras

    from keras3conv.frameworks.keras import model as keras_side

    specs = keras_side.input_specs(model)
    keys = [spec.argument for spec in specs]
    if isinstance(inputs, Mapping) and keys and set(keys) <= set(inputs):
        leaves = [inputs[key] for key in keys]
    else:
        leaves = keras.tree.flatten(inputs)
    arrays = [leaf if isinstance(leaf, np.ndarray) else keras_side.to_numpy(leaf) for leaf in leaves]
    names = [spec.name for spec in specs]
    if len(names) != len(arrays):
        names = [str(index) for index in range(len(arrays))]
    return dict(zip(names, arrays, strict=True))


def keras_signature(model: Any, inputs: Any) -> list[Any]:
    """Return the `input_signature` for `model.export` with the sizes of these inputs, in the model's own structure."""
    import keras

    feeds = keras_feeds(model, inputs)
    specs = [keras.InputSpec(shape=array.shape, dtype=str(array.dtype), name=name) for name, array in feeds.items()]
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        return [keras.tree.pack_sequence_as(structure, specs)]
    signature = keras.tree.pack_sequence_as(inputs, specs)
    return [*signature] if isinstance(inputs, tuple) else [signature]


def with_batch_of_two(arguments: Any) -> Any:
    """Double a batch of one in torch's arguments: torch's exporter treats an axis of size one as constant.

    The first tensor determines the batch size. If the batch size is larger than one, nothing is doubled: a tensor whose
    first axis has size one is then broadcast.
    """
    import torch
    from torch.utils import _pytree as pytree

    if _batch_size(arguments) != 1:
        return arguments

    def twice(leaf: Any) -> Any:
        is_single = isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == 1
        return torch.cat([leaf, leaf]) if is_single else leaf

    return pytree.tree_map(twice, arguments)


def _batch_size(arguments: Any) -> int | None:
    import torch

    tensors = [tensor for _, tensor in flatten(arguments, lambda value: isinstance(value, torch.Tensor))]
    return tensors[0].shape[0] if tensors and tensors[0].ndim else None


def dynamic_shapes(arguments: Any) -> Any:
    """Return the argument `dynamic_shapes` of torch's exporter, in which the batch axis of every tensor is dynamic.

    The result is nested as the arguments, with {0: Dim.AUTO} for a tensor whose first size is the batch size, and None
    for anything else.
    """
    import torch
    from torch.utils import _pytree as pytree

    batch = _batch_size(arguments)

    def axes(leaf: Any) -> Any:
        is_batch = isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == batch
        return {0: torch.export.Dim.AUTO} if is_batch else None

    return pytree.tree_map(axes, arguments)


def with_one_more_sample(inputs: Inputs, arrays: Sequence[Array]) -> tuple[Inputs | None, int]:
    """Return inputs with one more sample, a copy of the first one.

    Args:
        inputs: The inputs of both sides.
        arrays: All arrays in `inputs`.

    Returns:
        The larger inputs (None if the arrays have no common size of the first axis), and their batch size.
    """
    sizes = {array.shape[:1] for array in arrays}
    if len(sizes) != 1 or () in sizes:
        return None, 0
    torch, keras = (map_arrays(side, _with_first_twice) for side in (inputs.torch, inputs.keras))
    return Inputs(torch=torch, keras=keras, note=inputs.note), next(iter(sizes))[0] + 1


def _with_first_twice(value: Any) -> Array:
    array = as_array(value)
    return np.concatenate([array, array[:1]])


def in_file_order(feeds: Mapping[str, Array] | Sequence[Array], names: Sequence[str], file: str) -> list[Array]:
    """Return the arrays in the order of a file's inputs: by name if the names match, else in the given order.

    Args:
        feeds: Arrays by name, or in the file's order.
        names: Names of the file's inputs.
        file: Name of the file, for the message.

    Raises:
        InputError: The numbers of arrays and inputs differ, and the names do not match either.
    """
    if isinstance(feeds, Mapping) and set(names) <= set(feeds):
        return [feeds[name] for name in names]
    if len(names) != len(feeds):
        raise InputError(
            f"{file} takes {count(len(names), 'input')} ({', '.join(names)}), but the model was called "
            f"with {len(feeds)}"
        )
    return list(feeds.values()) if isinstance(feeds, Mapping) else list(feeds)


def cast(array: Array, dtype: str, name: str) -> Array:
    """Cast an array to the dtype of a file's input; raise `InputError` if that changes integers or booleans."""
    converted = np.ascontiguousarray(array, dtype=dtype)
    if converted.dtype.kind in "iub" and not np.array_equal(converted.astype(array.dtype), array):
        raise InputError(
            f"the input {name} of the ONNX file has the dtype {dtype}, which cannot hold the values of the "
            f"{array.dtype} array"
        )
    return converted
