"""Write the source code of a functional Keras model: a function `build_model`, and a function per repeated block.

Only identifiers and literals of the model get into the text: `names` creates names of letters, digits and underscores,
and `literal` accepts plain values only.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from keras3conv.builder.passes.rolling import rolled
from keras3conv.builder.program.names import function_identifier, identifier, unique
from keras3conv.builder.program.program import Program, Step, Value
from keras3conv.builder.program.structure import Block, Structure
from keras3conv.builder.source.copying import copied_functions
from keras3conv.builder.source.formatting import bracketed, docstring, literal, named_outputs, quoted, statement
from keras3conv.builder.source.keras_spelling import KerasSpelling, spelled_dtype
from keras3conv.builder.source.keras_statements import statements
from keras3conv.builder.source.local_names import local_names, variable_name
from keras3conv.builder.source.rendering import rendered
from keras3conv.frameworks.keras.operations import own_names
from keras3conv.model.graph import Ref, Shape, Size

_LOADING = ('with np.load(Path(__file__).with_name("constants.npz")) as arrays:', "    CONSTANTS = dict(arrays)")

_LISTED = 48
"""The largest number of characters that a list of names may have in the docstring of a generated function."""

_TAKEN = frozenset({"CONSTANTS", "Path", "arrays", "build_model", "itertools", "keras", "layers", "math", "np", "ops"})

_Defaults = Mapping[str, Mapping[str, Any]]


def write(structure: Structure) -> str:
    """Return the text of `model.py` for a Keras program and its blocks."""
    program = structure.program
    copied = copied_functions(structure)
    taken = _TAKEN | {function_identifier(block.name) for block in structure.blocks} | {*structure.constants, *copied}
    defaults = _defaults(structure)
    functions = ["\n".join(_block(block, taken, defaults)) for block in structure.blocks]
    body = "\n\n\n".join([*copied.values(), *functions, "\n".join(_function(program, taken, defaults))])
    standard = [f"import {name}" for name in ("itertools", "math") if f"{name}." in body]
    standard += ["from pathlib import Path"] if "CONSTANTS[" in body else []
    imports = [*standard, "", "import keras"] if standard else ["import keras"]
    defined = [line for name, code in structure.constants.items() for line in statement(0, f"{name} = {code}")]
    if defined or "np." in body or "CONSTANTS[" in body:
        imports.append("import numpy as np")
    names = [name for name in ("layers", "ops") if f"{name}." in body]
    imports += [f"from keras import {', '.join(names)}"] if names else []
    imports += _imports_of_classes(structure)
    constants = ["", *_LOADING] if "CONSTANTS[" in body else []
    constants += ["", *defined] if defined else []
    return "\n".join([f'"""{_title(program)}"""', "", *imports, *constants, "", "", body, ""])


def _imports_of_classes(structure: Structure) -> list[str]:
    """Return the lines that import the user's own layer classes."""
    programs = (structure.program, *(block.program for block in structure.blocks))
    kinds = {module.spec.kind for program in programs for module in program.modules.values()}
    own = sorted(kind.rpartition(".")[::2] for kind in kinds if not kind.startswith((".", "keras.")))
    return ["", *(f"from {module} import {name}" for module, name in own)] if own else []


def _defaults(structure: Structure) -> _Defaults:
    """Return, for each block, the default values of its function's arguments: the values that most calls pass."""
    calls: dict[str, list[Mapping[str, Any]]] = {}
    for program in (structure.program, *(block.program for block in structure.blocks)):
        for module in program.modules.values():
            calls.setdefault(module.spec.kind, []).append(module.spec.config)
    return {
        f".{block.name}": {
            name: value
            for name in block.arguments
            if (value := _usual([config[name] for config in calls.get(f".{block.name}", ())])) is not None
        }
        for block in structure.blocks
    }


def _usual(values: list[Any]) -> Any:
    """Return the value that more than half of the calls (and at least three) pass for an argument; None without one.

    The result is also None for a value that is long, or is itself an argument of another block.
    """
    if not values:
        return None
    value, count = Counter(repr(value) for value in values).most_common(1)[0]
    found = next(one for one in values if repr(one) == value)
    is_plain = "Argument" not in value and len(value) < 20
    return found if is_plain and count > 2 and 2 * count > len(values) else None


def _block(block: Block, taken: frozenset[str], defaults: _Defaults) -> Iterator[str]:
    """Yield the lines of the function for a block.

    Args:
        block: The block.
        taken: Names that no variable of the function may have.
        defaults: The default values for the arguments of each block.
    """
    program, own = block.program, defaults[f".{block.name}"]
    given: dict[str, str] = {}
    for value in program.inputs:
        wanted = variable_name(program.input_names.get(value.name) or "x")
        given[value.name] = unique(wanted, {*given.values(), *taken, "name", *block.arguments})
    needed = [name for name in block.arguments if name not in own]
    arguments = [
        *given.values(),
        *(["name"] if block.uses else []),
        *needed,
        *(f"{name}={literal(value)}" for name, value in own.items()),
    ]
    yield from statement(0, f"def {function_identifier(block.name)}({', '.join(arguments)}):")
    yield from docstring(4, _purpose(block))
    taken = taken | {"name", *block.arguments}
    body = rolled(program, taken)
    spelling = KerasSpelling(program, local_names(program, body, given, taken), defaults=defaults, is_function=True)
    last = body[-1]
    is_last = isinstance(last, Step) and [Ref(name) for name in last.outputs] == [program.outputs]
    yield from statements(body[:-1] if is_last else body, spelling, {*spelling.variables.values(), *taken})
    if isinstance(last, Step) and is_last:
        yield from statement(4, f"return {rendered(spelling.expression(last.expression), spelling)}")
    else:
        yield f"    return {_returned(program.outputs, spelling)}"


