"""Parse the architecture in a Keras file as plain JSON; nothing in it is instantiated, imported or called.

Two formats are read: that of Keras 2 (`inbound_nodes` are lists of `[layer, node, tensor, arguments]`), and that of
Keras 3 (`inbound_nodes` contain arguments, in which a tensor has the key `keras_history`).
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.errors import MalformedCheckpoint, quoted
from keras3conv.formats.keras.names import qualified
from keras3conv.model.views import InputSpec

_MODELS = frozenset({"Functional", "Sequential", "Model"})
_MAX_DEPTH = 64

Config = Mapping[str, Any]
Call = tuple[str, int]
"""One call of a layer: the name of the layer, and the index of the call among all calls of this layer."""


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """A layer of the architecture.

    Attributes:
        name: The name of the layer in its model.
        class_name: The class name without its module: "Conv2D"; the package of a registered class is left out.
        kind: The qualified class name.
        config: The constructor arguments.
        children: If the layer is a model, its layers.
        calls: For each call of the layer, the calls whose outputs are its inputs.
        inputs: The shapes of the inputs of the first call; None if the file does not contain them.
    """

    name: str
    class_name: str
    kind: str
    config: Config
    children: tuple["LayerConfig", ...] = ()
    calls: tuple[tuple[Call, ...], ...] = ()
    inputs: tuple[tuple[int | None, ...], ...] | None = None

    @property
    def is_model(self) -> bool:
        """True if the layer is a model whose layers are in the file."""
        return self.class_name in _MODELS and isinstance(self.config.get("layers"), list)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The architecture of a model in a file.

    Attributes:
        root: The model itself; its children are the layers, in definition order.
        places: For each layer path, the positions of the layer's calls in the execution order of the model.
        input_specs: The inputs of the model.
    """

    root: LayerConfig
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    input_specs: tuple[InputSpec, ...] = ()

    def walk(self) -> Iterator[tuple[str, LayerConfig]]:
        """Yield every layer of the architecture with its path ("outer/inner"), a model before its layers."""
        yield from _walk(self.root.children, "")


def parse(config: Any, where: str) -> Architecture:
    """Return the architecture in a `model_config`; raise `MalformedCheckpoint` if it is not one of Keras."""
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict | list):
        raise MalformedCheckpoint(
            f"{where}: the architecture must be a JSON object with the key 'config', as Keras writes it"
        )
    root = _layer(config, where, _MAX_DEPTH)
    return Architecture(root=root, places=_places(root) if root.is_model else {}, input_specs=_input_specs(root))


def inner_layer(layer: LayerConfig, attribute: str) -> LayerConfig | None:
    """Return the layer inside a wrapper, by the attribute that holds it: the GRUCell in "cell" of an RNN.

    Return None if the file does not describe the layer. Wrappers are TimeDistributed, Bidirectional and RNN.
    """
    config = layer.config.get({"forward_layer": "layer"}.get(attribute, attribute))
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        return None
    return _layer(config, layer.name, _MAX_DEPTH)


def _layer(entry: Any, where: str, depth: int) -> LayerConfig:
    if depth == 0:
        raise MalformedCheckpoint(f"{where}: the layers of the architecture are nested too deeply to be read")
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise MalformedCheckpoint(f"{where}: a layer of the architecture has no key 'class_name': {quoted(entry)}")
    class_name, config = entry["class_name"], entry.get("config") or {}
    if isinstance(config, list):  # a Sequential of Keras before 2.2.3 is a bare list of layers
        config = {"layers": config}
    if not isinstance(config, dict):
        raise MalformedCheckpoint(
            f"{where}: a layer of the class {class_name} in the architecture has no key 'config' with its configuration"
        )
    name, module, nodes = config.get("name", entry.get("name")), entry.get("module"), entry.get("inbound_nodes")
    children: tuple[LayerConfig, ...] = ()
    if class_name in _MODELS and isinstance(config.get("layers"), list):
        children = tuple(_layer(child, where, depth - 1) for child in config["layers"])
    inbound = nodes if isinstance(nodes, list) else []
    registered = entry.get("registered_name")
    custom = registered if isinstance(registered, str) and ">" in registered and not module else class_name
    return LayerConfig(
        name=name if isinstance(name, str) else "",
        class_name=class_name.rpartition(">")[2],
        kind=qualified(custom, module if isinstance(module, str) else ""),
        config=config,
        children=children,
        calls=tuple(tuple(dict.fromkeys(_histories(node))) for node in inbound),
        inputs=_input_shapes(inbound[0]) if inbound else _built_shapes(entry),
    )


def _walk(layers: tuple[LayerConfig, ...], prefix: str) -> Iterator[tuple[str, LayerConfig]]:
    for layer in layers:
        path = f"{prefix}{layer.name}"
        yield path, layer
        yield from _walk(layer.children, f"{path}/")


def _histories(value: Any) -> Iterator[Call]:
    """Yield the calls whose outputs occur in an argument of another call, each as layer name and number: ("conv", 1).

    In files of Keras 3, the key `keras_history` marks such a tensor. In those of Keras 2, it is a list that begins with
    a layer name and two numbers.
    """
    if isinstance(value, dict):
        history = value.get("keras_history")
        if isinstance(history, list) and len(history) == 3 and isinstance(history[0], str):
            yield history[0], history[1] if isinstance(history[1], int) else 0
        else:
            for item in value.values():
                yield from _histories(item)
    elif isinstance(value, list):
        if len(value) in (3, 4) and isinstance(value[0], str) and type(value[1]) is int and type(value[2]) is int:
            yield value[0], value[1]
            value = value[3:]
        for item in value:
            yield from _histories(item)


