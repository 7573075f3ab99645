"""Collapse repeated blocks to one line: `layer1.0` and `layer1.1` to `layer1.{0..1}`.

A collapsed line represents exactly the paths that it was made from. A row of paths may name a torch layer and its Keras
layer. All numbers then advance together: `block.{0..2} <-> block_{1..3}` pairs 0 with 1, 1 with 2, and 2 with 3. A
range with a step other than one is written `{1..7..3}`: 1, 4, 7. `{=}` repeats the number before it in the same path:
`block{1..3}/block{=}_conv` are three paths, not nine.
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import sub
from typing import NamedTuple

# A number with leading zeros counts as text, because an integer would lose the zeros. So does one of over 9 digits.
_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?![0-9])")
_DIGITS = "0123456789"
_MOST = 10**9
"""The first number that has too many digits to be collapsed."""

_SAME = "{=}"

_Cell = int | range | str
"""A number in a path, a range of numbers, or `_SAME` if the number equals the one before it in its path."""


@dataclass(frozen=True, kw_only=True)
class Collapsed:
    """One line of a message that represents several rows; a row is a tuple of paths.

    Attributes:
        paths: A path pattern for every column: ("layer1.{0..1}", "block_{1..2}").
        places: The indices of the collapsed rows, in order.
    """

    paths: tuple[str, ...]
    places: tuple[int, ...]


_Template = tuple[tuple[str, ...], ...]
"""The text of the paths of a row, without numbers: for each path, the pieces of text between its numbers."""


class _Block(NamedTuple):
    """A block: rows of a table whose paths differ only in numbers, printed as one line: "layers.{0..11}.fc".

    Attributes:
        cells: The numbers in the paths, or the ranges of them, in order.
        columns: For each of these numbers, the column of the path that contains it.
        places: The indices of the rows in the table.
    """

    cells: tuple[_Cell, ...]
    columns: tuple[int, ...]
    places: tuple[int, ...]


def collapse(rows: Sequence[tuple[str, ...]], keys: Sequence[Hashable] | None = None) -> list[Collapsed]:
    """Collapse rows of paths that differ only in consecutive numbers, so that each line stands for several rows.

    Args:
        rows: The rows, each a tuple of paths.
        keys: A key for each row; only rows with equal keys are collapsed. None treats all keys as equal.

    Returns:
        The lines, in the order of their first rows.

    Example:
        >>> [line.paths for line in collapse([("conv0", "conv_1"), ("conv1", "conv_2"), ("fc", "dense")])]
        [('conv{0..1}', 'conv_{1..2}'), ('fc', 'dense')]
    """
    groups: dict[tuple[_Template, Hashable], tuple[list[tuple[int, ...]], list[int]]] = {}
    keys = [None] * len(rows) if keys is None else keys
    place = 0
    for template, numbers in _templates(rows, keys):
        group = groups.get((template, keys[place]))
        if group is None:
            group = groups[template, keys[place]] = [], []
        group[0].extend(numbers)
        group[1].extend(range(place, place + len(numbers)))
        place += len(numbers)
    lines = [
        Collapsed(paths=_written(template, block.cells), places=block.places)
        for (template, _), (numbers_of_rows, places) in groups.items()
        for block in _merged(_blocks(template, numbers_of_rows, places))
    ]
    return sorted(lines, key=lambda line: line.places)


def _templates(
    rows: Sequence[tuple[str, ...]], keys: Sequence[Hashable]
) -> Iterator[tuple[_Template, Sequence[tuple[int, ...]]]]:
    """Yield the template of consecutive rows with equal keys, and the numbers in the paths of each of these rows."""
    if rows and keys.count(keys[0]) == len(keys) and (numbers := _successive(rows)):
        yield _template(rows[0])[0], numbers
        return
    place = 0
    for _, run in groupby(zip(map(_beginning, rows), keys, strict=False)):
        length = sum(1 for _ in run)
        yield from _split(rows[place : place + length])
        place += length


def _successive(rows: Sequence[tuple[str, ...]]) -> list[tuple[int]]:
    """Return the number of each row if the rows are one path with successive numbers, such as "l0", "l1"; else nothing.

    This is much faster than to split each of 100,000 paths.
    """
    texts, numbers = _template(rows[0])
    if len(rows) < 2 or len(rows[0]) != 1 or len(numbers) != 1:
        return []
    (before, after), found = texts[0], range(numbers[0], numbers[0] + len(rows))
    if found[-1] >= _MOST or rows[-1] != (f"{before}{found[-1]}{after}",):
        return []
    return list(zip(found, strict=True)) if [(f"{before}{number}{after}",) for number in found] == list(rows) else []


def _beginning(row: tuple[str, ...]) -> str:
    """Return the only path of a row without the digits at its end; empty if there are several paths."""
    return row[0].rstrip(_DIGITS) if len(row) == 1 else ""


def _split(rows: Sequence[tuple[str, ...]]) -> Iterator[tuple[_Template, list[tuple[int, ...]]]]:
    """Yield the template of rows with equal beginnings, and the numbers in the paths of each row with this template."""
    texts, numbers = _template(rows[0])
    if len(rows) > 1 and len(rows[0]) == len(numbers) == 1 and texts[0][1] == "":  # the only number is at the end
        length = len(texts[0][0])
        digits = [path[length:] for (path,) in rows]
        if max(map(len, digits)) < 10 and all(digits):
            found = list(map(int, digits))
            if list(map(str, found)) == digits:  # much faster than to split each of 100,000 paths
                yield texts, [(number,) for number in found]
                return
    for row in rows:
        texts, numbers = _template(row)
        yield texts, [numbers]


def _template(row: tuple[str, ...]) -> tuple[_Template, tuple[int, ...]]:
    """Return the text of the paths of a row without numbers, and the numbers in them."""
    several = [_NUMBER.split(path) for path in row]
    texts = tuple([tuple(parts[::2]) for parts in several])
    return texts, tuple([int(number) for parts in several for number in parts[1::2]])


def _blocks(template: _Template, numbers: Sequence[tuple[int, ...]], places: Sequence[int]) -> list[_Block]:
    """Return a block for each row of paths; successive rows whose only number increases by one share a block.

    Args:
        template: The text of the paths of all rows, without numbers.
        numbers: For each row, the numbers in its paths.
        places: The indices of the rows, ascending.
    """
    columns = tuple(column for column, pieces in enumerate(template) for _ in pieces[1:])
    if len(columns) != 1:
        return [_Block(row, columns, (place,)) for row, place in zip(numbers, places, strict=True)]
    own = [number for (number,) in numbers]
    stops = [stop for stop, (before, after) in enumerate(pairwise(own), 1) if after != before + 1]
    blocks = []
    for start, stop in pairwise([0, *stops, len(own)]):
        cell = range(own[start], own[stop - 1] + 1) if stop - start > 1 else own[start]
        blocks.append(_Block((cell,), columns, tuple(places[start:stop])))
    return blocks


def _merged(blocks: list[_Block]) -> list[_Block]:
    """Merge blocks with equal text between their numbers along each number, the last one first, and return the rest."""
    for position in reversed(range(len(blocks[0].cells))):
        blocks = _merged_along(blocks, position)
    return blocks


def _merged_along(blocks: list[_Block], position: int) -> list[_Block]:
    """Merge successive blocks in which the number at this position increases by one, and the others by a constant.

    Returns:
        The merged and the unmerged blocks, in the order of their rows.
    """
    if all(block.cells[position] == blocks[0].cells[position] for block in blocks):
        return blocks
    merged: list[_Block] = []
    for bucket in _buckets(blocks, position):
        start = 0
        while start < len(bucket):
            end = start + _run(bucket, start, position)
            merged.append(_joined(bucket[start:end]))
            start = end
    return sorted(merged, key=lambda block: block.places)


def _buckets(blocks: list[_Block], position: int) -> Iterable[list[_Block]]:
    """Group blocks with equal numbers before a position: `a.1.0` with `a.1.1`."""
    buckets: dict[tuple[_Cell, ...], list[_Block]] = {}
    for block in blocks:
        buckets.setdefault(block.cells[:position], []).append(block)
    return buckets.values()


def _run(blocks: Sequence[_Block], start: int, position: int) -> int:
    """Return how many blocks from `start` on can be merged: the steps between them are equal, at `position` one."""
    step = _steps(blocks[start], blocks[start + 1]) if start + 1 < len(blocks) else None
    if step is None or step[position] != 1 or min(step) < 0 or not _is_exact(blocks[start], step):
        return 1
    end = start + 2
    # With equal steps, a pattern that can express the first step can express the others.
    while end < len(blocks) and _steps(blocks[end - 1], blocks[end]) == step:
        end += 1
    # Any two numbers have a difference; only a third number confirms that it is a step.
    return end - start if end > start + 2 or set(step) <= {0, 1} else 1


def _steps(before: _Block, after: _Block) -> tuple[int, ...] | None:
    """Return the increase of every number from one block to the next; None if the blocks differ in something else."""
    if len(before.places) == len(after.places) == 1:
        return tuple(map(sub, after.cells, before.cells))  # all cells are numbers
    steps = []
    for first, second in zip(before.cells, after.cells, strict=True):
        if isinstance(first, int) and isinstance(second, int):
            steps.append(second - first)
        elif first == second:
            steps.append(0)
        else:
            return None
    return tuple(steps)


def _is_exact(block: _Block, steps: Sequence[int]) -> bool:
    """Return True if one line can express successive blocks exactly, with ranges: `block{1..3}/block{=}_conv`.

    Two numbers of one path that both increase must be equal, because the second is written `{=}`. No other range may
    stand between them, because `{=}` repeats the nearest range before it.
    """
    leader: dict[int, int] = {}
    closed: set[int] = set()
    for place, (cell, column) in enumerate(zip(block.cells, block.columns, strict=True)):
        moves = steps[place] != 0
        if moves and column in leader:
            first = leader[column]
            if column in closed or (cell, steps[place]) != (block.cells[first], steps[first]):
                return False
        elif moves:
            leader[column] = place
        elif column in leader and cell == _SAME:
            return False  # `{=}` would repeat the increasing number instead of the range before that number
        elif column in leader and not isinstance(cell, int):
            closed.add(column)
    return True


def _joined(blocks: list[_Block]) -> _Block:
    """Return one block that replaces several, whose numbers increase in equal steps."""
    if len(blocks) == 1:
        return blocks[0]
    cells: list[_Cell] = []
    moving: set[int] = set()
    for first, second, column in zip(blocks[0].cells, blocks[1].cells, blocks[0].columns, strict=True):
        if not isinstance(first, int) or not isinstance(second, int) or first == second:
            cells.append(first)
        elif column in moving:
            cells.append(_SAME)
        else:
            moving.add(column)
            cells.append(range(first, first + (second - first) * len(blocks), second - first))
    places = tuple(sorted(place for block in blocks for place in block.places))
    return _Block(tuple(cells), blocks[0].columns, places)


def _written(template: _Template, cells: tuple[_Cell, ...]) -> tuple[str, ...]:
    """Return paths as text, with numbers and ranges inserted: (("layer", ".conv"),) and (1,) -> ("layer1.conv",)."""
    remaining = iter(cells)
    columns = []
    for first, *others in template:
        columns.append(first + "".join(_shown(next(remaining)) + text for text in others))
    return tuple(columns)


def _shown(cell: _Cell) -> str:
    if not isinstance(cell, range):
        return str(cell)
    step = f"..{cell.step}" if cell.step != 1 else ""
    return f"{{{cell[0]}..{cell[-1]}{step}}}"
