"""Write the source code of a functional Keras model: a function `build_model`, and a function per repeated block.

Only identifiers and literals of the model get into the text: `names` creates names of letters, digits and underscores,
and `literal` accepts plain values only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.operation import Operation, transformed
from keras3conv.builder.program.program import Program, Step, Value, Weight, is_module_call
from keras3conv.builder.program.structure import Argument, Block, Structure
from keras3conv.builder.program.variables import Names, variable_names
from keras3conv.builder.source.construction import arguments
from keras3conv.builder.source.formatting import bracketed, docstring, literal, quoted, statement
from keras3conv.builder.source.rendering import rendered
from keras3conv.errors import RuleError
from keras3conv.model.graph import Ref, Shape, Size, refs
from keras3conv.rules.rule import LayerSpec
from keras3conv.transforms import Array

_INLINE = 24
"""The largest number of elements of a constant in the source code; a larger constant is stored in a file."""

_LOADING = ('with np.load(Path(__file__).with_name("constants.npz")) as arrays:', "    CONSTANTS = dict(arrays)")

_TAKEN = frozenset({"CONSTANTS", "keras", "layers", "np", "ops", "Path"})


@dataclass
class _KerasSpelling:
    """The spelling of values, layers, functions and dtypes in a Keras model; see `rendering.Spelling`."""

    program: Program
    names: Names
    layers: dict[str, str] = field(default_factory=dict)
    taken: frozenset[str] = _TAKEN
    is_function: bool = False

    def value(self, name: str) -> str:
        """Return the variable name of a value, or the source code of a constant."""
        if name in self.program.weights:
            return _constant(self.program.weights[name])
        variable = self.names.of[name]
        return f"{variable}_" if variable in self.taken else variable

    def symbol(self, name: str) -> str:
        """Raise `RuleError`: no operation of a functional model accepts a dynamic size as an argument."""
        raise RuleError(f"the dynamic size {name} is used as a number, which a functional model does not support")

    def module(self, name: str) -> str:
        """Return the variable of a layer that is called several times, or the constructor call of any other layer."""
        return self.layers.get(name) or construction(self.program.modules[name].spec, self.name(name))

    def name(self, name: str) -> str:
        """Return the source code of a layer's name: a string, or in a block an f-string with the prefix `name`."""
        return f'f"{{name}}_{name}"' if self.is_function else quoted(name)

    def expression(self, expression: Any) -> Any:
        """Return an expression in which calls of blocks are replaced by calls of their functions."""

        def called(node: Any) -> Any:
            if not is_module_call(node) or not self.program.modules[node.name].spec.kind.startswith("."):
                return node
            spec = self.program.modules[node.name].spec
            name = identifier(spec.kind[1:])
            return Operation("function", name, (*node.args, Argument(self.name(node.name))), spec.config)

        return transformed(expression, called)

    def function(self, name: str) -> str:
        """Return the name of a function in the source code, given the imports of the file."""
        return name.removeprefix("keras.")

    def dtype(self, name: str) -> str:
        """Return the source code of a dtype; every floating-point dtype is that of the model."""
        if name.startswith(("float", "bfloat")):
            return "keras.config.floatx()"
        return quoted(_dtype(name))


def _dtype(name: str) -> str:
    """Return the Keras dtype for a torch dtype: int32 for int64, as integers have 32 bits on every backend."""
    return "int32" if name == "int64" else name


def is_inline(array: Array) -> bool:
    """Return whether a constant is small enough to be written into the source code."""
    return array.size <= _INLINE


def with_constants(program: Program) -> Program:
    """Return the program in which each constant is replaced by its source code."""
    codes = {name: Argument(_constant(weight)) for name, weight in program.weights.items()}
    steps = (replace(step, expression=transformed(step.expression, partial(_placed, codes))) for step in program.steps)
    return replace(program, steps=tuple(steps))


def _placed(codes: Mapping[str, Argument], node: Any) -> Any:
    return codes.get(node.name, node) if isinstance(node, Ref) else node


def write(structure: Structure) -> str:
    """Return the text of `model.py`."""
    program = structure.program
    functions = ["\n".join(_block(block)) for block in structure.blocks]
    body = "\n\n\n".join([*functions, "\n".join(_function(program))])
    imports = ["import keras"]
    if "CONSTANTS[" in body:
        imports = ["from pathlib import Path", "", *imports]
    if "np." in body or "CONSTANTS[" in body:
        imports.append("import numpy as np")
    names = [name for name in ("layers", "ops") if f"{name}." in body]
    imports += [f"from keras import {', '.join(names)}"] if names else []
    constants = ["", *_LOADING] if "CONSTANTS[" in body else []
    return "\n".join([f'"""{_title(program)}"""', "", *imports, *constants, "", "", body, ""])


