"""Print and save the result of a command, and determine its exit status."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras3conv.cli.app import FAILED, PASSED, UNCONFIRMED, complain, is_verbose, note
from keras3conv.cli.imported import import_options
from keras3conv.errors import AlignmentError, message_of

if TYPE_CHECKING:
    from keras3conv.alignment.plan import Alignment
    from keras3conv.model.views import Side
    from keras3conv.report.report import Report


def hand_out(
    judged: "Report", saved_as: Sequence[Path], *, as_json: bool, names: Mapping[str, str] | None = None
) -> int:
    """Save a report to every given path, print it, and return the exit status of the command.

    Args:
        judged: The report.
        saved_as: The paths to save the report to.
        as_json: Whether to print the report as JSON instead of text.
        names: The replacement of each placeholder in the commands that the report suggests: {"TORCH": "net.pt"}.
    """
    from keras3conv.report.values import FILE_CANNOT_RUN

    for path in saved_as:
        judged.save(path)
        note(f"saved {path}")
    print(judged.to_json()) if as_json else print_report(judged, next(iter(saved_as), None), names)
    if any(section.status == "skipped" and FILE_CANNOT_RUN in section.reason for section in judged.sections):
        note(f"to run both models:  {_with_factories(names or {})}")
    return status_of(judged)


def hand_out_conversion(judged: "Report | None", saved_as: Path, *, as_json: bool, notes: Sequence[str]) -> int:
    """Print the report of a conversion, and return the exit status of the command.

    Args:
        judged: The report; None if the conversion was not validated.
        saved_as: The file of the report.
        as_json: Whether to print the report as JSON instead of text.
        notes: Notes on the conversion, printed if there is no report; else the report contains them.
    """
    from keras3conv.cli.lines import as_options

    if judged is None:
        note("not validated: nothing is proven")
        for line in notes:
            note(as_options(line))
        return PASSED
    print(judged.to_json()) if as_json else print_report(judged, saved_as)
    return status_of(judged)


def _with_factories(names: Mapping[str, str]) -> str:
    """Return a `validate` command with a placeholder for each model of which only a file of weights was given.

    Args:
        names: The arguments of the command: {"TORCH": "net.pt", "KERAS": "net.keras"}.
    """
    from keras3conv.cli.next_command import FACTORIES, is_without_architecture
    from keras3conv.workflows.factories import factory_of

    models, weights = [], ""
    for side, factory in FACTORIES.items():
        given = names.get(side.upper(), side.upper())
        is_file = not factory_of(given) and (side == "torch" or is_without_architecture(given))
        models.append(factory if is_file else given)
        weights += f" --{side}-weights {given}" if is_file else ""
    return f"keras3conv validate {' '.join(models)}{weights}{import_options()}"


def print_report(report: "Report", saved_as: Path | None = None, names: Mapping[str, str] | None = None) -> None:
    """Print a report: in color on a terminal, and in a pipe as plain text of 80 columns, or of `COLUMNS`.

    Without `--verbose`, the details of passed sections are left out.

    Args:
        report: The report.
        saved_as: The file with all details, whose name is printed at the end; None if there is none.
        names: The replacement of each placeholder in the commands that the report suggests: {"TORCH": "net.pt"}.
    """
    from rich.console import Console

    from keras3conv.cli.lines import with_options
    from keras3conv.report.text import ROWS, WIDTH, render, write
    from keras3conv.width import columns

    report = with_options(report, names or {})
    console, brief = Console(), not is_verbose()
    if console.is_terminal or console.options.ascii_only:
        render(report, console, brief=brief)
    else:
        print(write(report, brief=brief, width=min(WIDTH, columns())))
    if brief and any(section.tables or section.plots for section in report.sections):
        all_rows = f"; all rows are in {saved_as}" if saved_as else ""
        note(f"--verbose shows every table, of a long one the first {ROWS} rows{all_rows}")


def is_complete(plan: "Alignment", sides: "Mapping[Side, str]", options: str, saved: Path | None) -> bool:
    """Print the problems of a plan for a transfer on stderr; return True if there are none.

    Args:
        plan: The plan (the pairs of tensors).
        sides: For each side, the argument that the transfer was given.
        options: The further options of the transfer that `align` needs, too, such as " --entry ema".
        saved: The file of the plan, if the transfer was given one.
    """
    from keras3conv.cli.lines import as_options
    from keras3conv.cli.suggested import align_first, hints_of

    try:
        plan.check()
    except AlignmentError as error:
        hints = hints_of(plan) if saved else ()
        complain(f"AlignmentError: {align_first(as_options(message_of(error)), sides, options, saved, hints)}")
        return False
    return True


def status_of(report: "Report") -> int:
    """Return the exit status of the process for a report: 0 if the report is `ok`."""
    return UNCONFIRMED if report.status == "unconfirmed" else PASSED if report.ok else FAILED
