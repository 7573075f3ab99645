"""Name the dynamic sizes of a module that was captured with `torch.export`."""

from collections.abc import Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram

from keras3conv.model.graph import Size

BATCH = "batch"
"""The name of the dynamic batch size."""

_BATCH = sympy.Symbol(BATCH, integer=True, positive=True)


def free_sizes(exported: ExportedProgram) -> dict[Any, str]:
    """Return the names of the dynamic sizes other than the batch, by symbol: "x_2" for axis 2 of the input x."""
    inputs = {*exported.graph_signature.user_inputs}
    found: dict[Any, str] = {}
    batch: set[Any] = set()
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or node.name not in inputs or not isinstance(value, torch.Tensor):
            continue
        sizes: list[Any] = list(value.shape)
        for axis, size in enumerate(sizes):
            if isinstance(size, torch.SymInt):
                for symbol in size.node.expr.free_symbols:
                    batch |= {symbol} if axis == 0 else set()
                    found.setdefault(symbol, f"{node.name}_{axis}")
    return {symbol: name for symbol, name in found.items() if symbol not in batch}


def size_of(value: Any, free: Mapping[Any, str]) -> Any:
    """Return a symbolic size as a `Size`, a fixed size as a number, and any other value unchanged.

    Args:
        value: The size.
        free: The names of the dynamic sizes other than the batch.
    """
    if isinstance(value, torch.SymFloat | torch.SymBool):
        return Size(symbols=("unknown", str(value)))
    if not isinstance(value, torch.SymInt):
        return value
    symbols = value.node.expr.free_symbols
    # Torch gives each input a batch size of its own.
    expression = sympy.expand(value.node.expr.subs(dict.fromkeys(symbols - free.keys(), _BATCH)))
    if expression.is_Integer:
        return int(expression)
    offset, product = expression.as_independent(*expression.free_symbols, as_Add=True)
    factor, rest = product.as_coeff_Mul()
    parts = sympy.Mul.make_args(rest)
    if not all(part.is_Symbol for part in parts) or not factor.is_Integer or not offset.is_Integer:
        return Size(symbols=("unknown", str(expression)))
    names = sorted(free.get(part, BATCH) for part in parts)
    return Size(symbols=tuple(names), factor=int(factor), offset=int(offset))
