"""Record `==` between symbolic tensors as an operation; Keras compares their identities, and returns False."""

from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.observing import replaced


def equality_recorded() -> AbstractContextManager[None]:
    """Let `==` compare the elements of symbolic tensors inside the `with` block, as it does for eager tensors.

    Keras itself records `!=` in this way. The code of a layer runs with eager tensors later. Functional models never
    run it again: their `==` between inputs was False already when they were built.
    """

    def equal(tensor: keras.KerasTensor, other: Any) -> Any:
        if tensor is other:
            return True  # a search in a list or a dict
        is_array = isinstance(other, keras.KerasTensor | keras.Variable | np.ndarray | int | float)
        return keras.ops.equal(tensor, other) if is_array or keras.ops.is_tensor(other) else NotImplemented

    return replaced([(keras.KerasTensor, "__eq__", equal)])
