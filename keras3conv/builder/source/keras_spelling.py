"""Write the leaves of expressions in the source code of a Keras model: layers, values, constants, dtypes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import isclose
from typing import Any

from keras3conv.builder.program.loop import Loop
from keras3conv.builder.program.names import OWN_KERAS_FUNCTIONS, function_identifier, identifier, unique
from keras3conv.builder.program.operation import Operation, transformed
from keras3conv.builder.program.program import Module, Program, Weight, is_module_call
from keras3conv.builder.program.structure import Argument
from keras3conv.builder.source.construction import arguments
from keras3conv.builder.source.formatting import literal, quoted
from keras3conv.errors import RuleError
from keras3conv.model.graph import Ref
from keras3conv.rules.rule import LayerSpec
from keras3conv.transforms import Array

_LAYERS = "keras.layers"

_INLINE = 24
"""The largest number of elements of a constant that is written in the source code; a larger one is stored in a file."""

_LONG = 60
"""The number of characters from which the source code of a constant moves to the top of the file."""


@dataclass
class KerasSpelling:
    """The source code of values, layers, functions and dtypes in a Keras model; see `rendering.Spelling`.

    Attributes:
        program: The program.
        variables: The name of the variable that holds each value.
        layers: The variables of the layers that are called several times, by the name of the layer.
        defaults: For each block, the default values of its function's arguments.
        is_function: Whether the source code is that of the function of a block.
        loop: The loop that contains the source code; None outside of loops.
        lists: For each list to which a loop adds a value in every iteration, the names of these values in the program.
    """

    program: Program
    variables: Mapping[str, str]
    layers: dict[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_function: bool = False
    loop: Loop | None = None
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """Return the variable name of a value, or the source code of a constant."""
        if name in self.program.weights:
            return _constant(self.program.weights[name])
        return self.variables[name]

    def returned(self, name: str) -> str:
        """Return the source code of an output: an item of a list to which a loop adds its values, or a variable."""
        places = ((variable, values.index(name)) for variable, values in self.lists.items() if name in values)
        return next((f"{variable}[{place}]" for variable, place in places), "") or self.value(name)

    def symbol(self, name: str) -> str:
        """Raise `RuleError`: no operation of a functional model accepts a dynamic size as an argument."""
        raise RuleError(
            f"the dynamic size {name} is used as a number, but a functional Keras model accepts dynamic sizes only in "
            "shapes"
        )

    def module(self, name: str) -> str:
        """Return the variable of a layer that is called several times; for any other layer, its constructor call."""
        return self.layers.get(name) or construction(self.module_of(name).spec, self.name(name))

    def module_of(self, name: str) -> Module:
        """Return the module with this name; inside a loop, the module that represents those of all iterations."""
        return self.loop.modules[name] if self.loop and name in self.loop.modules else self.program.modules[name]

    def name(self, name: str) -> str:
        """Return the source code of a layer's name.

        It is a string, an f-string with the variable of the loop, or, in the function of a block, an f-string that
        starts with the function's argument `name`.

        Args:
            name: The name of the module in the program.
        """
        variable = self.loop.variable if self.loop else ""
        shown = self.loop.labels.get(name, name).replace("{}", f"{{{variable}}}") if self.loop else name
        if shown == f"{{{variable}}}" and not self.is_function:
            return variable
        if self.is_function:
            shown = f"{{name}}_{shown}"
        return f'f"{shown}"' if "{" in shown else quoted(shown)

    def expression(self, expression: Any) -> Any:
        """Return an expression in which each call of a block (a repeated part) is a call of the block's function."""

        def called(node: Any) -> Any:
            if not is_module_call(node) or not self.module_of(node.name).spec.kind.startswith("."):
                return node
            spec = self.module_of(node.name).spec
            name, defaults = function_identifier(spec.kind[1:]), self.defaults.get(spec.kind, {})
            config = {key: one for key, one in spec.config.items() if key not in defaults or one != defaults[key]}
            return Operation("function", name, (*node.args, Argument(self.name(node.name))), config)

        return transformed(expression, called)

    def function(self, name: str) -> str:
        """Return the name by which the file calls a function, "ops.relu"; the file has copies of keras3conv's."""
        return name.removeprefix("keras.").removeprefix(f"{OWN_KERAS_FUNCTIONS}.")

    def dtype(self, name: str) -> str:
        """Return the source code of a dtype: every floating-point dtype becomes the dtype in which the model runs."""
        if name.startswith(("float", "bfloat")):
            return "keras.config.floatx()"
        return quoted(spelled_dtype(name))


