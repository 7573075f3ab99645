"""Run the saved Keras model under every requested backend, each in a fresh process.

The processes exchange only a `.keras` file and arrays in `.npz` files, which are read without pickle.
"""

import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from keras3conv.errors import ModelError, Problem, message_of
from keras3conv.frameworks import processes as other_process
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.judgement import Judgement, judge, worst_difference
from keras3conv.report.values import Cell, Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.output_pairs import output_pairs, shown_name, torch_outputs
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "The Keras model, saved and loaded in a fresh process under each backend, returns the same values as the torch "
    "module and as the other backends, up to the noise that torch makes against its own float64 run."
)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The comparison of one output in two runs (of torch, or of Keras on a backend), `first` and `second`.

    If the outputs cannot be compared, `judgement` is None, and `note` says why.
    """

    first: str
    second: str
    output: str
    judgement: Judgement | None
    note: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.note) or self.judgement is None or not self.judgement.passed


def check(subject: Subject) -> Section:
    """Run the saved model under every requested backend; compare each run with torch and with the other backends.

    Returns:
        The section of the report.
    """
    if subject.skip_reason:
        return _skipped(subject.skip_reason)
    requested = subject.options.backends
    missing = [name for name in requested if importlib.util.find_spec(name) is None]
    installed = [name for name in requested if name not in missing]
    with tempfile.TemporaryDirectory() as folder:
        try:
            other_process.save(subject.keras, subject.required_inputs.keras, Path(folder))
        except ModelError as error:
            return _skipped(message_of(error))
        runs = other_process.run_all(Path(folder), installed)
    finished = {f"keras on {name}": run for name, run in runs.items() if isinstance(run, Recording)}
    refused = {name: run for name, run in runs.items() if isinstance(run, other_process.Refusal)}
    dead = {name: run for name, run in runs.items() if isinstance(run, other_process.Death)}
    rows = list(_rows(subject, finished))
    failed = [index for index, row in enumerate(rows) if row.failed]
    problems = [_problem(rows[index]) for index in failed]
    problems += [
        Problem(keras=name, fact=f"the process that ran Keras on this backend ended without a result: {death.said}")
        for name, death in dead.items()
    ]
    reasons = dict.fromkeys(missing, "not installed") | {name: refusal.reason for name, refusal in refused.items()}
    if not finished and not dead:
        return _skipped(_joined_reasons(reasons) or "no backend was requested")
    return Section(
        name="backends",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=f"{len(problems)} runs or comparisons failed" if problems else _summary(rows, finished),
        facts={f"not run: {name}": reason for name, reason in reasons.items()},
        tables=(_table(rows, failed),),
        problems=tuple(problems),
    )


def _joined_reasons(reasons: Mapping[str, str]) -> str:
    """Return the reasons why backends were not run, in one line, such as "jax, tensorflow: not installed".

    Args:
        reasons: The reason, by backend.
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def _skipped(reason: str) -> Section:
    return Section(name="backends", status="skipped", claim=CLAIM, summary="not run", reason=reason)


def _summary(rows: list[_Row], finished: Mapping[str, Recording]) -> str:
    worst = worst_difference(row.judgement for row in rows)
    return f"{', '.join(name.removeprefix('keras on ') for name in finished)}: {worst}"


def _rows(subject: Subject, finished: Mapping[str, Recording]) -> Iterator[_Row]:
    """Yield the comparisons of torch with each backend, then the comparisons of each two backends with each other.

    Args:
        subject: The two models.
        finished: The recorded run of each backend.
    """
    torch_run = Recording(outputs=subject.torch_run.outputs)
    for name, run in finished.items():
        for pair in output_pairs(torch_run, run):
            judgement = None
            if not pair.mismatch:
                judgement = _judge(subject, pair.keras_output, pair.torch_output, pair.name, run)
            shown = shown_name(pair, subject.keras, run)
            yield _Row(first="torch", second=name, output=shown, judgement=judgement, note=pair.mismatch)
    for first, second in combinations(finished.items(), 2):
        for name in first[1].outputs.keys() & second[1].outputs.keys():
            yield _compare_backends(subject, first, second, name)


def _compare_backends(
    subject: Subject, first: tuple[str, Recording], second: tuple[str, Recording], output: str
) -> _Row:
    """Compare one model output of two backends; the limit is torch's noise floor, its float32 rounding error.

    Args:
        subject: The two models.
        first: The name of a backend, and its run.
        second: The name of the other backend, and its run.
        output: The name of the output in the Keras model.
    """
    first_output, second_output = first[1].outputs[output], second[1].outputs[output]
    pairs = list(output_pairs(subject.torch_run, first[1]))
    pair = next((pair for pair in pairs if pair.keys[1] == output), None)
    shown = shown_name(pair, subject.keras, first[1]) if pair else output or "0"
    names = {"first": first[0], "second": second[0], "output": shown}
    if first_output.shape != second_output.shape:
        return _Row(
            **names,
            judgement=None,
            note=f"the shapes of the outputs differ: {first_output.shape} and {second_output.shape}",
        )
    if pair is None or pair.mismatch:
        return _Row(**names, judgement=None, note="torch has no such output")
    floor = _judge(subject, pair.torch_output, pair.torch_output, pair.name, first[1]).floor
    judgement = judge(second_output, first_output, None, subject.options.tolerance)
    return _Row(**names, judgement=replace(judgement, floor=floor))


def _judge(subject: Subject, actual: Array, source: Array, name: str, run: Recording) -> Judgement:
    """Compare an output of a backend with the output of another run; allow differences up to torch's noise floor.

    Args:
        subject: The two models.
        actual: The output of the backend.
        source: The output of the other run.
        name: The name of the output.
        run: The run of the backend; torch's float64 output is converted to its layout.
    """
    truths = torch_outputs(subject.torch_truth, run)
    return judge(actual, source, truths.get(name), subject.options.tolerance)


def _problem(row: _Row) -> Problem:
    return Problem(fact=f"{row.first} and {row.second}, output {row.output}: {row.note or row.judgement}")


def _table(rows: list[_Row], failed: list[int]) -> Table:
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        (
            row.first,
            row.second,
            row.output,
            row.judgement.deviation if row.judgement else None,
            row.judgement.floor if row.judgement else None,
            row.judgement.ratio if row.judgement else None,
            row.note or ("bit-identical" if row.judgement and row.judgement.differing == 0 else ""),
        )
        for row in rows
    )
    columns = ("first", "second", "output", "largest difference", "noise floor", "ratio", "note")
    return Table(title="pairwise comparison", columns=columns, rows=cells, failed=tuple(failed))
