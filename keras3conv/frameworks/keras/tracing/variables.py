"""Variables that operations are given directly: while a model is traced they are symbolic like any other tensor.

Keras computes at once with an operation that is given variables and nothing symbolic, as the transposed table of an
embedding that is a head, too. What it returned would be a constant, and the tie would be lost.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.backend import any_symbolic_tensors

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
    "__getitem__": lambda x, y: keras.src.ops.numpy.GetItem().symbolic_call(x, y),
}
"""What Python's operators mean for a variable."""


@contextmanager
def symbolic_variables(known: Collection[int], is_active: Callable[[], bool]) -> Iterator[None]:
    """For a while, operations on variables return symbolic tensors.

    Args:
        known: The ids of the variables that are meant.
        is_active: Whether it is so at the moment: what a layer does to tell its shapes is left alone.
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

    homes = [home for name, home in list(sys.modules.items()) if name.startswith("keras.src.ops.")]
    patched: list[tuple[Any, str, Any]] = [
        (home, "any_symbolic_tensors", any_symbolic_tensors) for home in homes if hasattr(home, "any_symbolic_tensors")
    ]
    operators = [(keras.Variable, name, getattr(keras.Variable, name)) for name in _OPERATORS]
    inherited = [(home, name) for home, name, _ in operators if name not in vars(home)]
    patched += operators
    try:
        for home, name, original in patched:
            setattr(home, name, any_symbolic if home is not keras.Variable else operated(name, original))
        yield
    finally:
        for home, name, original in patched:
            setattr(home, name, original)
        for home, name in inherited:  # what the class has not itself, it has not afterwards either
            delattr(home, name)


__all__ = ["symbolic_variables"]