def _block(block: Block) -> Iterator[str]:
    """Yield the lines of the function for a repeated block."""
    program = block.program
    names = variable_names(program)
    taken = frozenset({*_TAKEN, "name", *block.arguments})
    spelling = _KerasSpelling(program, names, taken=taken, is_function=True)
    given = [spelling.value(value.name) for value in program.inputs]
    yield from statement(0, f"def {identifier(block.name)}({', '.join([*given, 'name', *block.arguments])}):")
    uses = list(block.uses)
    listed = ", ".join(uses if len(uses) <= 4 else [*uses[:2], "...", uses[-1]])
    yield from docstring(4, f"Call the layers of one of {len(uses)} equal parts: {listed}.")
    used = {*names.of.values(), *taken}
    for step in program.steps:
        yield from _step(program, step, spelling, used)
    yield f"    return {_returned(program.outputs, spelling)}"


def _title(program: Program) -> str:
    return f"The PyTorch module {''.join(one for one in program.name if one.isidentifier())}, as a Keras 3 model."


def construction(spec: LayerSpec, name: str = "") -> str:
    """Return the constructor call of a layer: `layers.Conv2D(64, 3, padding="same", name="conv1")`.

    Args:
        spec: The layer.
        name: The code of its name.
    """
    named = [f"name={name}"] if name else []
    return f"layers.{spec.kind.rpartition('.')[2]}({', '.join([*arguments(spec, _written), *named])})"


def _written(value: Any) -> str:
    """Return the source code of an argument; a serialised layer becomes its constructor call."""
    if isinstance(value, Mapping):
        return construction(LayerSpec(kind=f"keras.layers.{value['class_name']}", config=value["config"]))
    if isinstance(value, float):
        return literal(float(f"{value:.12g}"))  # rounded, because 1 - 0.1 is not exactly 0.9
    return literal(value)


def described(shape: Shape) -> str:
    """Return a shape for documentation: "(batch, 32, 32, 3)"."""
    return bracketed(
        shape, ["?" if isinstance(size, Size) and "unknown" in size.symbols else str(size) for size in shape]
    )


def _function(program: Program) -> Iterator[str]:
    names = variable_names(program)
    spelling = _KerasSpelling(program, names)
    yield "def build_model() -> keras.Model:"
    yield '    """Return the model with new weights; `load_weights` gives it the converted ones.'
    yield ""
    yield "    Shapes:"
    for value in program.inputs:
        yield f"        {names.arguments[value.name]}: {described(value.target_shape)}, {value.dtype}"
    for ref in refs(program.outputs):
        yield f"        returns: {described(program.values[ref.name].target_shape)}, {program.values[ref.name].dtype}"
    yield '    """'
    inputs = unique("inputs", {*names.of.values()})
    yield from _inputs(program, names, spelling, inputs)
    taken = {*names.of.values(), inputs, *_TAKEN}
    for step in program.steps:
        yield from _step(program, step, spelling, taken)
    returned = _returned(program.outputs, spelling)
    name = quoted(identifier(program.name))
    yield from statement(4, f"return keras.Model({inputs}, {returned}, name={name})")


def _inputs(program: Program, names: Names, spelling: _KerasSpelling, inputs: str) -> Iterator[str]:
    """Yield the statements that create the inputs: one, or a list of several."""
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
    options = "" if value.dtype.startswith("float") else f", dtype={quoted(_dtype(value.dtype))}"
    name = identifier(program.input_names.get(value.name, value.name))
    return f"keras.Input({literal(sizes)}{options}, name={quoted(name)})"


def _step(program: Program, step: Step, spelling: _KerasSpelling, taken: set[str]) -> Iterator[str]:
    is_layer = step.module and not program.modules[step.module].spec.kind.startswith(".")
    if is_layer and program.module_uses[step.module] > 1 and step.module not in spelling.layers:
        variable = unique(f"{step.module}_layer", taken)
        yield from statement(
            4, f"{variable} = {construction(program.modules[step.module].spec, spelling.name(step.module))}"
        )
        taken.add(variable)
        spelling.layers[step.module] = variable
    outputs = ", ".join(spelling.value(name) for name in step.outputs)
    yield from statement(4, f"{outputs} = {rendered(spelling.expression(step.expression), spelling)}")


def _constant(weight: Weight) -> str:
    assert weight.array is not None
    if not is_inline(weight.array):
        return f"CONSTANTS[{quoted(weight.name)}]"
    return f"np.array({literal(weight.array.tolist())}, {quoted(weight.array.dtype.name)})"


def _returned(outputs: object, spelling: _KerasSpelling) -> str:
    if isinstance(outputs, Ref):
        return spelling.value(outputs.name)
    if isinstance(outputs, Mapping):
        items = (f"{quoted(str(name))}: {_returned(item, spelling)}" for name, item in outputs.items())
        return f"{{{', '.join(items)}}}"
    assert isinstance(outputs, tuple | list)
    return bracketed([*outputs], [_returned(item, spelling) for item in outputs])


__all__ = ["construction", "described", "is_inline", "with_constants", "write"]
