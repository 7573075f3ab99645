"""Replace variables, and the backend of preprocessing layers, by symbolic counterparts while a model is traced.

Keras computes an operation eagerly if its inputs are variables and none is symbolic: for example the transpose of an
embedding matrix that is tied to the output layer. The result would become a constant, and the tie would be lost.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import OPERATION_MODULES, DynamicBackend, GetItem, any_symbolic_tensors
from keras3conv.frameworks.keras.observing import replaced
from keras3conv.model.graph import mapped

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "__add__": keras.ops.add,
    "__radd__": lambda x, y: keras.ops.add(y, x),
    "__sub__": keras.ops.subtract,
    "__rsub__": lambda x, y: keras.ops.subtract(y, x),
    "__mul__": keras.ops.multiply,
    "__rmul__": lambda x, y: keras.ops.multiply(y, x),
    "__truediv__": keras.ops.divide,
    "__rtruediv__": lambda x, y: keras.ops.divide(y, x),
    "__pow__": keras.ops.power,
    "__matmul__": keras.ops.matmul,
    "__rmatmul__": lambda x, y: keras.ops.matmul(y, x),
    "__getitem__": lambda x, y: GetItem().symbolic_call(x, y),
}
"""The function of `keras.ops` for each operator method of a variable."""


def symbolic_variables(known: Collection[int], is_active: Callable[[], bool]) -> AbstractContextManager[None]:
    """Make operations on variables return symbolic tensors inside the `with` block.

    Args:
        known: The ids of the variables.
        is_active: Returns True if the replacement is active; it is inactive while a layer infers its output shape.
    """

    def is_known(value: Any) -> bool:
        return isinstance(value, keras.Variable) and id(value) in known

    def any_symbolic(args: Any = None, kwargs: Any = None) -> bool:
        if any_symbolic_tensors(args, kwargs):
            return True
        return is_active() and any(map(is_known, keras.tree.flatten((args or (), kwargs or {}))))

    def operated(name: str, original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def called(self: Any, other: Any) -> Any:
            active = is_active() and is_known(self)
            return _OPERATORS[name](self, other) if active else original(self, other)

        return called

    lookups = [
        (module, "any_symbolic_tensors", any_symbolic)
        for module in OPERATION_MODULES
        if hasattr(module, "any_symbolic_tensors")
    ]
    operators = [(keras.Variable, name, operated(name, getattr(keras.Variable, name))) for name in _OPERATORS]
    return replaced([*lookups, *operators])


class _Operations:
    """The functions of `keras.ops` under the names that they have in a backend: `backend.numpy.add`, `backend.cast`."""

    def __getattr__(self, name: str) -> Any:
        return self if name in ("core", "linalg", "math", "nn", "numpy") else getattr(keras.ops, name)


@contextmanager
def symbolic_attributes(
    layer: keras.layers.Layer, known: Collection[int], symbol: Callable[[keras.Variable], keras.KerasTensor]
) -> Iterator[None]:
    """Replace the variables in the attributes of a layer by symbolic tensors inside the `with` block.

    The functions of a backend, which a preprocessing layer calls by an attribute, are replaced by those of `keras.ops`.

    Args:
        layer: The layer.
        known: The ids of the variables of the model.
        symbol: Returns the symbolic tensor of a variable.
    """

    def swapped(value: Any) -> Any:
        if isinstance(value, keras.Variable):
            return symbol(value) if id(value) in known else value
        if isinstance(value, DynamicBackend):
            return _Operations()
        if type(value) in (list, tuple, dict) and _has_variable(value):
            return mapped(value, swapped)
        return value

    before = dict(vars(layer))
    kept = {"_trainable_variables", "_non_trainable_variables", "_tracker"}
    changed = {name: swapped(value) for name, value in before.items() if name not in kept}
    changed = {name: value for name, value in changed.items() if value is not before[name]}
    vars(layer).update(changed)
    try:
        yield
    finally:
        vars(layer).update({name: before[name] for name in changed})


def _has_variable(value: Any) -> bool:
    """Return True if nested lists, tuples and dicts contain a Keras variable.

    `keras.tree.flatten` is of no use: it sorts the keys of a dict, which are layers in a compiled model.
    """
    if type(value) in (list, tuple, dict):
        return any(map(_has_variable, value.values() if isinstance(value, dict) else value))
    return isinstance(value, keras.Variable)
