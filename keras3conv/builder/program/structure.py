"""Define `Structure`: a program with a class (`Block`) for each repeated part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.builder.program.program import Program

_ONE_FOR_ALL = frozenset(
    {
        "kernel_size", "stride", "strides", "padding", "dilation", "dilation_rate", "output_padding", "output_size",
        "pool_size", "size", "cropping",
    }
)  # fmt: skip
"""Arguments that torch and Keras accept as one number if all axes have the same: 3 for a kernel_size of (3, 3)."""

_ONE_PER_AXIS = frozenset({"padding", "cropping"})
"""Keras arguments with two numbers per axis, for its start and its end, which accept one number if both are equal."""


@dataclass(frozen=True)
class Argument:
    """A constructor argument of a block, by name: a value that differs between the block's instances."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """A class of the generated code, made from statements that repeat.

    Attributes:
        name: The name of the class.
        program: The statements, modules and weights of the class, with an `Argument` for each value that differs.
        arguments: The type annotation of each constructor argument, by its name: {"units": "int"}.
        uses: The attribute names of the instances of the class in the module that contains them.
        calls: The number of times that each instance is called.
    """

    name: str
    program: Program
    arguments: Mapping[str, str]
    uses: tuple[str, ...]
    calls: int = 1


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A program and its blocks.

    Attributes:
        program: The program in which the repeated statements are replaced by calls of block instances.
        blocks: The classes; a class uses only classes before it.
        paths: For each module and weight of the flat program, its new path: "stage1.conv" for "stage1_conv".
        constants: The source code of each constant that the file defines at its top, by its name.
    """

    program: Program
    blocks: tuple[Block, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> set[str]:
        """The names of the classes of all blocks."""
        return {"Model", *(block.name for block in self.blocks)}


def simplified(name: str, value: Any, kind: str) -> Any:
    """Return a constructor argument in its shortest form: (2, 2) as 2 if the layer accepts both, a list as a tuple.

    Args:
        name: The name of the argument, such as "strides".
        value: Its value.
        kind: The class of the layer, such as "keras.layers.Conv2D".
    """
    is_keras = kind.startswith("keras.layers.")
    if is_keras and name in _ONE_PER_AXIS and isinstance(value, tuple | list):
        equal = all(isinstance(pair, tuple | list) and len(pair) == 2 and pair[0] == pair[1] for pair in value)
        value = tuple(pair[0] for pair in value) if equal and len(value) > 1 else value
    has_one = name in _ONE_FOR_ALL and (kind.startswith("torch.") or is_keras)
    if has_one and isinstance(value, tuple | list) and len(set(value)) == 1 and isinstance(value[0], int):
        return value[0]
    if kind.startswith("torch.") and name == "normalized_shape" and isinstance(value, tuple | list) and len(value) == 1:
        return value[0]
    return tuple(value) if isinstance(value, list) else value
