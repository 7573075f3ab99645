"""Tables: rows that are counted from another start, a row that is no row."""

from collections.abc import Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing


def _row_offset(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("embedding"):
        for offset in (1, -1, 2, -2):
            yield Suspicion(
                cause=f"Keras looks {abs(offset)} {'row' if abs(offset) == 1 else 'rows'} further "
                f"{'down' if offset > 0 else 'up'} in the table: its indices have another start",
                fix=f"indices = indices {'+' if offset > 0 else '-'} {abs(offset)}  # before {operation.owner}",
                changes={operation.key: doing(_shifted, offset)},
            )


def _shifted(call: TorchCall, offset: int) -> Any:
    rows = call.get("weight").shape[0]
    return call.run(input=(call.get("input") + offset) % rows)


def _left_out(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("embedding"):
        yield Suspicion(
            cause=f"Keras adds nothing of the table {operation.owner}",
            fix=f'plan = plan.ignore("{operation.owner}", "the Keras model has no such table")',
            changes={operation.key: lambda call: torch.zeros_like(call.run())},
        )


def _padding_row(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("embedding"):
        row = operation.get("padding_idx")
        for zero in dict.fromkeys((0, *(() if row is None else (row,)))):
            yield Suspicion(
                cause=f"row {zero} of the table is 0 in Keras, as that of padding",
                fix=f"nn.Embedding(..., padding_idx={zero})  # {operation.owner}",
                changes={operation.key: doing(_without_row, zero)},
            )


def _without_row(call: TorchCall, row: int) -> Any:
    return call.run() * (call.get("input") != row).unsqueeze(-1)


def _reversed_table(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("embedding"):
        yield Suspicion(
            cause="the rows of the table stand in reverse in Keras",
            fix=f"weight.flip(0)  # {operation.owner}",
            changes={operation.key: lambda call: call.run(weight=torch.flip(call.get("weight"), [0]))},
        )


SUSPECTS = (
    Suspect("row offset", _row_offset),
    Suspect("table left out", _left_out),
    Suspect("row of padding", _padding_row),
    Suspect("rows in reverse", _reversed_table),
)