def spelled_dtype(name: str) -> str:
    """Return the Keras dtype for a torch dtype: int32 for int64, as integers have 32 bits on every backend."""
    return "int32" if name == "int64" else name


def is_inline(array: Array) -> bool:
    """Return whether a constant is written into the source code: it is small, or all its elements are equal."""
    return array.size <= _INLINE or _is_uniform(array)


def _is_uniform(array: Array) -> bool:
    """Return whether a constant has several elements, and all are equal bit for bit."""
    return array.size > 1 and array.tobytes() == array.flat[0].tobytes() * array.size


def with_constants(program: Program) -> tuple[Program, dict[str, str]]:
    """Return the program with each constant replaced by its source code, and the code of the long constants by name."""
    codes = {name: _constant(weight) for name, weight in program.weights.items()}
    long = [name for name, code in codes.items() if len(code) > _LONG and not code.startswith("CONSTANTS[")]
    constants: dict[str, str] = {}
    for name in long:
        known = next((known for known, code in constants.items() if code == codes[name]), "")
        variable = known or unique(_in_capitals(program.weights[name].name), {*constants, "CONSTANTS"})
        constants[variable] = codes[name]
        codes[name] = variable
    placed = {name: Argument(code) for name, code in codes.items()}
    steps = (replace(step, expression=transformed(step.expression, partial(_placed, placed))) for step in program.steps)
    return replace(program, steps=tuple(steps)), constants


def _in_capitals(name: str) -> str:
    """Return the name that a constant gets at the top of the file: "COS" for "cos_layer_1".

    Numbers and the word "layer" are removed, because they only made the name unique in the program.
    """
    words = [word for word in identifier(name).split("_") if word and not word.isdecimal() and word != "layer"]
    return "_".join(words).upper() or "TABLE"


def _placed(codes: Mapping[str, Argument], node: Any) -> Any:
    return codes.get(node.name, node) if isinstance(node, Ref) else node


def construction(spec: LayerSpec, name: str = "") -> str:
    """Return the constructor call of a layer: `layers.Conv2D(64, 3, padding="same", name="conv1")`.

    Args:
        spec: The layer.
        name: The source code of the layer's name; empty to leave the argument out.
    """
    named = [f"name={name}"] if name else []
    module, _, own = spec.kind.rpartition(".")
    cls = f"layers.{own}" if module == _LAYERS else own
    return f"{cls}({', '.join([*arguments(spec, _written), *named])})"


def _written(value: Any) -> str:
    """Return the source code of a constructor argument; a serialised layer (a dict) becomes its constructor call."""
    if isinstance(value, Mapping):
        return construction(LayerSpec(kind=f"keras.layers.{value['class_name']}", config=value["config"]))
    if isinstance(value, float):
        short = float(f"{value:.9g}")  # 0.97 for 1 - 0.03, which is not exactly 0.97
        return literal(short if isclose(short, value, rel_tol=1e-12) else value)
    return literal(value)


def _constant(weight: Weight) -> str:
    assert weight.array is not None
    if not is_inline(weight.array):
        return f"CONSTANTS[{quoted(weight.name)}]"
    dtype = quoted(weight.array.dtype.name)
    if not _is_uniform(weight.array):
        return f"np.array({literal(weight.array.tolist())}, {dtype})"
    value = weight.array.flat[0].item()
    if str(value) in ("0", "1", "0.0", "1.0"):
        return f"np.{'ones' if value else 'zeros'}({weight.array.shape}, {dtype})"
    return f"np.full({weight.array.shape}, {literal(value)}, {dtype})"
