"""What Keras' operations are called, and what they are given."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import keras

_RENAMED = {
    "BatchNorm": "batch_normalization",
    "LayerNorm": "layer_normalization",
    "RMSNorm": "rms_normalization",
}
"""Operations whose function has another name."""

_NAMESPACES = ("", "image.", "nn.", "numpy.", "linalg.")


def kind_of_operation(operation: keras.Operation) -> str:
    """The public name of an operation's function: "keras.ops.add", "keras.ops.image.resize"."""
    cls = type(operation)
    if cls.__module__.startswith("keras.src.activations"):  # activations with more settings than the operation has
        return f"keras.activations.{_without_underscores(cls.__name__)}"
    return kind_named(cls.__name__) or f"{cls.__module__}.{cls.__qualname__}"


def kind_named(class_name: str) -> str:
    """The public name of the function of an operation's class, as files have it; empty if Keras has no such one."""
    wanted = _without_underscores(class_name)
    for namespace in _NAMESPACES:
        if wanted in _functions(namespace):
            return f"keras.ops.{namespace}{_functions(namespace)[wanted]}"
    return ""


def _without_underscores(class_name: str) -> str:
    return _RENAMED.get(class_name, class_name).replace("_", "").lower()


@cache
def _functions(namespace: str) -> Mapping[str, str]:
    """The functions of `keras.ops`, or of one of its namespaces, by their names without underscores."""
    home = getattr(keras.ops, namespace.rstrip(".")) if namespace else keras.ops
    return {name.replace("_", ""): name for name in dir(home) if callable(getattr(home, name))}


def arguments_of(operation: keras.Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a call is given, by the names of the parameters; of an operation also what it was made with."""
    signature = inspect.signature(operation.call)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    given: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            given.update(value)
        else:
            given[name] = value
    if isinstance(operation, keras.layers.Layer):
        return given
    made = {name: value for name, value in vars(operation).items() if not name.startswith("_") and name != "name"}
    return made | given


__all__ = ["arguments_of", "kind_named", "kind_of_operation"]
