"""Define the overview of a sweep: a row for every task, the totals, and the changes since an earlier sweep."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from keras3conv.errors import InputError
from keras3conv.messages import count
from keras3conv.report.headline import TELLING
from keras3conv.report.values import Status
from keras3conv.writing.digests import WrittenFile

RowStatus = Literal["passed", "failed", "unusable", "crashed", "timed out", "out of memory", "lost", "not run"]
"""The result of a task.

"failed" is a proof or an alignment that failed, "unusable" a model or a file that cannot be used, "crashed" a process
that ended without a result, "lost" a machine of a cluster that went away.
"""

ROW_STATUSES: tuple[RowStatus, ...] = get_args(RowStatus)
"""Every status, in the order in which the totals have them."""

TONES: Mapping[str, Status] = {"passed": "passed", "not run": "skipped"}
"""The section status whose colour and symbol a row of a sweep gets, by the row's status.

A row with any other status looks like "failed".
"""

FORMAT = 1
"""The version of the format of a row in `results.jsonl`."""

Change = Literal["worse", "better", "new", "gone"]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The result of one step of a task, or of one proof: its name ("align"), status, and outcome in one line."""

    name: str
    status: str
    outcome: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of one task.

    Attributes:
        name: The name of the task.
        status: The result of the task.
        outcome: The result in one line.
        message: The full message of an error, or the last lines that the process wrote.
        sides: The models of the task.
        backend: The backend of Keras; empty for its default.
        dtype: The default dtype of the models.
        do: The steps that the task asked for, such as "align" and "validate".
        steps: The results of the steps.
        proofs: The results of the proofs.
        seconds: The wall time of the process.
        peak_memory: The largest memory of the process and its children in bytes; 0 if it is unknown.
        time_limit: The time limit in seconds.
        memory_limit: The memory limit in bytes.
        files: The files that were written, with paths relative to the folder of the results.
        report: The path of the report of `validate`, relative to the folder of the results; empty if there is none.
        log: The path of the output of the process, relative to the folder of the results.
        fingerprint: The digest of everything that decides the result.
        digests: The files that the task read, each with size, time of change and sha256.
        sources: The files of code outside of installed packages that the task imported, each with sha256.
        format: The version of the format.
    """

    name: str
    status: RowStatus
    outcome: str = ""
    message: str = ""
    sides: str = ""
    backend: str = ""
    dtype: str = ""
    do: tuple[str, ...] = ()
    steps: tuple[StepResult, ...] = ()
    proofs: tuple[StepResult, ...] = ()
    seconds: float = 0.0
    peak_memory: int = 0
    time_limit: float = 0.0
    memory_limit: int = 0
    files: tuple[WrittenFile, ...] = ()
    report: str = ""
    log: str = ""
    fingerprint: str = ""
    digests: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def tone(self) -> Status:
        """The status of a report section ("passed", "failed", ...) whose colour and symbol the row of the task gets."""
        return TONES.get(self.status, "failed")

    @property
    def first_failure(self) -> str:
        """The name of the failed proof or step to show first; empty for a task that passed or was not run.

        It is "float64" if this proof failed, because it names the first layer that differs and the cause; else the
        first proof or step that failed. If the process crashed or was stopped, it is the status, such as "timed out".
        """
        if self.tone != "failed":
            return ""
        named = [part.name for part in (*self.proofs, *self.steps) if part.status == "failed"]
        named.sort(key=lambda name: name != TELLING)
        return named[0] if named and self.status in ("failed", "unusable") else self.status

    @property
    def proven(self) -> frozenset[str]:
        """The names of the proofs and steps of the task that passed."""
        return frozenset(part.name for part in (*self.proofs, *self.steps) if part.status == "passed")

    def to_json(self) -> str:
        """Return the row (the result of a task) as one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(line: str) -> "Row":
        """Return the row in a line that `to_json` wrote; raise `InputError` for anything else."""
        try:
            data: dict[str, Any] = json.loads(line)
            for name, kind in (("steps", StepResult), ("proofs", StepResult), ("files", WrittenFile)):
                data[name] = tuple(kind(**part) for part in data[name])
            data["do"] = tuple(data["do"])
            data["digests"] = {path: tuple(facts) for path, facts in data["digests"].items()}
            row = Row(**data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"the line is not a result of a sweep: {error}") from error
        if row.format != FORMAT or row.status not in ROW_STATUSES:
            raise InputError(
                f"the line is a result in format {row.format!r} with the status {row.status!r}; this version reads "
                f"format {FORMAT} and the statuses {', '.join(ROW_STATUSES)}"
            )
        return row


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A task whose result differs from that in an earlier sweep.

    `change` is "worse", "better", "new" or "gone"; `before` and `now` are the results of the two sweeps in words.
    """

    name: str
    change: Change
    before: str
    now: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The results of a sweep.

    Attributes:
        name: The name of the sweep.
        rows: A row for every task, in the order of the tasks.
        earlier: The rows of an earlier sweep; None if there is nothing to compare with.
        environment: The versions of packages and the platform.
    """

    name: str
    rows: tuple[Row, ...]
    earlier: tuple[Row, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if there are tasks, and all of them passed."""
        return bool(self.rows) and all(row.status == "passed" for row in self.rows)

    @property
    def status(self) -> Status:
        """The status of the sweep in the terms of a report: "skipped" if tasks were not run, and none failed."""
        if self.ok:
            return "passed"
        return "failed" if any(row.tone == "failed" for row in self.rows) else "skipped"

    @property
    def verdict(self) -> str:
        """The status of the sweep as text: "Passed", "Failed" or "Not finished"."""
        return {"passed": "Passed", "failed": "Failed"}.get(self.status, "Not finished")

    @property
    def totals(self) -> Mapping[str, int]:
        """The number of tasks for each status that occurs: {"passed": 10, "failed": 2}."""
        amounts = Counter(row.status for row in self.rows)
        return {status: amounts[status] for status in ROW_STATUSES if amounts[status]}

    @property
    def tally(self) -> str:
        """The totals in one line, such as "12 tasks: 10 passed, 2 failed"."""
        parts = ", ".join(f"{number} {status}" for status, number in self.totals.items())
        return f"{count(len(self.rows), 'task')}: {parts}" if parts else "no tasks"

    @property
    def first_failures(self) -> Mapping[str, int]:
        """The number of tasks by the step or proof in which they failed first, the largest number first."""
        return dict(Counter(row.first_failure for row in self.rows if row.first_failure).most_common())

    @property
    def not_passed(self) -> tuple[Row, ...]:
        """The rows of the tasks that did not pass."""
        return tuple(row for row in self.rows if row.status != "passed")

    @property
    def failed_first(self) -> tuple[Row, ...]:
        """All rows: tasks that failed first, tasks that were not run last; otherwise in the order of the tasks."""
        return tuple(sorted(self.rows, key=lambda row: ("failed", "passed", "skipped").index(row.tone)))

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The tasks whose result differs from that in the earlier sweep, those that got worse first."""
        if self.earlier is None:
            return ()
        before = {row.name: row for row in self.earlier}
        now = {row.name: row for row in self.rows}
        changed = [_difference(name, before.get(name), now.get(name)) for name in {**now, **before}]
        order = ("worse", "better", "new", "gone")
        return tuple(sorted(filter(None, changed), key=lambda one: order.index(one.change)))

    def with_change(self, change: Change) -> tuple[Difference, ...]:
        """Return the differences since the earlier sweep that are of one kind, such as "worse"."""
        return tuple(one for one in self.differences if one.change == change)

    def to_json(self) -> str:
        """Return the overview of the sweep as JSON: totals, rows, and differences since an earlier sweep."""
        data = {
            "format": FORMAT,
            "name": self.name,
            "status": self.status,
            "totals": dict(self.totals),
            "first_failures": dict(self.first_failures),
            "differences": [asdict(one) for one in self.differences],
            "rows": [asdict(row) for row in self.rows],
            "environment": dict(self.environment),
        }
        return json.dumps(data, indent=1, allow_nan=False)


def _difference(name: str, before: Row | None, now: Row | None) -> Difference | None:
    """Return how the result of a task differs from that of an earlier sweep.

    The difference is None if the results are the same, or if the task was not run in one of the two sweeps.

    Args:
        name: The name of the task.
        before: Its row in the earlier sweep; None if the task is new.
        now: Its row now; None if the task is gone.
    """
    if before is None or now is None:
        change: Change = "new" if before is None else "gone"
        return Difference(name=name, change=change, before=_told(before), now=_told(now))
    if "not run" in (before.status, now.status):
        return None
    lost, gained = before.proven - now.proven, now.proven - before.proven
    was_good, is_good = before.status == "passed", now.status == "passed"
    if was_good == is_good and not lost and not gained:
        return None
    worse = was_good and not is_good if was_good != is_good else bool(lost)
    change = "worse" if worse else "better"
    if before.status != now.status:
        return Difference(name=name, change=change, before=_told(before), now=_told(now))
    return Difference(name=name, change=change, before=_told(before, lost), now=_told(now, gained))


def _told(row: Row | None, proven: frozenset[str] = frozenset()) -> str:
    if row is None:
        return "-"
    if row.status == "passed":
        return f"passed, with {', '.join(sorted(proven))}" if proven else "passed"
    return f"{row.status}: {row.outcome}" if row.outcome else row.status


def read_rows(lines: Sequence[str], origin: str) -> tuple[Row, ...]:
    """Return the rows that lines of JSON contain, one row per task; the last line about a task counts.

    Args:
        lines: The lines.
        origin: The name of their file, for error messages.

    Raises:
        InputError: A line is not a row; the message has the file and the line.
    """
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = Row.from_json(line)
        except InputError as error:
            raise InputError(f"{origin}, line {number} cannot be read: {error}") from error
        rows[row.name] = row
    return tuple(rows.values())
