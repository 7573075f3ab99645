"""Convert a functional architecture of Keras 2 to a call graph of plain data.

Keras 2 counts the creation of a nested model as its first call, and stores the keyword arguments of a call with its
input tensors. The call graph has neither: calls count from 0, and arguments are separate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras3conv.errors import MalformedCheckpoint

MODELS = frozenset({"Functional", "Model", "Sequential"})
"""The class names of models whose configurations list their layers: "Functional", "Sequential" and others."""

Config = Mapping[str, Any]

_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Result:
    """A reference to a tensor that a layer call of an architecture returns.

    Attributes:
        layer: The layer's name.
        call: The number of the call among all calls of the layer.
        place: The position of the tensor among the results of the call: 0 for the first or only one.
    """

    layer: str
    call: int
    place: int


@dataclass(frozen=True, kw_only=True)
class OldCall:
    """One call of a layer in an architecture of Keras 2.

    Attributes:
        layer: The layer's name.
        number: The number of the call.
        argument: The first argument: a `Result` or a plain value, alone or in lists and dicts.
        keywords: The other arguments, which may contain `Result`s.
    """

    layer: str
    number: int
    argument: Any
    keywords: Mapping[str, Any]

    @property
    def needs(self) -> tuple[Result, ...]:
        """The tensors among the arguments of the call, whose computation must come first."""
        return tuple(_results((self.argument, self.keywords)))


@dataclass(frozen=True, kw_only=True)
class Network:
    """A functional model of Keras 2.

    Attributes:
        layers: The configurations of the layers by name.
        calls: Every call, in the order of the layers.
        inputs: The input tensors, nested as in the file.
        outputs: The output tensors, nested as in the file.
    """

    layers: Mapping[str, Config]
    calls: tuple[OldCall, ...]
    inputs: Any
    outputs: Any

    def in_order(self) -> tuple[OldCall, ...]:
        """Return the calls that the outputs depend on, in topological order.

        Raises:
            MalformedCheckpoint: Calls depend on each other in a circle, or on a call that is missing.
        """
        done = {(name, 0) for name, entry in self.layers.items() if entry["class_name"] == "InputLayer"}
        needed = self._needed()
        waiting = [
            call for call in self.calls if (call.layer, call.number) in needed and (call.layer, call.number) not in done
        ]
        ordered: list[OldCall] = []
        while waiting:
            ready = [call for call in waiting if all((need.layer, need.call) in done for need in call.needs)]
            if not ready:
                names = ", ".join(dict.fromkeys(call.layer for call in waiting))
                raise MalformedCheckpoint(
                    f"the layers of the architecture depend on each other in a circle, or on a missing layer: {names}"
                )
            ordered += ready
            done |= {(call.layer, call.number) for call in ready}
            waiting = [call for call in waiting if (call.layer, call.number) not in done]
        return tuple(ordered)

    def _needed(self) -> set[tuple[str, int]]:
        """Return the calls that the outputs of the model depend on, without those that only add a loss (`add_loss`)."""
        calls = {(call.layer, call.number): call for call in self.calls}
        open_ones = [(result.layer, result.call) for result in _results(self.outputs)]
        needed: set[tuple[str, int]] = set()
        while open_ones:
            key = open_ones.pop()
            if key not in needed:
                needed.add(key)
                open_ones += [(result.layer, result.call) for result in calls[key].needs] if key in calls else []
        return needed


def layers_in(config: Any) -> list[Config]:
    """Return the configurations of the layers that the configuration of a model lists."""
    entries = config if isinstance(config, list) else config.get("layers")
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise MalformedCheckpoint("a layer in the architecture of the file lacks the key 'class_name' or 'config'")
    return entries


def name_of(entry: Config) -> str:
    """Return the name of a layer in its model, from the entry of the layer in the file."""
    config = entry["config"]
    own = config.get("name") if isinstance(config, Mapping) else None
    return str(entry.get("name") or own or "")


def network_of(config: Config) -> Network:
    """Return the call graph of a functional model from its configuration.

    Raises:
        MalformedCheckpoint: The configuration is not that of a functional model of Keras 2.
    """
    entries = {name_of(entry): entry for entry in layers_in(config)}
    raw = {name: _nodes(entry) for name, entry in entries.items()}
    inputs, outputs = (_structure(config.get(key), entries) for key in ("input_layers", "output_layers"))
    referred: dict[str, set[int]] = {name: set() for name in entries}
    for result in _results((list(raw.values()), outputs), entries):
        referred[result.layer].add(result.call)
    first = {name: _first_number(entry, len(raw[name]), referred[name]) for name, entry in entries.items()}
    calls = [
        _call(name, number, node, entries, first) for name, nodes in raw.items() for number, node in enumerate(nodes)
    ]
    return Network(layers=entries, calls=tuple(calls), inputs=inputs, outputs=_renumbered(outputs, first))


def _first_number(entry: Config, calls: int, referred: set[int]) -> int:
    """Return the number of a layer's first call: 1 if Keras 2 counts the creation of a model as call 0, else 0.

    Args:
        entry: The configuration of the layer.
        calls: The number of calls that the file lists for the layer.
        referred: The numbers of its calls that other calls refer to.
    """
    if entry["class_name"] not in MODELS or 0 in referred:
        return 0
    if calls in referred:
        return 1
    layers = layers_in(entry["config"])
    with_input = bool(layers) and "batch_input_shape" in layers[0]["config"]
    return int(entry["class_name"] != "Sequential" or with_input)


def _nodes(entry: Config) -> list[Any]:
    nodes = entry.get("inbound_nodes")
    return nodes if isinstance(nodes, list) else []


def _call(name: str, number: int, node: Any, entries: Config, first: Mapping[str, int]) -> OldCall:
    found = _renumbered(_structure(node, entries), first)
    keywords = next((_keywords(leaf) for leaf in _raw_results(node, entries)), {})
    if not _is_result(node, entries) and isinstance(found, list) and len(found) == 1:
        found = found[0]  # a node that is one reference is the argument itself, which may be a constant with one row
    return OldCall(
        layer=name,
        number=number,
        argument=found,
        keywords=_renumbered(_structure(keywords, entries, inside=True), first),
    )


def _structure(value: Any, entries: Config, *, inside: bool = False) -> Any:
    """Return nested values with each tensor reference such as `["dense", 0, 0]` replaced by a `Result`.

    Args:
        value: The nested value in the file.
        entries: The layers of the model by name; a list refers to a tensor only if it begins with such a name.
        inside: Whether the value is an argument of a call, in which a reference has no fourth element.
    """
    if _is_result(value, entries, inside=inside):
        if value[0] == _CONSTANT:
            return value[2]
        return Result(value[0], value[1], value[2])
    if isinstance(value, list):
        return [_structure(item, entries, inside=inside) for item in value]
    if isinstance(value, dict):
        return {name: _structure(item, entries, inside=inside) for name, item in value.items()}
    return value


def _is_result(value: Any, entries: Config, *, inside: bool = False) -> bool:
    """Return whether a value is a list that refers to a tensor, such as `["dense", 0, 0]`.

    Args:
        value: The value in the file.
        entries: The layers of the model by name; a reference begins with such a name.
        inside: Whether the value is an argument of a call, in which a reference has no fourth element.
    """
    lengths = (3,) if inside else (3, 4)
    if not isinstance(value, list) or len(value) not in lengths or not isinstance(value[0], str):
        return False
    return (value[0] in entries and type(value[1]) is type(value[2]) is int) or value[0] == _CONSTANT


def _raw_results(value: Any, entries: Config) -> Iterator[list[Any]]:
    if _is_result(value, entries):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _raw_results(item, entries)


def _keywords(result: list[Any]) -> Config:
    return result[3] if len(result) == 4 and isinstance(result[3], dict) else {}


def _results(value: Any, entries: Config | None = None) -> Iterator[Result]:
    """Yield the tensors that nested lists and dicts contain.

    Args:
        value: The nested value, in which tensors are `Result`s.
        entries: The layers by name; if given, references that are still lists, such as `["dense", 0, 0]`, count as
            well.
    """
    if isinstance(value, Result):
        yield value
    elif entries is not None and isinstance(value, list) and _is_result(value, entries):
        if value[0] != _CONSTANT:
            yield Result(value[0], value[1], value[2])
        yield from _results(list(_keywords(value).values()), entries)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _results(item, entries)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _results(item, entries)


def _renumbered(value: Any, first: Mapping[str, int]) -> Any:
    if isinstance(value, Result):
        return Result(value.layer, value.call - first[value.layer], value.place)
    if isinstance(value, list):
        return [_renumbered(item, first) for item in value]
    if isinstance(value, Mapping):
        return {name: _renumbered(item, first) for name, item in value.items()}
    return value


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        return False
    return isinstance(entry.get("config"), dict | list)
