"""Replace `torch.cond` in a captured module: compute both branches and choose between their results.

The branches of `torch.cond` have no side effects, so that both may be computed. A functional Keras model has no other
form of a condition that can be saved without code in the file.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

_CONDITION = "cond"


def with_both_branches(program: ExportedProgram) -> ExportedProgram:
    """Return the program without `torch.cond`; the program is changed.

    Raises:
        ValueError: A branch uses a tensor that is neither given to it nor a parameter or buffer of the module.
    """
    _inline(program.graph_module, _stored(program))
    return program


def _stored(program: ExportedProgram) -> dict[int, Node]:
    """Return the node of each parameter, buffer and constant by the identity of its memory."""
    signature = program.graph_signature
    paths = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.state_dict, **program.constants}
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return {tensors[path].data_ptr(): nodes[name] for name, path in paths.items() if path in tensors}


def _inline(module: GraphModule, stored: Mapping[int, Node]) -> None:
    conditions = [node for node in module.graph.nodes if _is_condition(node)]
    for node in conditions:
        _inline_one(module, node, stored)
    if conditions:
        module.recompile()


def _is_condition(node: Node) -> bool:
    return node.op == "call_function" and node.target is getattr(torch.ops.higher_order, _CONDITION)


def _inline_one(module: GraphModule, node: Node, stored: Mapping[int, Node]) -> None:
    """Replace one condition by the nodes of its branches and a `where` for each result."""
    condition, true_branch, false_branch, operands = node.args
    with module.graph.inserting_before(node):
        results = [_copied(module, branch, operands, stored) for branch in (true_branch, false_branch)]
        chosen = [_chosen(module.graph, node, condition, pair) for pair in zip(*results, strict=True)]
    for user in list(node.users):
        user.replace_all_uses_with(chosen[user.args[1]])  # type: ignore[index]  # an index of the tuple of results
        module.graph.erase_node(user)
    module.graph.erase_node(node)


def _copied(module: GraphModule, branch: Any, operands: Any, stored: Mapping[int, Node]) -> list[Node]:
    """Copy the nodes of a branch into the graph of the module and return the results."""
    inner = getattr(module, branch.target)
    _inline(inner, stored)
    places = [one for one in inner.graph.nodes if one.op == "placeholder"]
    known = dict(zip(places, operands, strict=True))
    for one in inner.graph.nodes:
        tensor = getattr(inner, one.target) if one.op == "get_attr" else None
        if isinstance(tensor, torch.Tensor):
            if tensor.data_ptr() not in stored:
                raise ValueError(
                    "a branch of torch.cond uses a tensor that the module does not own: give it as an operand"
                )
            known[one] = stored[tensor.data_ptr()]
    copied = module.graph.graph_copy(inner.graph, known)
    assert isinstance(copied, tuple | list)
    return list(copied)


def _chosen(graph: Graph, node: Node, condition: Any, pair: tuple[Node, Node]) -> Node:
    made = graph.call_function(torch.ops.aten.where.self, (condition, *pair))
    made.meta = {**node.meta, "val": pair[0].meta["val"]}
    return made


__all__ = ["with_both_branches"]
