"""Constant folding: compute all values of an exported module that depend on no input and no parameter, in float64."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch.opaque import KIND
from keras3conv.frameworks.torch.tensors import double_precision, to_numpy
from keras3conv.model.graph import FIRST_VALUE
from keras3conv.transforms import Array

_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)
_BATCHES = (2, 3)
"""The two batch sizes for which a constant is computed, to see if it depends on the batch size."""

_RANDOM = ("rand", "bernoulli", "normal", "dropout", "multinomial", "exponential")

Pair = tuple[torch.Tensor, torch.Tensor]
"""The value of a graph node for a batch of two samples, and its value for a batch of three."""


def is_number(value: object) -> bool:
    """Return whether the value of a graph node is a number, possibly a symbolic one, and not a tensor."""
    return isinstance(value, _NUMBERS)


class Constants:
    """The values of an exported module that depend on no input and no parameter.

    Attributes:
        values: The values of each node for batches of two and three samples; a list for a node with several outputs.
        numbers: The numbers that the module reads from constant tensors, with `item` or `tolist`, by node.
    """

    def __init__(self, exported: ExportedProgram, buffers: frozenset[str], free: frozenset[Any]) -> None:
        """Compute the values of an exported module that depend on no input and no parameter.

        Args:
            exported: The exported module.
            buffers: The names of the placeholders of constant buffers.
            free: The symbols of dynamic sizes other than the batch size; a value that depends on one is not a constant.
        """
        self.free = free
        signature = exported.graph_signature
        self.values: dict[torch.fx.Node, Any] = {}
        self.numbers: dict[torch.fx.Node, int | float | bool] = {}
        for node in exported.graph.nodes:
            if node.op == "placeholder" and node.name in buffers:
                self._note(node, exported.state_dict, exported.constants, signature.inputs_to_buffers[node.name])
            elif node.op == "placeholder" and node.name in signature.inputs_to_lifted_tensor_constants:
                path = signature.inputs_to_lifted_tensor_constants[node.name]
                self._note(node, exported.state_dict, exported.constants, path)
            elif node.op == "call_function" and self._is_constant(node):
                self._compute(node)
            elif node.target is torch.ops.aten.item.default and node.args[0] in self.values:
                self._read(node)
        for node in list(self.values):
            if isinstance(self.values[node], tuple) and _examples(node, self.values[node]) is None:
                self._drop(node)
        for node, value in list(self.values.items()):
            if isinstance(value, list) and any(_picks(user) and user not in self.values for user in node.users):
                self._drop(node)

    def _note(self, node: torch.fx.Node, state: dict[str, Any], constants: dict[str, Any], path: str) -> None:
        tensor = state[path] if path in state else constants[path]
        wide = tensor.detach().to(double_precision(tensor.dtype))
        self.values[node] = (wide, wide)

    def _read(self, node: torch.fx.Node) -> None:
        """Note the number that `item` reads from a constant tensor, unless it depends on the batch size."""
        first, second = (one.item() for one in self.values[node.args[0]])  # type: ignore[index]
        if first == second:
            self.numbers[node] = first

    def _is_constant(self, node: torch.fx.Node) -> bool:
        value = node.meta.get("val")
        tensors = [one for one in pytree.tree_leaves(value) if isinstance(one, torch.Tensor)]
        name = str(node.target)
        # A module that is one operator computes with its parameters.
        if is_number(value) or not tensors or any(word in name for word in (*_RANDOM, KIND, FIRST_VALUE)):
            return False
        numbers: list[Any] = [size for tensor in tensors for size in tensor.shape]
        numbers += [one.meta.get("val") for one in node.all_input_nodes if is_number(one.meta.get("val"))]
        if any(isinstance(one, torch.SymInt) and one.node.expr.free_symbols & self.free for one in numbers):
            return False
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and node.args[0] not in self.values:
            return False
        given = [one for one in node.all_input_nodes if not is_number(one.meta.get("val"))]
        return name.startswith(("aten.new_", "aten.zeros_like", "aten.ones_like", "aten.full_like")) or all(
            one in self.values for one in given
        )

    def _compute(self, node: torch.fx.Node) -> None:
        try:
            pair = tuple(self._evaluated(node, place) for place in range(2))
        except RAISED_BY_MODELS:  # the operator cannot run on these values: leave it to the lowering
            return
        if all(isinstance(one, torch.Tensor) for one in pair):
            self.values[node] = pair
        else:
            self.values[node] = [tuple(parts) for parts in zip(*pair, strict=True)]
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            self.values[node.args[0]] = self.values[node]  # type: ignore[index]

    def _evaluated(self, node: torch.fx.Node, place: int) -> Any:
        batch = _BATCHES[place]

        def real(leaf: Any) -> Any:
            if isinstance(leaf, torch.fx.Node):
                value = leaf.meta.get("val")
                if leaf in self.numbers:
                    return self.numbers[leaf]
                if is_number(value):
                    return _number(value, batch)
                known = self.values.get(leaf)
                if known is None:  # only the shape of this tensor matters
                    sizes, dtype = value.shape, value.dtype  # type: ignore[union-attr]
                    return torch.zeros([_number(size, batch) for size in sizes], dtype=double_precision(dtype))
                return [pair[place].clone() for pair in known] if isinstance(known, list) else known[place].clone()
            return double_precision(leaf) if isinstance(leaf, torch.dtype) else leaf

        is_leaf = lambda leaf: isinstance(leaf, torch.fx.Node)  # noqa: E731 - the predicate of two calls
        args = pytree.tree_map(real, node.args, is_leaf=is_leaf)
        kwargs = pytree.tree_map(real, dict(node.kwargs), is_leaf=is_leaf)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return node.target(*args, **kwargs)  # type: ignore[operator]
        finally:
            torch.set_default_dtype(before)

    def _drop(self, node: torch.fx.Node) -> None:
        """Remove the value of a node from the constants, because it differs between the samples of a batch."""
        del self.values[node]

    def arrays(self) -> Iterator[tuple[torch.fx.Node, Array]]:
        """Yield each constant with its node; the batch axis has size one if one value is repeated for every sample."""
        for node, value in self.values.items():
            if isinstance(value, tuple):
                made = _examples(node, value)
                assert made is not None
                yield node, to_numpy(made)


def _examples(node: torch.fx.Node, pair: Pair) -> torch.Tensor | None:
    """Return a value that can be broadcast to the value of a node for any batch size; None if the samples differ.

    Args:
        node: The node.
        pair: The values of the node for batches of two and of three samples. If they have a batch axis, the result has
            size one along it.
    """
    first, second = pair
    if first.shape == second.shape:
        return first if torch.equal(first, second) else None
    axes = [axis for axis, sizes in enumerate(zip(first.shape, second.shape, strict=True)) if sizes[0] != sizes[1]]
    if len(axes) != 1 or (first.shape[axes[0]], second.shape[axes[0]]) != _BATCHES:
        return None
    one = first.narrow(axes[0], 0, 1)
    return one if torch.equal(one.expand_as(second), second) else None


def _picks(node: torch.fx.Node) -> bool:
    """Return whether a node selects one of several results of another node (getitem), and has users itself."""
    return node.target is operator.getitem and bool(node.users)


def _number(value: Any, batch: int) -> Any:
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        expression = value.node.expr
        found = expression.subs(dict.fromkeys(expression.free_symbols, batch))
        return bool(found) if isinstance(value, torch.SymBool) else int(found)
    return value
