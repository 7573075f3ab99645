"""Define the measurements of an architecture that is converted to Keras, and write them as a table."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._to_keras_step import STEP

LIMIT = 1e-11
"""The largest relative difference in float64 of two models that compute the same function."""


@dataclass(kw_only=True)
class Row:
    """The measurements of one architecture.

    Attributes:
        name: The architecture.
        kind: Its group.
        exported: Whether torch.export captured it.
        converted: Whether there is a Keras model.
        float64: The largest difference in float64, relative to the largest value of an output.
        float32: Whether the difference in float32 is within the noise of float32.
        transposes: The number of permutations that the model computes.
        lines: The number of lines of the generated code.
        layers: The number of layers.
        trainable: Whether both models have the same number of trainable elements.
        step: The difference of the weights after one step of SGD in float64, relative to the step.
        jax: Whether the saved model, loaded without torch, returns the same outputs on JAX.
        tensorflow: Whether the saved model, loaded without torch, returns the same outputs on TensorFlow.
        seconds: The processor time of the conversion in seconds.
        problems: The error of each part of the measurement that failed, by its name.
    """

    name: str
    kind: str = ""
    exported: bool = False
    converted: bool = False
    float64: float | None = None
    float32: bool | None = None
    transposes: int = 0
    lines: int = 0
    layers: int = 0
    trainable: bool | None = None
    step: float | None = None
    jax: bool | None = None
    tensorflow: bool | None = None
    seconds: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """True if every part succeeded."""
        is_same = self.float64 is not None and self.float64 <= LIMIT and bool(self.float32)
        steps = self.step is not None and self.step <= STEP
        return is_same and steps and bool(self.trainable) and bool(self.jax) and bool(self.tensorflow)


def read(path: Path | None) -> dict[str, Row]:
    """Return the rows in a file of results."""
    if path is None or not path.exists():
        return {}
    return {row["name"]: Row(**row) for row in map(json.loads, path.read_text().splitlines())}


def described(row: Row) -> str:
    """Return a line about a row for the terminal."""
    said = "; ".join(f"{part}: {' '.join(text.split())[:300]}" for part, text in row.problems.items())
    error = "-" if row.float64 is None else f"{row.float64:.0e}"
    step = "-" if row.step is None else f"{row.step:.0e}"
    return (
        f"{row.name:<32} {'complete' if row.is_complete else 'INCOMPLETE':<11} {error:>6} step {step:>6} "
        f"{row.transposes:>3} transposes {row.lines:>4} lines {row.seconds:>5.1f} s  {said}"
    )


_HEAD = """# PyTorch architectures as Keras 3 models

Written by `python -m benchmarks bench_convert --to keras --table benchmarks/TO_KERAS.md`; {versions}.
Inputs are small, weights are random, without zero biases and unit scales. Float64 is the largest difference of an
output, relative to its largest value; float32 says whether the difference is within the measured noise of float32. A
step is one step of SGD in float64 with the dropouts off: the largest difference of a weight afterwards, relative to how
far the step moved it. JAX and TensorFlow load `model.keras`, and `model.py` with `model.weights.h5`, in a process
without torch. Transposes are the permutations that the model computes. Seconds are processor time of the
conversion. A row that is not measured again keeps its numbers, so that some are of an earlier version of the code.

{summary}

| architecture | group | float64 | float32 | trainable | step | JAX | TensorFlow | transposes | lines | layers | s | |
| - | - | -: | - | - | -: | - | - | -: | -: | -: | -: | - |"""


def table(rows: Iterable[Row]) -> str:
    """Return the rows in Markdown."""
    import keras
    import torch

    found = list(rows)
    complete, free = sum(row.is_complete for row in found), sum(row.converted and not row.transposes for row in found)
    summary = f"{complete} of {len(found)} are complete; {free} have no transpose left."
    head = _HEAD.format(versions=f"Keras {keras.__version__}, torch {torch.__version__}", summary=summary)
    return "\n".join([head, *map(_cells, found), ""])


_YES = {True: "yes", False: "**no**", None: ""}


def rows_in_table(path: Path) -> dict[str, Row]:
    """Return the rows of a table that `table` wrote, with rounded numbers; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    begin = next((number for number, line in enumerate(lines) if line.startswith("| - |")), len(lines))
    found = (_row(line) for line in lines[begin + 1 :] if line.startswith("| "))
    return {row.name: row for row in found}


def _row(line: str) -> Row:
    cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    answers = {text: answer for answer, text in _YES.items()}
    said = (problem.partition(": ") for problem in cells[12].split("; ") if problem)
    return Row(
        name=cells[0],
        kind=cells[1],
        exported=bool(cells[2]),
        converted=bool(cells[2]),
        float64=float(cells[2]) if cells[2] else None,
        float32=answers[cells[3]],
        trainable=answers[cells[4]],
        step=float(cells[5]) if cells[5] else None,
        jax=answers[cells[6]],
        tensorflow=answers[cells[7]],
        transposes=int(cells[8]),
        lines=int(cells[9]),
        layers=int(cells[10]),
        seconds=float(cells[11]),
        problems={part: text for part, _, text in said},
    )


def _cells(row: Row) -> str:
    error = "" if row.float64 is None else f"{row.float64:.0e}"
    step = "" if row.step is None else f"{row.step:.0e}"
    said = "; ".join(dict.fromkeys(f"{part}: {' '.join(text.split())[:160]}" for part, text in row.problems.items()))
    cells = [
        row.name, row.kind, error, _YES[row.float32], _YES[row.trainable], step, _YES[row.jax], _YES[row.tensorflow],
        str(row.transposes), str(row.lines), str(row.layers), f"{row.seconds:.0f}", said.replace("|", "\\|"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"