def _input_shapes(node: Any) -> tuple[tuple[int | None, ...], ...] | None:
    """Return the shapes of the positional tensor arguments of a call; None for Keras 2, which does not write them."""
    if not isinstance(node, dict):
        return None
    return tuple(_tensor_shapes(node.get("args"))) or None


def _tensor_shapes(value: Any) -> Iterator[tuple[int | None, ...]]:
    if isinstance(value, list):
        for item in value:
            yield from _tensor_shapes(item)
    elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        shape = _shape(value.get("config", {}).get("shape") if isinstance(value.get("config"), dict) else None)
        if shape is not None:
            yield shape


def _built_shapes(entry: Config) -> tuple[tuple[int | None, ...], ...] | None:
    built = entry.get("build_config")
    shape = _shape(built.get("input_shape")) if isinstance(built, dict) else None
    return None if shape is None else (shape,)


def _shape(value: Any) -> tuple[int | None, ...] | None:
    if isinstance(value, list) and all(item is None or type(item) is int for item in value):
        return tuple(value)
    return None


def _places(root: LayerConfig) -> dict[str, tuple[int, ...]]:
    places: dict[str, list[int]] = {path: [] for path, _ in _walk(root.children, "")}
    for place, path in enumerate(_run(root, "")):
        places[path].append(place)
    return {path: tuple(found) for path, found in places.items()}


def _run(model: LayerConfig, prefix: str) -> Iterator[str]:
    """Yield the paths of the layers in execution order; the layers of an inner model follow the inner model.

    Args:
        model: The model.
        prefix: The text before the names of its layers: the path of an inner model and "/"; empty for the whole model.
    """
    for layer in _ordered(model):
        path = f"{prefix}{layer.name}"
        yield path
        if layer.is_model:
            yield from _run(layer, f"{path}/")


def _ordered(model: LayerConfig) -> Iterator[LayerConfig]:
    """Yield the layers of a model in execution order, a layer once for each of its calls.

    A call follows the calls that it depends on. Among the calls that are ready, the one defined first comes first.
    """
    if model.class_name == "Sequential":
        yield from model.children
        return
    calls = [(layer, number) for layer in model.children for number in range(max(1, len(layer.calls)))]
    ranks = {(layer.name, number): rank for rank, (layer, number) in enumerate(calls)}
    first_numbers = _first_numbers(model)
    needs = [_needs(layer, number, ranks, first_numbers) for layer, number in calls]
    takers: dict[int, list[int]] = {}
    for rank, sources in enumerate(needs):
        for source in sources:
            takers.setdefault(source, []).append(rank)
    ready = [rank for rank, sources in enumerate(needs) if not sources]
    done = 0
    while ready:
        rank, done = heapq.heappop(ready), done + 1
        yield calls[rank][0]
        for taker in takers.get(rank, []):
            needs[taker].discard(rank)
            if not needs[taker]:
                heapq.heappush(ready, taker)
    if done < len(calls):
        raise MalformedCheckpoint(f"the layers in the architecture of {model.name} depend on each other in a cycle")


def _first_numbers(model: LayerConfig) -> dict[str, int]:
    """Return the number of the first call of each inner model that other calls refer to: 0, or 1 in files of Keras 2.

    Keras 2 counts the creation of an inner model as its first call, so the number of its last call is then too high.
    """
    referred = {source for layer in model.children for call in layer.calls for source in call}
    referred |= set(_references(model.config.get("output_layers")))
    return {
        layer.name: int((layer.name, 0) not in referred and (layer.name, len(layer.calls)) in referred)
        for layer in model.children
        if layer.is_model
    }


def _references(value: Any) -> Iterator[Call]:
    """Yield the calls that nested lists and dicts refer to, each as `["dense", 0, 0]`: layer, call, output."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return
    if len(value) > 1 and isinstance(value[0], str) and type(value[1]) is int:
        yield value[0], value[1]
        return
    for item in value:
        yield from _references(item)


def _needs(layer: LayerConfig, number: int, ranks: Mapping[Call, int], first_numbers: Mapping[str, int]) -> set[int]:
    """Return, for one call, the positions (in definition order) of the calls on which it depends.

    A call number that is too high means the last call.

    Args:
        layer: The layer that is called.
        number: The number of the call among the layer's calls.
        ranks: The position of each call of the model in the order of definition.
        first_numbers: The number of the first call of each inner model.
    """
    found = set()
    for name, source in layer.calls[number] if layer.calls else ():
        numbers = range(source - first_numbers.get(name, 0), -1, -1)
        rank = next((ranks[name, known] for known in numbers if (name, known) in ranks), None)
        if rank is not None:
            found.add(rank)
    return found


def _input_specs(root: LayerConfig) -> tuple[InputSpec, ...]:
    specs = []
    for layer in root.children:
        shape = _shape(layer.config.get("batch_shape", layer.config.get("batch_input_shape")))
        first = layer.class_name == "InputLayer" or (root.class_name == "Sequential" and layer is root.children[0])
        if first and shape is not None:
            specs.append(InputSpec(shape=shape, dtype=_dtype(layer.config.get("dtype")), name=layer.name))
    return tuple(specs) or _sequential_spec(root)


def _sequential_spec(root: LayerConfig) -> tuple[InputSpec, ...]:
    shape = _shape(root.config.get("build_input_shape"))
    return () if shape is None else (InputSpec(shape=shape),)


def _dtype(value: Any) -> str:
    return value if isinstance(value, str) else "float32"
