"""The text of a torch module: what is written is what is proven, and what a person reads.

Only identifiers and literals get into the text: names are made of letters, digits and underscores by `names`, values
are written by `literal`, which knows plain values alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from keras3conv.builder.passes.folding import folded
from keras3conv.builder.program.program import Program, Step, Value, Weight
from keras3conv.builder.program.structure import simplified
from keras3conv.builder.program.variables import Names, variable_names
from keras3conv.builder.source.formatting import comment_lines, docstring, literal, quoted, statement
from keras3conv.builder.source.frozen import NOTHING, Frozen, frozen_lines, mode_lines
from keras3conv.frameworks.torch.constructors import REQUIRED, constructor, source_of
from keras3conv.model.graph import Ref, Shape, Size, refs
from keras3conv.rules.rule import LayerSpec

OWN_FUNCTIONS = "keras3conv.frameworks.torch.functions"
"""Where the functions of our own are; their text is copied into what is generated."""


class Class(Protocol):
    """A class that repeated statements became; see `structure.Block`."""

    @property
    def name(self) -> str:
        """The name of the class."""

    @property
    def program(self) -> Program:
        """Its statements."""

    @property
    def arguments(self) -> Mapping[str, str]:
        """The constructor's arguments, each with its type."""

    @property
    def uses(self) -> tuple[str, ...]:
        """What the modules of this class are called."""

    @property
    def calls(self) -> int:
        """How often each of them is called."""


def write(program: Program, classes: Sequence[Class] = (), frozen: Frozen = NOTHING) -> str:
    """The text of `model.py`: our own layers that it needs, the blocks, the model."""
    own = _own_layers(program, classes)
    parts = [source_of(f"{OWN_FUNCTIONS}.{name}").strip() for name in _own_functions(program, classes)]
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
    """The line for a class of the user's, for which the user registered a rule."""
    module, _, name = kind.rpartition(".")
    return f"from {module} import {name}"


def construction(spec: LayerSpec) -> str:
    """The expression that makes a layer: "nn.Conv2d(3, 16, 3, padding=1)".

    What has no default stands in front, by its place; the rest by name, and only where it is not what torch assumes.
    """
    if spec.kind.startswith("."):
        return f"{spec.kind[1:]}({', '.join(f'{name}={literal(value)}' for name, value in spec.config.items())})"
    parameters = constructor(spec.kind)
    config = {name: simplified(name, value, spec.kind) for name, value in spec.config.items()}
    pools = spec.kind.startswith("torch.") and parameters.get("stride", 1) is None  # as far as its window is wide
    given = []
    for name, default in parameters.items():
        if name not in config:
            continue
        value = config[name]
        if default is REQUIRED:
            given.append(literal(value))
        elif value != default and not (pools and name == "stride" and value == config.get("kernel_size")):
            given.append(f"{name}={literal(value)}")
    return f"{_public(spec.kind)}({', '.join(given)})"


def described(shape: Shape) -> str:
    """A shape for a reader: "(batch, 3, 32, 32)"; "?" for a size that is no plain product of those of the inputs."""
    sizes = ", ".join("?" if isinstance(size, Size) and "unknown" in size.symbols else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _own_layers(program: Program, classes: Sequence[Class]) -> list[str]:
    """The kinds of our own layers in a program and its blocks."""
    programs = [program, *(block.program for block in classes)]
    kinds = [module.spec.kind for one in programs for module in one.modules.values()]
    return [kind for kind in dict.fromkeys(kinds) if not kind.startswith(("torch.", "."))]


def _own_functions(program: Program, classes: Sequence[Class]) -> list[str]:
    """The functions of our own that stand in the statements of a program and its blocks."""
    templates = [step.template for one in (program, *(block.program for block in classes)) for step in one.steps]
    return ["pad_same"] if any(template.startswith("pad_same(") for template in templates) else []


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
        value, place = program.sizes[symbol]
        yield f"        {names.sizes[symbol]} = {names.arguments[value]}.shape[{place}]"
    for step in program.steps:
        yield from comment_lines(8, step.comment)
        yield from statement(8, _assignment(step, program, names))
    yield from statement(8, f"return {_returned(program.outputs, names)}")


def _docstring_of_block(block: Class) -> Iterable[str]:
    if block.calls > 1:
        text = f"A part of the model that is called {block.calls} times, with the same weights."
        yield from docstring(4, text)
        return
    uses = list(block.uses)
    told = ", ".join(uses if len(uses) <= 4 else [*uses[:2], "...", uses[-1]])
    yield from docstring(4, f"A part of the model that stands in it {len(uses)} times: {told}.")


def _docstring(program: Program) -> Iterable[str]:
    names = variable_names(program)
    yield f'    """{_title(program)}'
    yield ""
    yield "    Shapes:"
    for value in program.inputs:
        yield f"        {names.arguments[value.name]}: {described(value.torch_shape)}, {value.dtype}"
    for name, value in _named_outputs(program):
        yield f"        {name}: {described(value.torch_shape)}, {value.dtype}"
    yield '    """'


def _title(program: Program) -> str:
    safe = "".join(
        letter if (letter.isalnum() and letter.isascii()) or letter in "_-. " else "_" for letter in program.name
    )
    return f"The Keras model {safe}, as a PyTorch module."


def _named_outputs(program: Program) -> list[tuple[str, Value]]:
    found = [program.values[ref.name] for ref in refs(program.outputs)]
    return [("returns" if len(found) == 1 else f"returns[{place}]", value) for place, value in enumerate(found)]


def _weight(weight: Weight) -> Iterable[str]:
    dtype = "" if weight.dtype == "float32" else f", dtype=torch.{weight.dtype}"
    sizes = ", ".join(map(literal, weight.shape)) or "()"
    made = f"torch.zeros({sizes}{dtype})"
    if weight.trainable:
        yield from statement(8, f"self.{weight.name} = nn.Parameter({made})")
    else:
        yield from statement(8, f'self.register_buffer("{weight.name}", {made})')


def _assignment(step: Step, program: Program, names: Names) -> str:
    given = [names.used(step, place) for place in range(len(step.inputs))]
    module = f"self.{step.module}" if step.module else ""
    if step.overwrites and given[0] == names.of[step.outputs[0]]:
        return f"{given[0]} += {given[1]}"
    right = step.template.format(*given, module=module, **names.sizes)
    return f"{', '.join(names.of[name] for name in step.outputs)} = {right}"


def _returned(outputs: object, names: Names) -> str:
    if isinstance(outputs, Ref):
        return names.last[outputs.name]
    if isinstance(outputs, Mapping):
        return "{" + ", ".join(f"{quoted(str(name))}: {_returned(item, names)}" for name, item in outputs.items()) + "}"
    assert isinstance(outputs, tuple | list)
    inner = ", ".join(_returned(item, names) for item in outputs)
    return f"[{inner}]" if isinstance(outputs, list) else f"({inner}{',' * (len(outputs) == 1)})"


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
    """The name of a class as the text imports it."""
    return kind.replace("torch.nn.", "nn.") if kind.startswith("torch.nn.") else kind.rpartition(".")[2]


__all__ = ["construction", "described", "simplified", "write"]
