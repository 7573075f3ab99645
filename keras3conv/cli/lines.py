"""Translate the Python code that a message suggests to commands and options of the command line.

A whole command begins with "keras3conv", and has the arguments of the running command. If the code only adds an
argument to a call, the translation is the option alone: `overwrite=True` becomes `--overwrite`. Code without an
equivalent stays Python.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

from keras3conv.cli.imported import imports

if TYPE_CHECKING:
    from keras3conv.report.report import Report

ROOT = "."
"""The name by which --hint refers to the model itself, whose path is empty in Python."""

ALIGN = "keras3conv align TORCH KERAS"
"""The start of a command that makes a plan, with placeholders for the two models."""

VALIDATE = "keras3conv validate TORCH KERAS"
"""The start of a command that proves two models equal, or names the cause of a difference."""


def _edited(match: re.Match[str]) -> str:
    """Return the `align` command with an option for each edit of a plan: --hint for `pair`, --ignore for `ignore`."""
    return ALIGN + "".join(map(_option, re.finditer(_EDIT, match[0])))


def _option(edit: re.Match[str]) -> str:
    from keras3conv.model.paths import join_layers

    *layers, path, reason, side = edit.groups()
    if path:
        return f' --ignore "{f"{side}:" if side else ""}{path}={reason}"'
    torch, keras = (join_layers(name or ROOT for name in re.findall(r'"([^"]*)"', names)) for names in layers)
    return f' --hint "{torch}={keras}"'


def _rule(_: re.Match[str]) -> str:
    """Return the `align` command for a rule of the user; if the running command imports code, the rule goes there."""
    if code := imports.get():
        return f"{ALIGN}  # as soon as {code[-1]} has a rule that fits these layers"
    return f"{ALIGN} --import FILE.py  # your rule for these layers"


def _registered(match: re.Match[str]) -> str:
    return f"--import FILE.py  # your file with the class {match[1]}"


def _named_inputs(match: re.Match[str]) -> str:
    argument, given = match.groups()
    values = ", ".join(re.sub(r'"(\w+)": ', r"\1=", one) for one in given.split(", "))
    return f'numpy.savez("{argument}.npz", {values})  # and --{argument.replace("_", "-")} {argument}.npz'


def _shape(match: re.Match[str]) -> str:
    return f"--shape {match[1].replace(' ', '')}"


_NAMES = r'(\[(?:"[^"]*"(?:, )?)+\]|"[^"]*")'
"""The pattern of a layer path as a Python string, or of a list of such strings."""

_EDIT = rf'\.pair\({_NAMES}, {_NAMES}\)|\.ignore\("([^"]+)", "([^"]+)"(?:, side="(\w+)")?\)'
"""The pattern of an edit of a plan that is an option of `align`."""

_LINES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (rf"(?:plan = )?plan(?:{_EDIT})+", _edited),
    (r"k3c\.register\(RULE\)  # your rule for these layers", _rule),
    (r'(?:plan = )?plan\.unpair\("[^"]*"\)', ALIGN),
    (r'k3c\.transfer\(source, model, plan, out="([^"]+)"\)', r"keras3conv transfer SOURCE net.py:make -o \1"),
    (r"k3c\.transfer\(source, target_model, plan, out=path\)", "keras3conv transfer SOURCE net.py:make -o FILE"),
    (r"k3c\.transfer\(module, model, plan\)", "keras3conv transfer TORCH KERAS --plan PLAN.json -o FILE"),
    (r"k3c\.transfer\(model, module, plan\)", "keras3conv transfer KERAS TORCH --plan PLAN.json -o FILE"),
    (
        r"k3c\.convert\(module, inputs=(?:\.\.\.|example_input)\)",
        "keras3conv convert net.py:make --inputs FILE.npz -o FOLDER",
    ),
    (
        r'k3c\.convert\(make_model\(\), weights="([^"]+)"\)',
        r"keras3conv convert keras_net.py:make_model --keras-weights \1 -o FOLDER",
    ),
    (r"transfer\(\.\.\., accept_unconfirmed=True\)", "--accept-unconfirmed"),
    (r"(?:plan = )?k3c\.align\(torch, keras, inputs=x\)", f"{ALIGN} --inputs FILE.npz"),
    (r"(?:plan = )?k3c\.align\(torch, keras\)", ALIGN),
    (r"k3c\.convert\(module, inputs=torch\.zeros\(([0-9, ]+)\)\)", _shape),
    (
        r'k3c\.convert\(module, weights="([^"]+)", inputs=[\w.]+\)',
        r"keras3conv convert net.py:make --torch-weights \1 --inputs FILE.npz -o FOLDER",
    ),
    (
        r'k3c\.convert\(model, weights="([^"]+)"\)',
        r"keras3conv convert keras_net.py:make --keras-weights \1 -o FOLDER",
    ),
    (
        r'keras\.saving\.get_custom_objects\(\)\["\w+"\] = (\w+)  # your class; .*?(?=     (?:or|and)     |$)',
        _registered,
    ),
    (r"(?:k3c\.convert\(model, )?inputs=example_input\b\)?", "--inputs FILE.npz"),
    (
        r'k3c\.convert\("([^"]+)", weights="([^"]+)"\)',
        r"keras3conv convert \1 --keras-weights \2 -o FOLDER",
    ),
    (r'k3c\.transfer\("([^"]+)", module, plan\)', r"keras3conv transfer \1 net.py:make -o FILE"),
    (
        r'k3c\.validate\(module, model, local=\{"(\w+)": "([^"]+)"\}\)',
        r"a factory, such as net.py:make, with --local --\1-weights \2",
    ),
    (r'validate\(torch, keras, inputs=inputs, expected="([^"]+)"\)', r"--inputs FILE.npz --expected \1"),
    (r"k3c\.transfer\(source, target, plan, cast=True\)", "--cast"),
    (r"k3c\.validate\(torch, keras, plan=plan\)", VALIDATE),
    (r"\baccept_difference=True", "--accept-difference"),
    (r"\boverwrite=True", "--overwrite"),
    (r'\bout="([^"]+)"', r"-o \1"),
    (r'\bmax_shard_size="(\w+)"', r"--max-shard-size \1"),
    (r"keras_inputs=\.\.\.", "--keras-inputs FILE.npz"),
    (r"k3c\.compare_onnx\(first, second\)", "keras3conv compare-onnx FIRST.onnx SECOND.onnx"),
    (r"\binputs=(?:\.\.\.|inputs\b|example_input\b)", "--inputs FILE.npz"),
    (r"\b((?:keras_)?inputs)=\{(.*)\}", _named_inputs),
    (r'\bbackends="all"', "--backends all"),
    (r'\bchannels="(first|last)"', r"--channels \1"),
    (r'\bproofs="(\w+)"', r"--proof \1"),
    (r"\bonnx=True", "--onnx"),
    (r'\bonnx="([^"]+)"', r"--onnx-dir \1"),
    (r"\blabels=labels(?![.\[])", "--labels FILE.npy"),
    (r"\blabels=(labels[.\[].*)", r'numpy.save("FILE.npy", \1)'),
    (r'\bexpected="([^"]+)"', r"--expected \1"),
    (r'\bentry="([^"]+)"', r"--entry \1"),
    (r"k3c\.align\(module, model, probe=False\)", f"{ALIGN} --no-probe"),
    (r"^(  \.\.\. and \d+ more)$", r"\1, which --verbose shows"),
)
"""Patterns of calls and arguments in Python, each with what it is on the command line; the first ones count first."""

_QUOTED = '"([^"]+)"'
"""The pattern of a path in quotation marks in Python, which a shell gets as one word."""


def _as_words(template: str) -> Callable[[re.Match[str]], str]:
    """Return a function that fills a template of a substitution with the groups of a match, quoted for a shell."""
    return lambda match: re.sub(r"\\(\d)", lambda place: quote(match[int(place[1])]), template)


_PATTERNS = tuple(
    (
        re.compile(python, re.MULTILINE),
        _as_words(here) if isinstance(here, str) and _QUOTED in python else here,
    )
    for python, here in _LINES
)


_TWO_PLANS = re.compile(rf"^(Fix:  {ALIGN} .*)     and     {ALIGN}( .*)$", re.MULTILINE)
"""Two edits of a plan that are both needed, which are options of one command."""


def as_options(message: str, names: Mapping[str, str] | None = None) -> str:
    """Return an error message whose suggested Python code is replaced by options: `overwrite=True` -> `--overwrite`.

    Args:
        message: The message.
        names: For each placeholder in a command, or start of a command, its replacement: {"TORCH": "net.pt"}.
    """
    for pattern, here in _PATTERNS:
        message = pattern.sub(here, message)
    message = _TWO_PLANS.sub(r"\1\2", message)
    for placeholder, name in (names or {}).items():
        before = r"(?<!\w)" if placeholder[0].isalnum() else ""  # KERAS_BACKEND is not a placeholder
        literal = name.replace("\\", "\\\\")
        message = re.sub(rf"{before}{re.escape(placeholder)}(?!\w|\.py)", literal, message)
    return message


def with_options(report: "Report", names: Mapping[str, str] | None = None) -> "Report":
    """Return a report whose notes and suggested fixes have, where possible, commands and options, not Python.

    Args:
        report: The report.
        names: For each placeholder in a command, or start of a command, its replacement: {"TORCH": "net.pt"}.
    """
    sections = tuple(
        replace(
            section,
            problems=tuple(
                replace(problem, fixes=tuple(as_options(line, names) for line in problem.fixes))
                for problem in section.problems
            ),
        )
        for section in report.sections
    )
    return replace(report, sections=sections, notes=tuple(map(as_options, report.notes)))
