"""Replace operators in a captured module by the operators that torch computes them with."""

import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch.export import ExportedProgram

_COMPUTED_OTHERWISE = ("dropout", "batch_norm")
"""Operators that compute something else in training than in the evaluation mode in which a module is captured."""


def decomposed(program: ExportedProgram, names: Collection[str]) -> ExportedProgram | None:
    """Return a program without some operators; None if torch can replace none of them.

    Args:
        program: The captured module.
        names: The names of the operators: "aten.addcmul.default".
    """
    table = {
        operator: replacement
        for node in program.graph.nodes
        if node.op == "call_function"
        for operator in _without_writing(node.target)
        if str(operator) in names and (replacement := _replacement(operator)) is not None
    }
    if not table:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of its own code
        made: ExportedProgram = program.run_decompositions(table)
    return made


def _without_writing(target: Any) -> Iterator[Any]:
    """Yield an operator, or the one that computes the same as an operator which writes into its argument."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return
    name = schema.name.partition("::")[2]
    if schema.is_mutable and name.endswith("_"):
        packet = getattr(torch.ops.aten, name[:-1], None)
        if packet is not None and target._overloadname in packet.overloads():
            yield getattr(packet, target._overloadname)
        return
    yield target


def _replacement(operator: Any) -> Callable[..., Any] | None:
    from torch._decomp import decomposition_table

    if any(word in str(operator) for word in _COMPUTED_OTHERWISE):
        return None
    known = torch.export.default_decompositions()
    found: Callable[..., Any] | None = known[operator] if operator in known else decomposition_table.get(operator)
    return found


__all__ = ["decomposed"]
