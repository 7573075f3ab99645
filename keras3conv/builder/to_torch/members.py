"""Collect the submodules, parameters and buffers of a torch module under construction, and choose their names."""

from collections.abc import Mapping
from typing import Any

from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.program import Module, Value, Weight
from keras3conv.builder.to_torch.modules import Choice
from keras3conv.model.graph import Graph
from keras3conv.model.views import LayerView
from keras3conv.rules.rule import LayerSpec
from keras3conv.transforms import Array


class Members:
    """The submodules, parameters and buffers of a torch module under construction.

    At first, these are the parameters and constants of the graph.

    Attributes:
        modules: The submodules by name.
        weights: The parameters and buffers, by the names of their values in the program.
    """

    def __init__(self, graph: Graph) -> None:
        self.modules: dict[str, Module] = {}
        self.weights: dict[str, Weight] = {}
        self._graph = graph
        self._names: set[str] = set()
        self._shared: dict[tuple[str, int], str] = {}
        for parameter in graph.parameters:
            tensor = parameter.tensor
            self.weights[tensor.name] = Weight(
                name=self._new_name(parameter.path),
                shape=tuple(size for size in tensor.shape if isinstance(size, int)),
                source=parameter.path,
                dtype=tensor.dtype,
                trainable=parameter.trainable,
            )
        for place, (key, array) in enumerate(graph.constants.items()):
            self.weights[key] = self._buffer(array, f"constant_{place}")

    def of_layer(self, layer: LayerView, choice: Choice, place: int, value: Value) -> str:
        """Return the name of the submodule for a Keras layer; if the layer was called before, that of the first call.

        Args:
            layer: The Keras layer.
            choice: The torch layers of the Keras layer.
            place: The index of the torch layer among them.
            value: The input.
        """
        key = layer.path, place
        if key in self._shared:
            return self._shared[key]
        spec = choice.specs[place]
        owners = [number for number, one in enumerate(choice.specs) if one.kind == choice.rule.torch]
        owners = owners or [len(choice.specs) - 1]
        has_tensors = place in owners and any(not tensor.is_seed for tensor in layer.tensors)
        name = self._new_name(layer.path if place == owners[-1] else f"{layer.path}_{_short(spec.kind)}")
        self._shared[key] = name
        self.modules[name] = Module(
            name=name,
            spec=spec,
            source=layer.path if has_tensors else "",
            rule=choice.rule.name if has_tensors else "",
            flattened=value.flattened if has_tensors else (),
            trainable=bool((layer.config or {}).get("trainable", True)),
        )
        return name

    def without_weights(self, kind: str, config: Mapping[str, Any], path: str) -> str:
        """Add a submodule without weights from Keras, such as a Softmax, and return its name.

        Args:
            kind: The class, such as "torch.nn.Softmax".
            config: The constructor arguments.
            path: The path of the Keras layer or operation for which it is added.
        """
        name = self._new_name(path)
        self.modules[name] = Module(name=name, spec=LayerSpec(kind=kind, config=dict(config)))
        return name

    def variable(self, path: str) -> str:
        """Add a Keras variable as a parameter or buffer, once, and return the name of its value in the program."""
        known = {weight.source: key for key, weight in self.weights.items() if weight.source}
        if path in known:
            return known[path]
        tensor = next(tensor for tensor in self._graph.view.tensors() if tensor.path == path)
        weight = Weight(
            name=self._new_name(path),
            shape=tensor.shape,
            source=path,
            dtype=tensor.dtype,
            trainable=tensor.trainable,
        )
        return self._added(weight)

    def constant(self, array: Array, path: str) -> str:
        """Add an array as a buffer, and return the name of its value; the buffer's name is made from `path`."""
        return self._added(self._buffer(array, path))

    def _added(self, weight: Weight) -> str:
        key = f"w{len(self.weights)}"
        self.weights[key] = weight
        return key

    def _buffer(self, array: Array, path: str) -> Weight:
        name = self._new_name(path)
        return Weight(name=name, shape=array.shape, dtype=array.dtype.name, trainable=False, array=array)

    def _new_name(self, path: str) -> str:
        name = unique(identifier(written(self._graph, path)), self._names)
        self._names.add(name)
        return name


def written(graph: Graph, path: str) -> str:
    """Return a path with the names of attributes in the user's code instead of the names of Keras layers.

    Args:
        graph: The graph of the Keras model.
        path: The path of a layer, or of a variable in it: "dense_3/kernel" gives "head/kernel".
    """
    known = [start for start in graph.written if path == start or path.startswith((f"{start}/", f"{start}_"))]
    exact = [start for start in known if path == start or path[len(start)] == "/"] or known
    start = max(exact, key=len, default=None)
    return path if start is None else graph.written[start] + path[len(start) :]


def _short(kind: str) -> str:
    """Return a word for the name of an additional module of the class `kind`: "pad" for a padding before a layer."""
    name = kind.rpartition(".")[2]
    return "pad" if "Pad" in name else identifier(name)
