"""A program with classes of its own: what repeated statements became."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.builder.program.program import Program


@dataclass(frozen=True)
class Argument:
    """An argument of a block's constructor, where a value stands that differs from use to use."""

    name: str


_ONE_FOR_ALL = frozenset({"kernel_size", "stride", "padding", "dilation", "output_padding", "output_size"})
"""What may be one number where it is the same along every axis."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A class for statements that repeat each other.

    Attributes:
        name: The name of the class.
        program: Its statements, modules and weights, in which `Argument`s stand for what differs.
        arguments: The names of the constructor's arguments, each with its type as it is written.
        uses: What the modules are called that are of this class.
        calls: How often each of them is called.
    """

    name: str
    program: Program
    arguments: Mapping[str, str]
    uses: tuple[str, ...]
    calls: int = 1


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A program with its blocks.

    Attributes:
        program: The statements that are left, with a module for each use of a block.
        blocks: The classes; each uses only what stands before it.
        paths: Where a module or a weight of the flat program is now: "stage1.conv" for "stage1_conv".
    """

    program: Program
    blocks: tuple[Block, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> set[str]:
        """The names that no other class may have."""
        return {"Model", *(block.name for block in self.blocks)}


__all__ = ["Block", "Structure"]


def simplified(name: str, value: Any, kind: str) -> Any:
    """One number for a tuple of equal ones, where a class of torch takes either; lists as tuples."""
    if kind.startswith("torch.") and name in _ONE_FOR_ALL and isinstance(value, tuple | list) and len(set(value)) == 1:
        return value[0]
    if kind.startswith("torch.") and name == "normalized_shape" and isinstance(value, tuple | list) and len(value) == 1:
        return value[0]
    return tuple(value) if isinstance(value, list) else value
