"""Write the source code of a torch module.

Only identifiers and literals of the model get into the text: `names` creates names of letters, digits and underscores,
and `literal` accepts plain values only.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keras3conv.builder.passes.folding import folded
from keras3conv.builder.program.names import OWN_FUNCTIONS, OWN_LAYERS
from keras3conv.builder.program.operation import Operation, walk
from keras3conv.builder.program.program import Program, Step, Weight
from keras3conv.builder.program.structure import Block
from keras3conv.builder.program.variables import Names, variable_names
from keras3conv.builder.source.construction import arguments
from keras3conv.builder.source.formatting import (
    bracketed,
    comment_lines,
    docstring,
    literal,
    named_outputs,
    plain,
    quoted,
    statement,
)
from keras3conv.builder.source.frozen import NOTHING, Frozen, frozen_lines, mode_lines
from keras3conv.builder.source.rendering import rendered
from keras3conv.frameworks.torch import functions as torch_functions
from keras3conv.frameworks.torch.constructors import source_of
from keras3conv.model.graph import Ref, Shape, Size
from keras3conv.rules.rule import LayerSpec


@dataclass(frozen=True)
class _TorchSpelling:
    """The source code of values, modules, functions and dtypes in a torch module; see `rendering.Spelling`."""

    names: Names

    def value(self, name: str) -> str:
        """Return the name of the Python variable that holds a value."""
        return self.names.of[name]

    def symbol(self, name: str) -> str:
        """Return the name of the Python variable that holds a dynamic size."""
        return self.names.sizes[name]

    def module(self, name: str) -> str:
        """Return the source code that names a submodule, such as "self.conv1"."""
        return f"self.{name}"

    def function(self, name: str) -> str:
        """Return the name by which the file calls a function; functions of keras3conv are copied into the file."""
        if name.startswith(f"{OWN_FUNCTIONS}."):
            return name.rpartition(".")[2]
        return name.replace("torch.nn.functional.", "F.")

    def dtype(self, name: str) -> str:
        """Return the source code of a dtype, such as "torch.float32"."""
        return f"torch.{name}"


def write(program: Program, classes: Sequence[Block] = (), frozen: Frozen = NOTHING) -> str:
    """Return the text of `model.py`: the layers and functions of keras3conv that it needs, the blocks, the model.

    Args:
        program: The program of the model.
        classes: The blocks.
        frozen: The parts of the model that are not trained.
    """
    own = _own_layers(program, classes)
    parts = [source_of(name).strip() for name in _own_functions(program, classes)]
    parts += [source_of(kind).strip() for kind in own if kind.startswith("keras3conv.")]
    texts = [_class(block.name, block.program, _docstring_of_block(block), block.arguments) for block in classes]
    parts += ["\n".join(text) for text in (*texts, _class("Model", program, _docstring(program), {}, frozen))]
    body = "\n\n\n".join(parts)
    imports = ["import torch"]
    if "F." in body:
        imports.append("import torch.nn.functional as F")
    imports.append("from torch import nn")
    imports += [_imported(kind) for kind in own if not kind.startswith("keras3conv.")]
    return "\n".join([f'"""{_title(program)}"""', "", *imports, "", "", body, ""])


def _imported(kind: str) -> str:
    """Return the line that imports a torch class which a user-defined rule names."""
    module, _, name = kind.rpartition(".")
    return f"from {module} import {name}"


def construction(spec: LayerSpec) -> str:
    """Return the constructor call of a layer, such as "nn.Conv2d(3, 16, 3, padding=1)"."""
    if spec.kind.startswith("."):
        return f"{spec.kind[1:]}({', '.join(f'{name}={literal(value)}' for name, value in spec.config.items())})"
    return f"{_public(spec.kind)}({', '.join(arguments(spec))})"


def described(shape: Shape) -> str:
    """Return a shape as text for a docstring: "(batch, 3, 32, 32)", with "?" for a size that is not known."""
    sizes = ", ".join("?" if isinstance(size, Size) and "unknown" in size.symbols else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _own_layers(program: Program, classes: Sequence[Block]) -> list[str]:
    """Return the qualified names of the layer classes in a program and its blocks, except those that torch defines."""
    programs = [program, *(block.program for block in classes)]
    kinds = [module.spec.kind for one in programs for module in one.modules.values()]
    return [kind for kind in dict.fromkeys(kinds) if not kind.startswith(("torch.", "."))]


def _own_functions(program: Program, classes: Sequence[Block]) -> list[str]:
    """Return the qualified names of the functions of keras3conv that the source code needs.

    They are called by the program, by its blocks, or by a layer of keras3conv whose source code is copied into the
    file.
    """
    steps = [step for one in (program, *(block.program for block in classes)) for step in one.steps]
    nodes = [node for step in steps for node in walk(step.expression) if isinstance(node, Operation)]
    found = [node.name for node in nodes if node.name.startswith(f"{OWN_FUNCTIONS}.")]
    layers = [source_of(kind) for kind in _own_layers(program, classes) if kind.startswith(OWN_LAYERS)]
    found += [
        f"{OWN_FUNCTIONS}.{name}" for name in torch_functions.__all__ if any(f"{name}(" in text for text in layers)
    ]
    return list(dict.fromkeys(found))


def _class(
    name: str, program: Program, docstring: Iterable[str], arguments: Mapping[str, str], frozen: Frozen = NOTHING
) -> Iterable[str]:
    program = folded(program)
    names = variable_names(program)
    yield f"class {name}(nn.Module):"
    yield from docstring
    yield ""
    given = "".join(f", {argument}: {kind}" for argument, kind in arguments.items())
    yield from statement(4, f"def __init__(self{given}) -> None:")
    yield "        super().__init__()"
    for weight in program.weights.values():
        yield from _weight(weight)
    for module in program.modules.values():
        yield from statement(8, f"self.{module.name} = {construction(module.spec)}")
    yield from frozen_lines(frozen)
    yield from mode_lines(frozen)
    yield ""
    called = ", ".join(f"{names.arguments[value.name]}: torch.Tensor" for value in program.inputs)
    yield from statement(4, f"def forward(self, {called}) -> {_returned_type(program.outputs)}:")
    for symbol in names.sizes:
        value, position = program.sizes[symbol]
        yield f"        {names.sizes[symbol]} = {names.arguments[value]}.shape[{position}]"
    for step in program.steps:
        yield from comment_lines(8, step.comment)
        yield from statement(8, _assignment(step, names))
    yield from statement(8, f"return {_returned(program.outputs, names)}")


def _docstring_of_block(block: Block) -> Iterable[str]:
    if block.calls > 1:
        text = f"A part of the model that is called {block.calls} times, with the same weights."
        yield from docstring(4, text)
        return
    uses = list(block.uses)
    listed = ", ".join(uses if len(uses) <= 4 else [*uses[:2], "...", uses[-1]])
    yield from docstring(4, f"A part of the model that is used {len(uses)} times: {listed}.")


def _docstring(program: Program) -> Iterable[str]:
    names = variable_names(program)
    yield f'    """{_title(program)}'
    yield ""
    yield "    Shapes:"
    for value in program.inputs:
        yield f"        {names.arguments[value.name]}: {described(value.target_shape)}, {value.dtype}"
    for name, ref, output in zip(*_outputs(program), strict=True):
        value = program.values[ref.name]
        yield f"        {name}{output}: {described(value.target_shape)}, {value.dtype}"
    if program.remarks:
        yield from ("", "    Training:")
        for remark in program.remarks:
            yield from textwrap.wrap(plain(remark), 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
    yield '    """'


def _outputs(program: Program) -> tuple[list[str], list[Ref], list[str]]:
    """Return three lists about the outputs: expressions ('returns[0]'), references, and names (" (scores)").

    A name is that in the Keras model. It is empty for a single output, and for outputs in a dict, whose keys name them.
    """
    names, outputs = zip(*named_outputs(program.outputs), strict=True)
    is_named = 1 < len(outputs) == len(program.output_names) and not any('"' in name for name in names)
    given = program.output_names if is_named else [""] * len(outputs)
    return list(names), list(outputs), [f" ({plain(one)})" if one else "" for one in given]


def _title(program: Program) -> str:
    return f"The Keras model {plain(program.name)}, as a PyTorch module."


def _weight(weight: Weight) -> Iterable[str]:
    dtype = "" if weight.dtype == "float32" else f", dtype=torch.{weight.dtype}"
    sizes = ", ".join(map(literal, weight.shape)) or "()"
    made = f"torch.zeros({sizes}{dtype})"
    if weight.trainable:
        yield from statement(8, f"self.{weight.name} = nn.Parameter({made})")
    else:
        yield from statement(8, f'self.register_buffer("{weight.name}", {made})')


def _assignment(step: Step, names: Names) -> str:
    spelling = _TorchSpelling(names)
    variables = [names.of[name] for name in step.outputs]
    if step.overwrites and names.of[step.inputs[0]] == variables[0]:
        return f"{variables[0]} += {names.of[step.inputs[1]]}"
    return f"{', '.join(variables)} = {rendered(step.expression, spelling)}"


def _returned(outputs: object, names: Names) -> str:
    if isinstance(outputs, Ref):
        return names.of[outputs.name]
    if isinstance(outputs, Mapping):
        return "{" + ", ".join(f"{quoted(str(name))}: {_returned(item, names)}" for name, item in outputs.items()) + "}"
    assert isinstance(outputs, tuple | list)
    return bracketed(outputs, [_returned(item, names) for item in outputs])


def _returned_type(outputs: object) -> str:
    if isinstance(outputs, Ref):
        return "torch.Tensor"
    if isinstance(outputs, Mapping):
        return f"dict[str, {_joined(map(_returned_type, outputs.values()))}]"
    assert isinstance(outputs, tuple | list)
    if isinstance(outputs, list):
        return f"list[{_joined(map(_returned_type, outputs))}]"
    return f"tuple[{', '.join(map(_returned_type, outputs))}]"


def _joined(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _public(kind: str) -> str:
    """Return the name by which the source code uses a class, given the imports of the file, such as "nn.Linear"."""
    return kind.replace("torch.nn.", "nn.") if kind.startswith("torch.nn.") else kind.rpartition(".")[2]
