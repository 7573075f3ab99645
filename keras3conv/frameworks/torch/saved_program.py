"""Load a program that `torch.export.save` has written (`.pt2`), without running code of the file.

`torch.export.load` unpickles whatever the file asks for, and evaluates the text of symbolic sizes. So the file is
checked first: no tensor and no constant is pickled, the operators are torch's own, and a symbolic size is a sum or a
product of numbers and names. The example inputs, which are always a pickle, are left out.
"""

import ast
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.export import ExportedProgram

from keras3conv.errors import RAISED_BY_MODELS, MalformedCheckpoint, UnsafeCheckpoint, message_of
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.zip import MAX_INFLATED, Member, read_member, scan

_OPERATORS = re.compile(r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|_operator\.\w+|torch\.sym_\w+|math\.\w+")
_SYMBOLIC = frozenset(
    {
        "Abs", "Add", "BooleanFalse", "BooleanTrue", "CeilToInt", "CleanDiv", "Equality", "FloorDiv", "FloatTrueDiv",
        "GreaterThan", "Identity", "IntTrueDiv", "Integer", "LessThan", "Max", "Min", "Mod", "ModularIndexing", "Mul",
        "Not", "Or", "And", "Pow", "PowByNatural", "PythonMod", "Rational", "StrictGreaterThan", "StrictLessThan",
        "Symbol", "ToFloat", "TruncToInt", "Unequality", "Where",
    }
)  # fmt: skip
"""The names of the functions that are allowed in a symbolic size."""


def load(path: str | Path) -> torch.nn.Module:
    """Return the module that `torch.export.save` wrote to a file, in evaluation mode.

    Raises:
        UnsafeCheckpoint: The file asks for something that could run code.
        MalformedCheckpoint: The file is not a program of this version of torch.
    """
    source = Source.pin(path)
    members = scan(source)
    _check(source, members)
    with source.open() as file:
        try:
            program = torch.export.load(_without_inputs(file))
        except (OSError, AssertionError, *RAISED_BY_MODELS) as error:
            first = (message_of(error).splitlines() or [type(error).__name__])[0]
            raise MalformedCheckpoint(
                f"{path} is not a program that torch {torch.__version__} can load: {first}"
                "\nFix:  torch.export.save(torch.export.export(module, args), 'net.pt2')  # and convert that file"
            ) from error
    return _module_of(program, Path(path).stem)


def _without_inputs(file: BinaryIO) -> io.BytesIO:
    """Return the `.pt2` archive without its example inputs, which torch would unpickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, b"" if "/data/sample_inputs/" in name else old.read(name))
    made.seek(0)
    return made


def _check(source: Source, members: dict[str, Member]) -> None:
    """Raise `UnsafeCheckpoint` if loading a `.pt2` file could run code, `MalformedCheckpoint` if it has no program.

    Args:
        source: The file.
        members: The members of the archive, by name.
    """
    names = {name.partition("/")[2]: member for name, member in members.items()}
    programs = [name for name in names if name.startswith("models/") and name.endswith(".json")]
    if len(programs) != 1:
        old = any(name.startswith("serialized_") for name in members)
        fact = "was saved by an old version of torch, as pickles" if old else f"has {len(programs)} programs, not one"
        raise MalformedCheckpoint(
            f"{source.path} cannot be loaded as a program of torch.export: it {fact}\n"
            "Fix:  torch.export.save(torch.export.export(module, args), 'net.pt2')  # and convert that file"
        )
    for name, member in names.items():
        if name.startswith(("data/aotinductor/", "data/constants/custom_obj", "data/constants/opaque_obj")):
            raise UnsafeCheckpoint(
                f"{source.path} contains the member {name}, compiled code or a pickled object, which is not loaded "
                "because it could run code"
                "; export the module again without it"
            )
        if name.endswith("_config.json"):
            entries = json.loads(read_member(source, member, MAX_INFLATED)).get("config", {})
            for tensor, entry in entries.items():
                if entry.get("use_pickle"):
                    raise UnsafeCheckpoint(
                        f"{source.path} contains the tensor {tensor} as a pickle, which is not loaded because it "
                        "could run code"
                        "; export the module again with this version of torch"
                    )
                if not str(entry.get("path_name", "")).startswith(("weight_", "tensor_")):
                    raise UnsafeCheckpoint(
                        f"{source.path} contains the object {tensor} as a pickle, which is not loaded because it "
                        "could run code"
                        "; export the module again without it"
                    )
        if name.startswith("data/constants/") and name.endswith(".pt"):
            raise UnsafeCheckpoint(
                f"{source.path} contains the member {name}, pickled constants, which is not loaded because it could "
                "run code"
                "; export the module again with this version of torch"
            )
    _check_texts(source, json.loads(read_member(source, names[programs[0]], MAX_INFLATED)))


def _check_texts(source: Source, value: Any, key: str = "") -> None:
    """Raise `UnsafeCheckpoint` for an operator that is not torch's, or a symbolic size that is more than arithmetic.

    Args:
        source: The file.
        value: A value in the JSON of the program.
        key: The key under which the value is stored; it shows whether a text is an operator or a size.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            _check_texts(source, item, name)
    elif isinstance(value, list):
        for item in value:
            _check_texts(source, item, key)
    elif isinstance(value, str) and key == "target" and not _OPERATORS.fullmatch(value):
        raise UnsafeCheckpoint(
            f"{source.path} calls {value!r}, which is not an operator of torch"
            ": export the module with torch's operators only"
        )
    elif isinstance(value, str) and key == "expr_str" and not _is_arithmetic(value):
        raise UnsafeCheckpoint(
            f"{source.path} has a symbolic size that is not arithmetic: {value[:80]!r}"
            "; export the module again with this version of torch"
        )


def _is_arithmetic(text: str) -> bool:
    """Return whether the text of a symbolic size has only numbers, names of sizes and allowed functions of them."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    allowed: tuple[type[ast.AST], ...] = (
        ast.Expression,
        ast.Call,
        ast.Name,
        ast.Load,
        ast.Constant,
        ast.keyword,
        ast.UnaryOp,
        ast.USub,
    )
    allowed += (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Pow)
    for node in ast.walk(tree):
        if not isinstance(node, allowed):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _SYMBOLIC):
            return False
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | bool):
            is_symbol = isinstance(node.value, str) and re.fullmatch(r"[a-z]\w*", node.value)
            if not is_symbol:
                return False
    return True


def _module_of(program: ExportedProgram, name: str) -> torch.nn.Module:
    module = program.module(check_guards=False)
    for child in module.modules():
        for method in ("train", "eval"):  # replaced by functions that raise
            vars(child).pop(method, None)
        child.training = False
    type(module).__name__ = re.sub(r"\W", "_", name) or "Program"
    return module
