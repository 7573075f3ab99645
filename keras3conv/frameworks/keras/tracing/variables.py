"""Treat variables that operations use directly as symbolic tensors while a model is traced.

Keras computes an operation eagerly if its inputs are variables and none is symbolic: for example the transpose of an
embedding matrix that is tied to the output layer. The result would become a constant, and the tie would be lost.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import GetItem, any_symbolic_tensors, operation_modules
from keras3conv.frameworks.keras.observing import replaced

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
        for module in operation_modules()
        if hasattr(module, "any_symbolic_tensors")
    ]
    operators = [(keras.Variable, name, operated(name, getattr(keras.Variable, name))) for name in _OPERATORS]
    return replaced([*lookups, *operators])
