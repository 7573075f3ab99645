"""Name the operations of a model that is built from an old file."""

from collections.abc import Iterable
from typing import Any

import keras

from keras3conv.formats.keras2.names import allowed_names
from keras3conv.frameworks.keras.internals import get_keras_mask


class Operations:
    """Names the operations of a new model like the operations of the file; each name is used once per Keras model."""

    def __init__(self, known: set[int], taken: set[str]) -> None:
        self._known, self._taken = known, taken

    def name(self, results: Iterable[Any], name: str) -> None:
        """Name the operations that computed tensors: the last one, and all before it that have no name yet.

        The operations of the masks of the results are named as well.

        Args:
            results: The symbolic tensors that a call returned.
            name: The name in the file; only the last operation gets it unchanged, the others get a number, too.
        """
        tensors = [result for result in results if isinstance(result, keras.KerasTensor)]
        last = {id(tensor._keras_history.operation) for tensor in tensors}
        masks = [mask for tensor in tensors if isinstance(mask := get_keras_mask(tensor), keras.KerasTensor)]
        waiting = [tensor._keras_history.operation for tensor in (*masks, *tensors)]
        while waiting:
            operation = waiting.pop()
            if id(operation) in self._known or isinstance(operation, keras.layers.Layer):
                continue
            self._known.add(id(operation))
            operation.name = name if id(operation) in last else self._free(name)
            last.clear()
            for node in operation._inbound_nodes:
                waiting += [tensor._keras_history.operation for tensor in node.input_tensors]

    def new(self, name: str) -> str:
        """Return an unused name for an additional layer, which computes sizes for a layer of the file.

        Args:
            name: The name of the layer of the file: "reshape" gives "reshape_sizes_1".
        """
        return self._free(allowed_names([name])[name], "sizes")

    def _free(self, name: str, word: str = "part") -> str:
        number = 1
        while f"{name}_{word}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{name}_{word}_{number}")
        return f"{name}_{word}_{number}"
