"""Print and save the result of a command, and determine its exit status."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras3conv.cli.app import FAILED, PASSED, UNCONFIRMED, note

if TYPE_CHECKING:
    from keras3conv.report.report import Report


def hand_out(judged: "Report", saved_as: Path | None, *, as_json: bool) -> int:
    """Save and print a report; return its exit status."""
    from keras3conv.cli.output import print_report

    if saved_as:
        judged.save(saved_as)
        note(f"saved {saved_as}")
    print(judged.to_json()) if as_json else print_report(judged, saved_as)
    return status_of(judged)


def status_of(report: "Report") -> int:
    """Return the exit status of a report."""
    return UNCONFIRMED if report.status == "unconfirmed" else PASSED if report.ok else FAILED
