"""Propose mistakes in embedding tables as causes: shifted indices, a padding row, reversed rows, a missing table."""

from collections.abc import Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by


def _row_offset(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("embedding"):
        for offset in (1, -1, 2, -2):
            yield Hypothesis(
                cause=f"Keras' indices into the embedding table are {abs(offset)} "
                f"{'higher' if offset > 0 else 'lower'} than torch's",
                fix=f"indices = indices {'+' if offset > 0 else '-'} {abs(offset)}  # {case.before(operation)}",
                keras=f"indices = indices {'-' if offset > 0 else '+'} {abs(offset)}  # before {case.point.keras_path}",
                changes={operation.key: replaced_by(_shifted, offset)},
            )


def _shifted(call: TorchCall, offset: int) -> Any:
    rows = call.get("weight").shape[0]
    return call.run(input=(call.get("input") + offset) % rows)


def _missing_table(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("embedding"):
        yield Hypothesis(
            cause=f"Keras does not add the embedding table {operation.owner}",
            keras=f"x = x + keras.layers.Embedding{tuple(operation.get('weight'))}(indices)  # {case.where_keras}",
            changes={operation.key: lambda call: torch.zeros_like(call.run())},
        )


def _padding_row(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("embedding"):
        row = operation.get("padding_idx")
        for zero in dict.fromkeys((0, *(() if row is None else (row,)))):
            yield Hypothesis(
                cause=f"row {zero} of the embedding table is zero in Keras, as a padding row",
                fix=f"x = x * (indices != {zero}).unsqueeze(-1)  # after {case.place(operation)}",
                keras=f"# {case.point.keras_path or case.where_keras}: keep the values of row {zero}, as torch does",
                changes={operation.key: replaced_by(_without_row, zero)},
            )


def _without_row(call: TorchCall, row: int) -> Any:
    return call.run() * (call.get("input") != row).unsqueeze(-1)


def _reversed_table(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("embedding"):
        yield Hypothesis(
            cause="the rows of the embedding table are reversed in Keras",
            fix=f"weight.flip(0)  # {case.place(operation)}",
            keras=case.pair_again(),
            changes={operation.key: lambda call: call.run(weight=torch.flip(call.get("weight"), [0]))},
        )


SUSPECTS = (
    Suspect("shifted indices", _row_offset),
    Suspect("embedding table missing in Keras", _missing_table),
    Suspect("padding row", _padding_row),
    Suspect("reversed rows", _reversed_table),
)
