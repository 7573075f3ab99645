"""The saved Keras model, run in a fresh process under every backend that was asked for.

Nothing goes from one process to another but a `.keras` file and arrays in `.npz` files, which are read without pickles.
"""

import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks import processes as other_process
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.difference import Judgement, judge
from keras3conv.report.values import Cell, Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.ends import output_pairs
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "The Keras model, saved and loaded in a fresh process under each backend, returns what the torch module returns, "
    "and what the other backends return, up to the noise that torch itself makes against its own float64 run."
)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Two runs, or one that could not be made."""

    first: str
    second: str
    output: str
    judgement: Judgement | None
    note: str = ""


def check(subject: Subject) -> Section:
    """Runs the saved model under every backend, and compares each run with the source and with the others."""
    if subject.not_run:
        return _skipped(subject.not_run)
    asked = subject.options.backends
    missing = [name for name in asked if importlib.util.find_spec(name) is None]
    installed = [name for name in asked if name not in missing]
    with tempfile.TemporaryDirectory() as folder:
        try:
            other_process.save(subject.keras, subject.given.keras, Path(folder))
        except ModelError as error:
            return _skipped(str(error))
        runs = other_process.run_all(Path(folder), installed)
    done = {f"keras on {name}": run for name, run in runs.items() if isinstance(run, Recording)}
    refused = {name: run for name, run in runs.items() if isinstance(run, other_process.Refusal)}
    dead = {name: run for name, run in runs.items() if isinstance(run, other_process.Death)}
    rows = list(_rows(subject, done))
    bad = [place for place, row in enumerate(rows) if row.note or row.judgement is None or not row.judgement.passed]
    problems = [_problem(rows[place]) for place in bad]
    problems += [Problem(keras=name, fact=f"the process died: {death.said}") for name, death in dead.items()]
    facts = dict.fromkeys(missing, "not installed") | {name: refusal.reason for name, refusal in refused.items()}
    if not done and not dead:
        return _skipped(_reasons(facts) or "no backend was asked for")
    return Section(
        name="backends",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=f"{len(problems)} runs or comparisons failed" if problems else _summary(rows, done),
        facts={f"not run: {name}": reason for name, reason in facts.items()},
        tables=(_table(rows, bad),),
        problems=tuple(problems),
    )


def _reasons(facts: Mapping[str, str]) -> str:
    """Each reason once, after the backends that it is of."""
    names = {reason: [name for name in facts if facts[name] == reason] for reason in facts.values()}
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in names.items())


def _skipped(reason: str) -> Section:
    return Section(name="backends", status="skipped", claim=CLAIM, summary="not run", reason=reason)


def _summary(rows: list[_Row], done: Mapping[str, Recording]) -> str:
    worst = max((row.judgement.ratio or 0.0 for row in rows if row.judgement), default=0.0)
    return f"{', '.join(name.removeprefix('keras on ') for name in done)}: at most {worst:.2g} x the noise floor"


def _rows(subject: Subject, done: Mapping[str, Recording]) -> Iterator[_Row]:
    """Torch against every backend, then the backends against each other."""
    here = Recording(outputs=subject.torch_run.outputs)
    for name, run in done.items():
        for pair in output_pairs(here, run):
            judgement = None if pair.odd else _judge(subject, pair.keras, pair.torch, pair.name, run)
            yield _Row(first="torch", second=name, output=pair.name, judgement=judgement, note=pair.odd)
    for (first, one), (second, other) in combinations(done.items(), 2):
        for name in one.outputs.keys() & other.outputs.keys():
            yield _between(subject, (first, one), (second, other), name)


def _between(subject: Subject, first: tuple[str, Recording], second: tuple[str, Recording], output: str) -> _Row:
    """One output of two backends; the noise is the source's."""
    ours, theirs = first[1].outputs[output], second[1].outputs[output]
    names = {"first": first[0], "second": second[0], "output": output or "0"}
    if ours.shape != theirs.shape:
        return _Row(**names, judgement=None, note=f"returns {ours.shape} and {theirs.shape}")
    pairs = list(output_pairs(subject.torch_run, first[1]))
    pair = next((pair for pair in pairs if pair.keys[1] == output and not pair.odd), None)
    if pair is None:
        return _Row(**names, judgement=None, note="the source has no such output")
    floor = _judge(subject, pair.torch, pair.torch, pair.name, first[1]).floor
    judged = judge(theirs, ours, None, subject.options.tolerance)
    return _Row(
        **names,
        judgement=Judgement(
            deviation=judged.deviation, floor=floor, differing=judged.differing, allowed=judged.allowed
        ),
    )


def _judge(subject: Subject, actual: Array, source: Array, name: str, run: Recording) -> Judgement:
    """Judges an output of a backend; the truth is brought into the layout of that backend's outputs."""
    truth = {pair.name: pair.torch for pair in output_pairs(subject.torch_truth, run)}
    return judge(actual, source, truth.get(name), subject.options.tolerance)


def _problem(row: _Row) -> Problem:
    return Problem(fact=f"{row.first} and {row.second}, output {row.output}: {row.note or row.judgement}")


def _table(rows: list[_Row], bad: list[int]) -> Table:
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
    columns = ("one", "other", "output", "largest difference", "noise floor", "ratio", "note")
    return Table(title="who agrees with whom", columns=columns, rows=cells, failed=tuple(bad))
