"""Find the public function ("keras.ops.add") of an operation object, and its arguments by parameter name."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import ACTIVATION_MODULES

_RENAMED = {
    "BatchNorm": "batch_normalization",
    "LayerNorm": "layer_normalization",
    "RMSNorm": "rms_normalization",
}
"""The functions of those operation classes whose names differ from them by more than case and underscores."""

_NAMESPACES = ("", "image.", "nn.", "numpy.", "linalg.")


def kind_of_operation(operation: keras.Operation) -> str:
    """Return the public name of an operation's function: "keras.ops.add", "keras.ops.image.resize"."""
    cls = type(operation)
    if cls.__module__.startswith(ACTIVATION_MODULES):
        return f"keras.activations.{_without_underscores(cls.__name__)}"
    return kind_named(cls.__name__) or f"{cls.__module__}.{cls.__qualname__}"


def kind_named(class_name: str) -> str:
    """Return the public name of the function for an operation class in a file; empty if `keras.ops` has none."""
    wanted = _without_underscores(class_name)
    for namespace in _NAMESPACES:
        if wanted in _functions(namespace):
            return f"keras.ops.{namespace}{_functions(namespace)[wanted]}"
    return ""


def _without_underscores(class_name: str) -> str:
    return _RENAMED.get(class_name, class_name).replace("_", "").lower()


@cache
def _functions(namespace: str) -> Mapping[str, str]:
    """Return the names of the functions in a namespace of `keras.ops`, by their names without underscores.

    For example {"extractpatches": "extract_patches"}.

    Args:
        namespace: The namespace with a dot, "image."; empty for `keras.ops` itself.
    """
    module = getattr(keras.ops, namespace.rstrip(".")) if namespace else keras.ops
    return {name.replace("_", ""): name for name in dir(module) if callable(getattr(module, name))}


@cache
def own_names() -> frozenset[str]:
    """Return the names that Keras itself gives to operations, before it adds a number: "pad" for "pad_1"."""
    return frozenset(name for namespace in ("", "image.", "nn.", "linalg.") for name in _functions(namespace).values())


def arguments_of(operation: keras.Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of an operation, and those of the operation's constructor, by parameter name."""
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
    constructed = {name: value for name, value in vars(operation).items() if not name.startswith("_")}
    constructed.pop("name", None)
    return constructed | given
