"""Define the segment, a part of a program that may become a block (a class), and what passes ask of statements."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from keras3conv.builder.program.operation import signature, transformed
from keras3conv.builder.program.program import Program, Step, is_module_call

_MODULE = "module"
"""A placeholder in the key of a statement, in the place of the name of a module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A sequence of adjacent statements of a program, which may become a block.

    Attributes:
        start: The index of the first statement.
        stop: The index after the last statement.
        inputs: The names of the values from outside the segment that its statements use, in order of use.
        path: The path of the source layer whose call the segment is; empty if it is not the call of a layer.
        calls: The paths of the source layers whose calls contain the segment, the outermost first.
        symbols: The names of the dynamic sizes that its statements use; only `repeated` sets this.
        key: A hash that is equal for segments with the same operations, connected in the same way; only `repeated` sets
            this.
    """

    start: int
    stop: int
    inputs: tuple[str, ...]
    path: str = ""
    calls: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    key: int = 0

    @property
    def length(self) -> int:
        """The number of statements in the segment."""
        return self.stop - self.start


def shape_of(step: Step) -> object:
    """Return a hashable value that is equal for statements that differ only in the names of values and modules."""
    return signature(with_modules(step.expression, lambda _: _MODULE))


def with_modules(expression: object, rename: Callable[[str], str]) -> object:
    """Return an expression with other names for the modules that it calls; `rename` returns the new name."""
    return transformed(expression, lambda node: replace(node, name=rename(node.name)) if is_module_call(node) else node)


def sizes_used(program: Program, segment: Segment) -> tuple[str, ...]:
    """Return the names of the dynamic sizes that a sequence of statements uses."""
    return symbols_in(program, program.steps[segment.start : segment.stop])


def symbols_in(program: Program, steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the names of the dynamic sizes that the given statements use."""
    used = {symbol for step in steps for symbol in step.symbols}
    return tuple(symbol for symbol in program.sizes if symbol in used)


def size_from(program: Program, inputs: Sequence[str], symbol: str) -> tuple[int, int] | None:
    """Find an input, among several, that has an axis of the given dynamic size.

    Returns:
        The index of the input and the position of the axis; None if no axis has this size.
    """
    for number, name in enumerate(inputs):
        for position, size in enumerate(program.values[name].target_shape):
            if str(size) == symbol:
                return number, position
    return None


def apart(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return segments (sequences of statements) in program order, without those that overlap an earlier one."""
    chosen: list[Segment] = []
    end = 0
    for segment in segments:
        if segment.start >= end:
            chosen.append(segment)
            end = segment.stop
    return tuple(chosen)


def prefix_of(paths: Sequence[str]) -> str:
    """Return the common prefix of layer names in whole words; an empty text for fewer than two names.

    The prefix of "conv2_block1_1_conv" and "conv2_block1_2_conv" is "conv2_block1_".
    """
    if len(paths) < 2:
        return ""
    first, last = min(paths), max(paths)
    common = next((first[:end] for end in range(len(first), 0, -1) if last.startswith(first[:end])), "")
    ends = [place for place, letter in enumerate(common) if letter in "_/."]
    is_whole = all(path == common or path[len(common) : len(common) + 1] in ("_", "/", ".") for path in paths)
    if is_whole and common and common[-1] not in "_/.":
        return common
    return common[: ends[-1] + 1] if ends else ""
