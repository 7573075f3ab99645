"""Convert the parts of a graph with a graph of their own: `torch.cond`, and blocks that switch the gradients.

The branches of `torch.cond` have no side effects, so both are computed, and the result is chosen. A functional Keras
model has no other form of a condition that can be saved without code in the file.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

_CONDITION = "cond"
_GRADIENTS = "wrap_with_set_grad_enabled"
"""The operator of a block in `torch.enable_grad()` or `torch.no_grad()`, if the gradients were off or on before it."""


@contextmanager
def both_branches_computed() -> Iterator[None]:
    """Make `torch.cond` compute both branches inside the `with` block, and choose between their results.

    An exported graph then contains the operators of both branches, with the modules that call them.
    """
    original = vars(torch)[_CONDITION]

    def chosen(
        pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Sequence[Any] = ()
    ) -> Any:
        if not isinstance(pred, torch.Tensor):
            return original(pred, true_fn, false_fn, operands)
        results = true_fn(*operands), false_fn(*operands)
        return pytree.tree_map(lambda first, second: torch.where(pred, first, second), *results)

    try:
        vars(torch)[_CONDITION] = chosen
        yield
    finally:
        vars(torch)[_CONDITION] = original


def with_both_branches(program: ExportedProgram) -> ExportedProgram:
    """Return a `torch.export` program in which both branches of each `torch.cond` are computed; the program is changed.

    The operators in blocks that switch the gradients on or off become part of the graph, too.

    Raises:
        ValueError: A branch uses a tensor that is not among its operands.
    """
    _inline(program.graph_module)
    return program


def _inline(module: GraphModule) -> None:
    conditions = [node for node in module.graph.nodes if _is_call(node, _CONDITION)]
    blocks = [node for node in module.graph.nodes if _is_call(node, _GRADIENTS)]
    for node in (*conditions, *blocks):
        _inline_one(module, node)
    if conditions or blocks:
        module.recompile()


def _is_call(node: Node, operator: str) -> bool:
    """Return whether a node calls the operator of `torch.ops.higher_order` with a name."""
    return node.op == "call_function" and node.target is getattr(torch.ops.higher_order, operator, None)


def _inline_one(module: GraphModule, node: Node) -> None:
    """Replace one node by the nodes of its own graphs, in place; for `torch.cond`, with a `where` for each result.

    Args:
        module: The graph module.
        node: The node of `torch.cond`, or of a block that switches the gradients, in its graph.
    """
    with module.graph.inserting_before(node):
        if _is_call(node, _CONDITION):
            condition, true_branch, false_branch, operands = node.args
            branches = [_copied(module, branch, operands) for branch in (true_branch, false_branch)]
            chosen = [_chosen(module.graph, node, condition, pair) for pair in zip(*branches, strict=True)]
        else:
            is_enabled, block, *operands = node.args
            results = _copied(module, block, operands)
            chosen = results if is_enabled else [_detached(module.graph, one) for one in results]
    for user in list(node.users):
        user.replace_all_uses_with(chosen[user.args[1]])  # type: ignore[index]  # an index of the tuple of results
        module.graph.erase_node(user)
    module.graph.erase_node(node)


def _copied(module: GraphModule, branch: Any, operands: Any) -> list[Node]:
    """Copy the nodes of a branch of `torch.cond` into the graph of the module, and return the nodes of its results.

    Args:
        module: The graph module; its graph is changed.
        branch: The node that refers to the graph module of the branch.
        operands: The nodes that the branch gets as its inputs.
    """
    inner = getattr(module, branch.target)
    _inline(inner)
    if any(isinstance(getattr(inner, str(one.target), None), torch.Tensor) for one in inner.graph.nodes):
        raise ValueError("a branch of torch.cond uses a tensor that is not among its operands: pass it as an operand")
    places = [one for one in inner.graph.nodes if one.op == "placeholder"]
    copied = module.graph.graph_copy(inner.graph, dict(zip(places, operands, strict=True)))
    assert isinstance(copied, tuple | list)
    return list(copied)


def _chosen(graph: Graph, node: Node, condition: Any, pair: tuple[Node, Node]) -> Node:
    made = graph.call_function(torch.ops.aten.where.self, (condition, *pair))
    made.meta = {**node.meta, "val": pair[0].meta["val"]}
    return made


def _detached(graph: Graph, node: Node) -> Node:
    """Return a node for a result of a block in `torch.no_grad()`: no gradient flows into the block."""
    made = graph.call_function(torch.ops.aten.detach.default, (node,))
    made.meta = dict(node.meta)
    return made