def _purpose(block: Block) -> str:
    """Return the docstring of the function for a block."""
    uses = block.uses
    if uses:
        listed = ", ".join(uses)
        shown = f"equal parts: {listed}" if len(listed) <= _LISTED else f"parts like {uses[0]}"
        return f"Call the layers of one of {len(uses)} {shown}."
    return f"Compute {block.program.name or 'a value'}, which several parts of the model need."


def _title(program: Program) -> str:
    name = re.sub(r"\W", "", program.name, flags=re.ASCII)
    return f"The PyTorch module {name}, as a Keras 3 model."


def described(shape: Shape) -> str:
    """Return a shape as text for a docstring, such as "(batch, 32, 32, 3)"."""
    return bracketed(
        shape, ["?" if isinstance(size, Size) and "unknown" in size.symbols else str(size) for size in shape]
    )


def _function(program: Program, taken: frozenset[str], defaults: _Defaults) -> Iterator[str]:
    given: dict[str, str] = {}
    for value in program.inputs:
        wanted = variable_name(program.input_names.get(value.name, value.name))
        given[value.name] = unique(wanted, {*given.values(), *taken})
    inputs = unique("inputs", {*given.values()})
    taken = taken | {inputs}
    body = rolled(program, taken)
    spelling = KerasSpelling(program, local_names(program, body, given, taken), defaults=defaults)
    yield "def build_model() -> keras.Model:"
    yield '    """Return the model with new weights; `load_weights` gives it the converted ones.'
    yield ""
    yield "    Shapes:"
    for value in program.inputs:
        yield f"        {given[value.name]}: {described(value.target_shape)}, {value.dtype}"
    yield from (f"        {line}" for line in _results(program))
    yield '    """'
    yield from _inputs(program, spelling, inputs)
    yield from statements(body, spelling, {*spelling.variables.values(), *taken})
    returned = _returned(program.outputs, spelling)
    name = quoted(function_identifier(program.name))
    yield from statement(4, f"return keras.Model({inputs}, {returned}, name={name})")


def _results(program: Program) -> Iterator[str]:
    """Yield docstring lines with the shape and dtype of each output; more than three equal ones share one line."""
    every = [(name, program.values[ref.name]) for name, ref in named_outputs(program.outputs)]
    for text, group in groupby(every, lambda one: f"{described(one[1].target_shape)}, {one[1].dtype}"):
        names = [name for name, _ in group]
        shown = [f"{names[0]} ... {names[-1]}"] if len(names) > 3 else names
        yield from (f"{name}: {text}" for name in shown)


def _inputs(program: Program, spelling: KerasSpelling, inputs: str) -> Iterator[str]:
    """Yield the lines that create the Keras inputs: a single input, or a list of several.

    Args:
        program: The program.
        spelling: The names of the variables.
        inputs: The name of the variable that the single input, or the list of inputs, is assigned to.
    """
    made = [_input(program, value) for value in program.inputs]
    variables = [spelling.value(value.name) for value in program.inputs]
    if len(made) == 1:
        yield from statement(4, f"{variables[0]} = {inputs} = {made[0]}")
        return
    yield f"    {inputs} = ["
    for one in made:
        yield from statement(8, f"{one},")
    yield "    ]"
    yield f"    {', '.join(variables)} = {inputs}"


def _input(program: Program, value: Value) -> str:
    sizes = tuple(size if isinstance(size, int) else None for size in value.target_shape[1:])
    options = "" if value.dtype.startswith("float") else f", dtype={quoted(spelled_dtype(value.dtype))}"
    name = identifier(program.input_names.get(value.name, value.name))
    name = f"{name}_input" if name in own_names() else name  # the name of an unnamed Keras operation
    return f"keras.Input({literal(sizes)}{options}, name={quoted(name)})"


def _returned(outputs: object, spelling: KerasSpelling) -> str:
    if isinstance(outputs, Ref):
        return spelling.returned(outputs.name)
    if isinstance(outputs, Mapping):
        items = (f"{quoted(str(name))}: {_returned(item, spelling)}" for name, item in outputs.items())
        return f"{{{', '.join(items)}}}"
    assert isinstance(outputs, tuple | list)
    parts = [*_items(outputs, spelling)]
    return parts[0][1:] if len(parts) == 1 and parts[0].startswith("*") else bracketed([*outputs], parts)


def _items(outputs: Sequence[object], spelling: KerasSpelling) -> Iterator[str]:
    """Yield the source code of the outputs in a sequence; a list that a loop of this code fills becomes `*values`."""
    names = [item.name if isinstance(item, Ref) else "" for item in outputs]
    place = 0
    while place < len(outputs):
        starts = (
            (name, len(values))
            for name, values in spelling.lists.items()
            if tuple(names[place : place + len(values)]) == values
        )
        name, length = next(starts, ("", 1))
        yield f"*{name}" if name else _returned(outputs[place], spelling)
        place += length
