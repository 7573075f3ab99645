"""Prevent constant folding in the first iteration of a Python loop, so that all iterations have the same operators.

In this code, only the first iteration negates a constant. Constant folding would remove this operator:

    x = torch.ones(3)
    for layer in self.layers:
        x = layer(-x)

So an operator is inserted that returns the first value of `x` and does not count as a constant.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils import _pytree as pytree

from keras3conv.frameworks.torch.folding import Constants, is_number
from keras3conv.frameworks.torch.program_nodes import is_in_place
from keras3conv.model.graph import FIRST_VALUE


@dataclass(frozen=True, kw_only=True)
class _Start:
    """A constant used by the first iteration of a loop where the second uses a value that the first has computed.

    Attributes:
        constant: The constant.
        user: The node of the first iteration that uses it.
        leaf: The index of the constant among the leaves of the arguments of this node.
        following: The value that the second iteration uses instead.
    """

    constant: Node
    user: Node
    leaf: int
    following: Node


def constants_of(exported: ExportedProgram, buffers: frozenset[str], free: frozenset[Any]) -> Constants:
    """Return the `Constants` of an exported module: its values that depend on no input and no parameter.

    A value that only the first iteration of a loop computes from constants is not among them: the graph of the module
    gets an operator for the constant from which it is computed.
    """
    _without_first_values(exported)
    found = Constants(exported, buffers, free)
    starts = [*_LoopIterations(exported, found.values).starts()]
    for start in starts:
        _insert(exported, start)
    return Constants(exported, buffers, free) if starts else found


def _without_first_values(exported: ExportedProgram) -> None:
    """Remove the operators that an earlier call inserted: they name other nodes, whose names may have changed."""
    for node in [*exported.graph.nodes]:
        if str(node.target) == FIRST_VALUE:
            node.replace_all_uses_with(node.args[0])
            exported.graph.erase_node(node)


def _insert(exported: ExportedProgram, start: _Start) -> None:
    """Insert an operator that returns the constant with which a loop starts."""
    constant = start.constant
    known = (one for one in constant.users if str(one.target) == FIRST_VALUE and one.args[1] == start.following.name)
    first = next(known, None)
    if first is None:
        with exported.graph.inserting_after(constant):
            target = torch.ops.keras3conv.first_value.default
            first = exported.graph.call_function(target, (constant, start.following.name))
        first.meta.update({name: one for name, one in constant.meta.items() if name in _KEPT})
    leaves, structure = pytree.tree_flatten((start.user.args, dict(start.user.kwargs)))
    leaves[start.leaf] = first
    start.user.args, start.user.kwargs = pytree.tree_unflatten(leaves, structure)


_KEPT = ("val", "tensor_meta", "stack_trace", "nn_module_stack")
"""The keys of a node's `meta` that an operator which returns a constant takes over from the constant."""


class _LoopIterations:
    """The operators of an exported module; finds those that the same line of code makes in two iterations of a loop."""

    def __init__(self, exported: ExportedProgram, constants: Mapping[Node, Any]) -> None:
        """Read the operators of an exported module.

        Args:
            exported: The exported module.
            constants: The values that depend on no input and no parameter.
        """
        called = (node for node in exported.graph.nodes if node.op == "call_function")
        # Torch computes a size once for all iterations, so sizes are left out.
        self.nodes = [node for node in called if not is_number(node.meta.get("val"))]
        self.constants = constants
        self.keys = [*map(_key, self.nodes)]
        self.number = {node: place for place, node in enumerate(self.nodes)}
        self.places: dict[object, list[int]] = {}
        for place, key in enumerate(self.keys):
            self.places.setdefault(key, []).append(place)

    def starts(self) -> Iterator[_Start]:
        """Yield the constants that only the first iteration of a loop uses."""
        changing: set[Node] = set()  # values that are constants in the first iteration only
        for place, node in enumerate(self.nodes):
            if node.target is operator.getitem:
                changing |= {node} if node.args[0] in changing else set()
                continue
            found = self._starts_at(place)
            changing |= {node} & {*self.constants} if found else set()
            yield from (start for start in found if start.constant not in changing)

    def _starts_at(self, place: int) -> list[_Start]:
        """Return a node's constants where the same node of the next iteration uses a value of this iteration."""
        operands = _operands(self.nodes[place])
        given = {leaf: one for leaf, one in operands.items() if one in self.constants and _may_start(one)}
        for other in self.places[self.keys[place]] if given else ():
            later = _operands(self.nodes[other])
            found = [
                _Start(constant=one, user=self.nodes[place], leaf=leaf, following=later[leaf])
                for leaf, one in given.items()
                if place <= self.number.get(later[leaf], -1) < other and self._follows(later[leaf], one)
            ]
            if found and _is_next_iteration(self.keys, place, other):
                return found
        return []

    def _follows(self, later: Node, constant: Node) -> bool:
        """Return whether a value may replace a constant in the next iteration: it is computed, and has as many axes."""
        value, known = later.meta.get("val"), constant.meta["val"]
        return later not in self.constants and isinstance(value, torch.Tensor) and value.ndim == known.ndim


def _may_start(constant: Node) -> bool:
    """Return whether a loop may start with a constant: it has real numbers, and no operator writes into it."""
    value = constant.meta.get("val")
    is_real = isinstance(value, torch.Tensor) and not value.is_complex()
    return is_real and not any(is_in_place(user) and user.args[0] is constant for user in constant.users)


def _key(node: Node) -> object:
    """Return a key that is equal for nodes which the same line of code makes in several iterations of a loop."""
    leaves = pytree.tree_leaves((node.args, dict(node.kwargs)))
    kinds = tuple((type(leaf), isinstance(leaf, Node) and is_number(leaf.meta.get("val"))) for leaf in leaves)
    return node.target, node.meta.get("stack_trace"), kinds


def _operands(node: Node) -> dict[int, Node]:
    """Return the tensors in the arguments of a node, by their index among all leaves of the arguments."""
    leaves = enumerate(pytree.tree_leaves((node.args, dict(node.kwargs))))
    return {place: one for place, one in leaves if isinstance(one, Node) and not is_number(one.meta.get("val"))}


def _is_next_iteration(keys: Sequence[object], place: int, other: int) -> bool:
    """Return whether two nodes are at the same position in two consecutive iterations of a loop.

    Args:
        keys: The keys of all nodes; those of all nodes in an iteration are repeated in the next iteration.
        place: The index of the node in the first iteration.
        other: The index of the node in the second one.
    """
    length = other - place
    start = end = place
    while start > 0 and keys[start - 1] == keys[start - 1 + length] and end - start < length:
        start -= 1
    while end + length < len(keys) and keys[end] == keys[end + length] and end - start < length:
        end += 1
    return end - start >= length


_LIBRARY: Any = vars(torch.library)["Library"]("keras3conv", "FRAGMENT")
_LIBRARY.define("first_value(Tensor self, str following) -> Tensor")
_LIBRARY.impl("first_value", lambda given, following: given.clone(), "CompositeExplicitAutograd")
