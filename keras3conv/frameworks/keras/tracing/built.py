"""Find the shapes of the inputs with which a subclassed model was built, by its first call or by `build`."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras

_NO_TENSORS = frozenset({"training", "mask", "kwargs", "args"})
"""The arguments of `call` for which Keras records no shapes."""


def inputs_of_build(model: keras.layers.Layer) -> Any:
    """Return symbolic inputs of the shapes that a model was built with; None if some of the shapes are not known.

    The batch size is dynamic; if the first sizes of several inputs differ, they are no batch. Keras records no dtypes,
    so all inputs are float32: a layer such as Embedding converts them. It records only the shape of the first argument
    if the model has no method `build` of its own.

    Args:
        model: A subclassed model. Its call takes the result; a tuple stands for several arguments.
    """
    recorded = model.get_build_config() or {}
    shapes = recorded.get("shapes_dict") or {f"{name}_shape": shape for name, shape in _first(model, recorded)}
    arguments = inspect.signature(model.call).parameters
    expected = [name for name, parameter in arguments.items() if _may_be_tensor(name, parameter)]
    given = [shapes[f"{name}_shape"] for name in expected if f"{name}_shape" in shapes]
    if not given or len(given) != len(expected):
        return None
    flat = [shape for one in given for shape in _shapes(one)]
    has_batch = len({shape[0] for shape in flat if shape}) <= 1
    if not all(flat):
        return None
    inputs = [_symbolic(one, has_batch=has_batch) for one in given]
    if len(inputs) > 1:
        return tuple(inputs)
    return list(inputs[0]) if isinstance(inputs[0], tuple) else inputs[0]


def _first(model: keras.layers.Layer, recorded: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the name of the first argument of a model's `call`, with its recorded shape; nothing without a shape."""
    names = [name for name in inspect.signature(model.call).parameters if name not in _NO_TENSORS]
    return [(names[0], recorded["input_shape"])] if names and recorded.get("input_shape") else []


def _may_be_tensor(name: str, parameter: inspect.Parameter) -> bool:
    return name not in _NO_TENSORS and parameter.default in (inspect.Parameter.empty, None)


def _shapes(nested: Any) -> Iterator[tuple[int | None, ...]]:
    """Yield the shapes in a nested structure; an empty one for a shape that is not known."""
    if isinstance(nested, Mapping):
        for one in nested.values():
            yield from _shapes(one)
    elif _is_shape(nested) or not isinstance(nested, tuple | list):
        yield tuple(nested or ())
    else:
        for one in nested:
            yield from _shapes(one)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(size is None or isinstance(size, int) for size in value)


def _symbolic(shape: Any, *, has_batch: bool) -> Any:
    """Return symbolic tensors for nested shapes.

    Args:
        shape: A shape, or shapes in dicts, lists and tuples.
        has_batch: Whether the first size is that of the batch, so dynamic.
    """
    if isinstance(shape, Mapping):
        return {name: _symbolic(one, has_batch=has_batch) for name, one in shape.items()}
    if _is_shape(shape):
        return keras.KerasTensor((None, *shape[1:]) if has_batch else tuple(shape), dtype="float32")
    several = [_symbolic(one, has_batch=has_batch) for one in shape]
    return tuple(several) if isinstance(shape, tuple) else several
