"""Read the input specifications of a Keras model, and the arguments of its `call` method."""

import inspect

import keras

from keras3conv.model.views import InputSpec


def input_specs(model: keras.layers.Layer) -> tuple[InputSpec, ...]:
    """Return the input specifications of a functional or sequential model; an empty tuple for a subclassed model."""
    tensors = _inputs_of(model)
    keys = _input_keys(model) or ("",) * len(tensors)
    words, steps = paddings(model) if tensors else (None, None)
    return tuple(
        InputSpec(
            shape=tuple(tensor.shape),
            dtype=_dtype_of(tensor),
            name=str(tensor.name),
            key=key,
            padding=words if "int" in _dtype_of(tensor) or len(tensor.shape) < 3 else steps,
        )
        for tensor, key in zip(tensors, keys, strict=True)
    )


def _inputs_of(model: keras.layers.Layer) -> list[keras.KerasTensor]:
    """Return the symbolic inputs of a functional or sequential model; an empty list for a subclassed model."""
    found: list[keras.KerasTensor] = keras.tree.flatten(getattr(model, "inputs", None) or [])
    return found


def _dtype_of(tensor: keras.KerasTensor) -> str:
    """Return the dtype of an input; "int32" for a float input that is the input of Embedding layers only.

    Old files store float32 for such an input, but the models were called with integers. Keras casts the indices.
    """
    dtype = str(tensor.dtype)
    takers = [node.operation for node in getattr(tensor._keras_history.operation, "_outbound_nodes", ())]
    others = [taker for taker in takers if type(taker).__name__ != "NotEqual"]  # it makes the mask of an Embedding
    are_indices = bool(others) and all(isinstance(taker, keras.layers.Embedding) for taker in others)
    return "int32" if are_indices and "int" not in dtype else dtype


def paddings(model: keras.layers.Layer) -> tuple[float | None, float | None]:
    """Return two values that a model masks as padding: that of its Embedding (0), and that of its Masking layer.

    A value is None if the model has no such layer, or the Embedding does not mask.
    """
    words, steps = None, None
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Embedding) and layer.mask_zero:
            words = 0.0
        elif isinstance(layer, keras.layers.Masking):
            steps = float(layer.mask_value)
    return words, steps


def _input_keys(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the keys of the dict of inputs that a functional model takes; an empty tuple if it takes no flat dict."""
    structure = getattr(model, "_inputs_struct", None)
    if not isinstance(structure, dict) or any(not isinstance(value, keras.KerasTensor) for value in structure.values()):
        return ()
    keys = {id(value): key for key, value in structure.items()}
    return tuple(keys[id(tensor)] for tensor in model.inputs)


def call_arguments(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the names of the positional arguments of a subclassed model's `call`; an empty tuple for other models."""
    if _inputs_of(model):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [name for name, parameter in inspect.signature(model.call).parameters.items() if parameter.kind in kinds]
    return tuple(name for name in found if name != "training")
