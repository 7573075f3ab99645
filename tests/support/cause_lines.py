"""Plant a mistake in the code, the weights or the plan of two models, and do what the printed line of its cause says.

A piece of code has a place in double angle brackets, with what stands there before: an expression, a statement or
nothing, to which arguments are added. The line that the report prints is put there as it is. If it prints two lines,
the place of the second one begins with "2:". What a comment of the line demands as well stands as `%before|after%`.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.fixes import in_framework
from keras3conv.validators.diagnosis.suspects.base import Hypothesis
from keras3conv.validators.running.transferred import TO_KERAS, transfers
from tests.support.fixes import CAUSES, ROOT, are_arguments
from tests.support.models import randomize

PLACE = re.compile(r"<<(2:)?(.*?)>>")
BESIDE = re.compile(r"%(.*?)\|(.*?)%")
VALUE = r"(?:[^,()<]|\((?:[^()]|\([^()]*\))*\))+"
"""The pattern of the value of an argument, which may be a tuple of tuples."""
WORDS = 9
"""The number of rows of the embeddings, for inputs that are integers."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A mistake in one side, or in the plan.

    Attributes:
        site: The place of the code that prints the line: a key of `sites()`.
        parts: The submodules of the torch module, as arguments.
        torch: The statements of its `forward`, which change `x`.
        keras: The statements of the Keras model, which change `x`.
        shape: The shape of a torch sample.
        dots: What the user has in place of the dots of the line.
        done: What a user writes where the line is a comment; for each other line, nothing.
        plan: Statements that change the `plan` before the transfer, for the models as they are.
        tamper: Statements that spoil the weights of `model` after the transfer. The outputs are compared then.
        integers: Whether the inputs are integers.
        transfers: Whether the weights are transferred; else only the proof in float64 sets them.
        probes: Whether both models run to make the plan, which confirms its pairs.
    """

    site: str
    parts: str
    torch: str
    keras: str
    shape: tuple[int, ...] = (4,)
    dots: str = "..."
    done: str = ""
    plan: str = ""
    tamper: str = ""
    integers: bool = False
    transfers: bool = True
    probes: bool = False


@dataclass
class Pair:
    """Two models, their plan and their inputs."""

    module: nn.Module
    model: keras.Model
    plan: k3c.Alignment
    inputs: torch.Tensor
    names: dict[str, Any] = field(default_factory=dict)


def written(code: str, line: str | None) -> str:
    """Return code with a line, or two, at its places; without one, what stands there before."""
    code = BESIDE.sub(r"\1" if line is None else r"\2", code)
    lines = () if line is None else line.split("\n")
    for place, one in enumerate(lines[:2]):
        code = _with_line(code, "2:" if place else None, one)
    return PLACE.sub(r"\2", code)


def _with_line(code: str, place: str | None, line: str) -> str:
    rows = code.split("\n")
    return "\n".join(_with_line_in_row(row, place, line) for row in rows)


def _with_line_in_row(row: str, place: str | None, line: str) -> str:
    if not any(found[1] == place for found in PLACE.finditer(row)):
        return row
    if are_arguments(line):
        names = [part.partition("=")[0].strip() for part in line.partition("#")[0].split(",") if "=" in part]
        for name in names:  # the argument replaces the one that is there
            row = re.sub(rf",? ?\b{name}={VALUE}(?=[,)<])(?!>>)", "", row)
        row = row.replace("(<<>>, ", "(<<>>")
    return PLACE.sub(lambda found: _at(found[2], line) if found[1] == place else found[0], row).replace("(, ", "(")


def _at(before: str, line: str) -> str:
    line = re.sub(r"\s+#.*", "", line)
    return f", {line}" if are_arguments(line) and not before else line


def made(case: Case, line: str | None) -> Pair:
    """Return both models, with a line at the place of the mistake, and their plan."""
    names: dict[str, Any] = {"nn": nn, "F": F, "torch": torch, "keras": keras, "layers": layers, "ops": ops, "np": np}
    exec(written(f"parts = dict({case.parts})", line), names)  # noqa: S102 - our own code
    body = written(case.torch, line).replace("\n", "\n    ")
    exec(f"def forward(self, x):\n    {body}\n    return x", names)  # noqa: S102 - our own code
    module = type("Net", (nn.Module,), {"forward": names["forward"]})()
    for name, part in names["parts"].items():
        module.add_module(name, part)
    shape = case.shape if len(case.shape) != 3 else (*case.shape[1:], case.shape[0])
    names["x"] = given = keras.Input(shape, dtype="int32" if case.integers else None)
    exec(written(case.keras, line), names)  # noqa: S102 - our own code
    module, model = randomize(module).eval(), keras.Model(given, names["x"])
    return Pair(module, model, k3c.align(module, model, probe=case.probes), inputs(case), names)


def inputs(case: Case) -> torch.Tensor:
    """Return random inputs; integers end in zeros, as padding does."""
    generator = np.random.default_rng(0)
    if not case.integers:
        return torch.tensor(generator.normal(size=(2, *case.shape)), dtype=torch.float32)
    words = generator.integers(1, WORDS, (2, *case.shape))
    words[0, -2:] = 0
    return torch.tensor(words)


def report_of(case: Case, line: str | None) -> k3c.Report:
    """Return the certificate of a case; with a line, after doing what it says."""
    is_run = line is not None and line.startswith(("plan = ", "module.", "k3c.transfer("))
    pair = made(case, None if is_run else line)
    if line is None:
        scope = {"plan": pair.plan}
        exec(case.plan, scope)  # noqa: S102 - our own code
        pair.plan = scope["plan"]
    if case.transfers:
        k3c.transfer(pair.module, pair.model, pair.plan)
    exec(case.tamper, pair.names | {"model": pair.model, "module": pair.module})  # noqa: S102 - our own code
    if line is not None and is_run:
        _run(line, pair)
    proofs = ["outputs", "activations"] if case.tamper else ["float64"]
    return k3c.validate(pair.module, pair.model, inputs=pair.inputs, alignment=pair.plan, proofs=proofs)


def _run(line: str, pair: Pair) -> None:
    """Execute a line about the plan or the module, and transfer the weights again; the plan may ask for more pairs."""
    scope = {"k3c": k3c, "torch": pair.module, "keras": pair.model, "plan": pair.plan, "x": pair.inputs}
    exec(line, scope | {"module": pair.module, "model": pair.model}, scope)  # noqa: S102 - our own message
    pair.plan = scope["plan"]
    for problem in pair.plan.problems():
        exec(problem.fixes[0], scope)  # noqa: S102 - our own message
        pair.plan = scope["plan"]
        if not pair.plan.problems():
            break
    k3c.transfer(pair.module, pair.model, pair.plan)


def printed_line(case: Case) -> str:
    """Return the line, or lines, that the certificate of a case prints from the place that the case names."""
    parts, torch_code, keras_code = (written(code, None) for code in (case.parts, case.torch, case.keras))
    models = replace(case, site="", dots="", done="", parts=parts, torch=torch_code, keras=keras_code)
    report, made_by = _planted(models)
    assert not report.ok
    problems = [problem for section in report.sections for problem in section.problems]
    for fact, fix in ((problem.fact, fix) for problem in problems for fix in problem.fixes):
        if any(case.site in names and cause in fact for (cause, text), names in made_by.items() if fix == text):
            return case.done or fix.replace("...", case.dots)
    lines = [(problem.fact, line) for problem in problems for fix in problem.fixes for line in fix.splitlines()]
    for fact, line in lines:
        if any(case.site in names and cause in fact for (cause, text), names in made_by.items() if line in text):
            return case.done or line.replace("...", case.dots)
    raise AssertionError(f"{case.site} printed none of {lines}")


@lru_cache(maxsize=8)
def _planted(case: Case) -> tuple[k3c.Report, dict[tuple[str, str], set[str]]]:
    """Return the certificate of two models with a mistake, and the places that made each line for a cause.

    It is kept for the next case, which may change the other model.
    """
    made_by: dict[tuple[str, str], set[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hypothesis, "__init__", _noted(made_by))
        return report_of(case, None), made_by


def _noted(made_by: dict[tuple[str, str], set[str]]) -> Any:
    original = Hypothesis.__init__

    def initialise(self: Hypothesis, **options: Any) -> None:
        original(self, **options)
        frame = sys._getframe(1)
        where = _call_at(Path(frame.f_code.co_filename).resolve(), frame.f_lineno)
        for name in ("fix", "keras"):
            text = getattr(self, name)
            line = in_framework(text, "keras" if name == "keras" else "torch")
            line = transfers(None)[0] if text == TO_KERAS else line
            made_by.setdefault((self.cause, line), set()).add(f"{where}.{name}")

    return initialise


@cache
def _calls() -> tuple[tuple[Path, int, int, str, tuple[str, ...]], ...]:
    """Return every call of `Hypothesis`: its file, its first and last line, its name, and its lines to paste."""
    found: list[tuple[Path, int, int, str, tuple[str, ...]]] = []
    counts: Counter[str] = Counter()
    for path in sorted((ROOT / CAUSES / "suspects").glob("*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _makes_one(node)]
            for node in sorted(calls, key=lambda node: node.lineno):
                name = f"{path.stem}.{getattr(function, 'name', '')}"
                counts[name] += 1
                name += f"#{counts[name]}" if counts[name] > 1 else ""
                keywords = tuple(str(word.arg) for word in node.keywords if word.arg in ("fix", "keras"))
                found.append((path.resolve(), node.lineno, node.end_lineno or node.lineno, name, keywords))
    return tuple(found)


def _makes_one(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "Hypothesis"


def _call_at(path: Path, line: int) -> str:
    names = [name for file, first, last, name, _ in _calls() if file == path and first <= line <= last]
    return names[0] if names else ""


def sites() -> Iterator[str]:
    """Yield the name of every line that a suspect prints: the file, the function, and the side as `fix` or `keras`."""
    for *_, name, keywords in _calls():
        yield from (f"{name}.{keyword}" for keyword in keywords)
