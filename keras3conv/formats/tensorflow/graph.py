"""Read the graph of objects in a checkpoint of TensorFlow 2: which variable belongs to which layer, and in which order.

A checkpoint names a variable by a path of attributes: "layer_with_weights-0/kernel". The graph also has the name that
the variable had in its program ("conv1/kernel"), and tells the variables of a model from those of its optimizer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint
from keras3conv.formats.safe.source import MAX_TENSORS
from keras3conv.formats.tensorflow.protobuf import bytes_of, fields, number_of, text_of

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The name of the tensor that holds the graph of objects in a TensorFlow 2 checkpoint."""

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""The suffix that the name of a variable's values has in a checkpoint with a graph of objects."""

_MOST_NODES = 2 * MAX_TENSORS
_MAX_DEPTH = 64

_COUNTS = frozenset({"iter", "_iterations"})
_RATES = frozenset({"learning_rate", "_learning_rate"})
"""The attribute names of a learning rate: an object that has one of them, and a step counter, is an optimizer."""

_NOT_LAYERS = frozenset({"save_counter", "keras_api", "signatures"})
"""The attributes of the saved object that hold no weights: a save counter, metrics, and functions."""

LISTS = frozenset(
    {
        f"{prefix}{kind}"
        for prefix in ("", "_")
        for kind in (
            "variables",
            "trainable_variables",
            "non_trainable_variables",
            "all_variables",
            "regularization_losses",
            "layers",
            "operations",
            "tracked",
            "loss_tracker",
            "layer_checkpoint_dependencies",
        )
    }
)
"""The attributes that only list objects again; they give a variable its path only if no other attribute does."""


@dataclass(frozen=True, slots=True)
class Node:
    """An object in the graph of a TensorFlow 2 checkpoint: a model, layer, variable or optimizer.

    Attributes:
        children: For each object in an attribute of this one, the name of the attribute and the object's position in
            the graph's list of objects: ("layer-0", 3).
        key: The name of its values in the checkpoint; empty if it is not a variable.
        name: The name of the variable in its program; empty if unknown.
        has_slots: Whether it keeps variables for other variables (the momentum of each kernel), as an optimizer does.
    """

    children: tuple[tuple[str, int], ...]
    key: str = ""
    name: str = ""
    has_slots: bool = False

    @property
    def is_optimizer(self) -> bool:
        """True if the object is an optimizer: it has slot variables, or a step count and a learning rate."""
        names = {name for name, _ in self.children}
        return self.has_slots or bool(names & _COUNTS and names & _RATES)


@dataclass(frozen=True)
class Variable:
    """A variable of a model.

    Attributes:
        key: The name of its values in the checkpoint.
        name: The name in its program: "conv1/kernel"; empty if unknown.
        path: The attributes that lead to it: ("layer_with_weights-0", "kernel").
    """

    key: str
    name: str
    path: tuple[str, ...]


def parse(message: bytes, where: str) -> tuple[Node, ...]:
    """Return the objects in the graph of a checkpoint; the first one is the saved object that contains all others.

    Args:
        message: The message `TrackableObjectGraph`.
        where: The name of the checkpoint, for messages.

    Raises:
        MalformedCheckpoint: The bytes are no such message.
        BudgetExceeded: The graph has more objects than that of any model.
    """
    where = f"{where}: {GRAPH}"
    nodes: list[Node] = []
    children = 0
    for number, value in fields(message, where):
        if number == 1:
            nodes.append(_node(bytes_of(value, where), where))
            children += len(nodes[-1].children)
            if max(len(nodes), children) > _MOST_NODES:
                raise BudgetExceeded(f"{where} has more than {_MOST_NODES:,} objects or attributes, which is the limit")
    for node in nodes:
        if any(not 0 <= child < len(nodes) for _, child in node.children):
            raise MalformedCheckpoint(f"{where}: an object refers to another object that is not in the graph")
    return tuple(nodes)


def _node(message: bytes, where: str) -> Node:
    children: list[tuple[str, int]] = []
    key = name = ""
    has_slots = False
    for number, value in fields(message, where):
        if number == 1:
            children.append(_child(bytes_of(value, where), where))
        elif number == 2:
            texts = {field: text for field, text in fields(bytes_of(value, where), where) if field in (1, 2, 3)}
            if texts.get(1) == b"VARIABLE_VALUE":
                name, key = (text_of(texts.get(field, b""), where) for field in (2, 3))
        elif number == 3:
            has_slots = True
    return Node(tuple(children), key, name, has_slots)


def _child(message: bytes, where: str) -> tuple[str, int]:
    name, node = "", 0
    for number, value in fields(message, where):
        if number == 1:
            node = number_of(value, where)
        elif number == 2:
            name = text_of(value, where)
    return name, node


def variables(nodes: Sequence[Node], where: str) -> Iterator[Variable]:
    """Yield the variables of the model, in the order of the model, without those of optimizers.

    Args:
        nodes: The objects of the graph; the first is the saved object, which contains all others.
        where: The name of the checkpoint, for messages.
    """
    seen: set[int] = set()
    waiting: list[tuple[int, tuple[str, ...]]] = [(0, ())] if nodes else []
    later: list[tuple[int, tuple[str, ...]]] = []
    while waiting or later:
        if not waiting:
            waiting, later = later[::-1], []
        number, path = waiting.pop()
        node = nodes[number]
        if number in seen or node.is_optimizer:
            continue
        seen.add(number)
        if len(path) > _MAX_DEPTH:
            raise MalformedCheckpoint(f"{where}: the objects of the graph are nested deeper than {_MAX_DEPTH} levels")
        if node.key:
            yield Variable(node.key, node.name, path)
        inside = [(child, (*path, name)) for name, child in node.children if path or name not in _NOT_LAYERS]
        waiting += [one for one in reversed(inside) if one[1][-1] not in LISTS]
        later += [one for one in inside if one[1][-1] in LISTS]
