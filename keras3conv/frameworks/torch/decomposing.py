"""Replace operators in an exported module by the more basic operators that torch computes them with."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch.export import ExportedProgram

from keras3conv.errors import RAISED_BY_MODELS

_COMPUTED_OTHERWISE = ("dropout", "batch_norm")
"""Operators that compute something else in training mode than in evaluation mode, in which modules are exported."""


_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
"""Operators that torch could only compute by repeating the steps of a sequence of fixed length."""


def decomposed(program: ExportedProgram, names: Collection[str]) -> ExportedProgram | None:
    """Return an exported module with some operators replaced by more basic ones; None if torch can replace none.

    Args:
        program: The exported module.
        names: The names of the operators, such as "aten.addcmul.default".
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
    try:
        return rewritten(program, table)
    except RAISED_BY_MODELS:  # torch cannot rewrite every program; the operators are then reported
        return None


def rewritten(program: ExportedProgram, table: Mapping[Any, Callable[..., Any]]) -> ExportedProgram:
    """Return an exported module without operators that write into memory, and with some operators replaced.

    Torch alone would leave out the dropouts, which do nothing in evaluation mode. Here they are kept.

    Args:
        program: The exported module; it is changed.
        table: For each operator to replace, the function that computes it by other operators.
    """
    _rename(program, _DROPOUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of its own code
        made: ExportedProgram = program.run_decompositions({**table})
    _rename(made, {own: original for original, own in _DROPOUTS.items()})
    return made


def _rename(program: ExportedProgram, names: Mapping[Any, Any]) -> None:
    """Replace operators in the graph of an exported module, in place, by operators with the same arguments."""
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target in names:
            node.target = names[node.target]
    program.graph_module.recompile()


def _kept(name: str) -> Any:
    """Register and return an operator to put in a graph in place of a dropout, which torch would remove."""
    _LIBRARY.define(f"{name}(Tensor input, float p, bool train) -> Tensor")
    _LIBRARY.impl(name, lambda given, p, train: given.clone(), "CompositeExplicitAutograd")
    return getattr(torch.ops.keras3conv, name).default


_LIBRARY: Any = vars(torch.library)["Library"]("keras3conv", "DEF")
_DROPOUTS = {
    getattr(torch.ops.aten, name).default: _kept(name) for name in ("dropout", "feature_dropout", "alpha_dropout")
}


def _without_writing(target: Any) -> Iterator[Any]:
    """Yield the operator that computes the same as another without writing into its arguments: "add" for "add_".

    Nothing is yielded if torch has none.

    Args:
        target: The operator; it is yielded itself if it writes into no argument.
    """
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


@lru_cache
def _default_replacements() -> Mapping[Any, Callable[..., Any]]:
    """Return torch's table of replacements, which takes torch longer to make than to export a small module."""
    made: Mapping[Any, Callable[..., Any]] = torch.export.default_decompositions()
    return made


def _replacement(operator: Any) -> Callable[..., Any] | None:
    from torch._decomp import decomposition_table

    is_recurrent = str(operator).split(".")[1] in _RECURRENT
    if is_recurrent or any(word in str(operator) for word in _COMPUTED_OTHERWISE):
        return None
    known = _default_replacements()
    found: Callable[..., Any] | None = known[operator] if operator in known else decomposition_table.get(operator)
    return found
