"""Settle the verdicts on hyper-parameters that another proof, `float64`, decides."""

from dataclasses import replace
from typing import Final

from keras3conv.report.values import Cell, Section, Status

LEFT: Final = "left to float64"
"""The verdict on a hyper-parameter that differs, until the proof `float64` has run."""


def settled(section: Section, status: Status | None) -> Section:
    """Return the section of this proof after the verdicts that depend on the proof `float64` are settled.

    Another layer may compensate a field (hyper-parameter) that differs. The verdict on it is then "left to
    float64". It becomes "proven by float64" if the proof `float64` passed, else "not proven".

    Args:
        section: The section of this proof.
        status: The status of the proof `float64`; None if the user did not ask for this proof.
    """
    said = {"failed": "failed", "unconfirmed": "is unconfirmed"}.get(status or "", "did not run")
    text = "proven by float64" if status == "passed" else f"not proven: float64 {said}"
    tables = tuple(
        replace(table, rows=tuple(tuple(_replaced(cell, text) for cell in row) for row in table.rows))
        for table in section.tables
    )
    return replace(section, summary=section.summary.replace(LEFT, text), tables=tables)


def _replaced(cell: Cell, text: str) -> Cell:
    return cell.replace(LEFT, text) if isinstance(cell, str) else cell
