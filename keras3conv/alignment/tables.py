"""Recognize embedding tables with different numbers of rows, and propose the transform between them.

The values of such a table cannot be copied, so `align` does not pair the two tables. If the rows are those of a grid of
positions, they must be interpolated to the other grid's size. A model whose positions start at 2 has two more rows at
the beginning. A vocabulary that was padded to a round number of tokens has more rows at the end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt

from keras3conv.alignment.shapes import reshaping, without_ones
from keras3conv.messages import count
from keras3conv.model.views import Side, TensorRef
from keras3conv.transforms import Axes, Shape
from keras3conv.transforms.base import resized

_MOST_TOKENS = 2
"""The maximum number of rows before a grid of positions: 1 is a class token, 2 a class and a distillation token."""

_MOST_EXTRA_ROWS = 8

_POSITIONS = ("pos", "grid", "wpe")
_VOCABULARY = ("word", "token", "vocab", "wte")
_EMBEDDING = "embed"


@dataclass(frozen=True)
class OtherTable:
    """A proposal to pair a tensor with one of another shape, such as two position embeddings with 197 and 577 rows.

    Attributes:
        fact: The difference between the two tensors, as a sentence.
        fix: The call of `plan.pair` that pairs them.
    """

    fact: str
    fix: str


def other_table(
    side: Side, tensor: TensorRef, others: Iterable[TensorRef], own: Iterable[TensorRef] = ()
) -> OtherTable | None:
    """Return the proposal to pair an embedding table with one of the other side that has another number of rows.

    Return None unless exactly one tensor of the other side differs from the table only in the number of rows, and may
    be for the same thing: positions, or the tokens of a vocabulary.

    Args:
        side: The side of the tensor: "torch" or "keras".
        tensor: A tensor without a pair.
        others: The tensors of the other side without a pair.
        own: The tensors of the same side without a pair. A table of the other side that has the shape of one of them
            is not proposed, because it corresponds to that one.
    """
    others, shapes = list(others), {other.shape for other in own}
    if any(other.shape == tensor.shape for other in others):
        return None
    tables = [other for other in others if _row_axis(tensor, other) is not None and other.shape not in shapes]
    tables = [other for other in tables if _use(tensor) or _use(other)]
    same = [other for other in tables if _use(other) == _use(tensor) != ""]
    found = same or [other for other in tables if not {_use(tensor), _use(other)} >= {"positions", "vocabulary"}]
    if len(found) != 1:
        return None
    torch, keras = (tensor, found[0]) if side == "torch" else (found[0], tensor)
    axis = _row_axis(torch, keras)
    if axis is None:
        return None
    rows = torch.shape[axis], keras.shape[_row_axis(keras, torch) or 0]
    if "positions" not in {_use(torch), _use(keras)}:
        return _last_rows(torch, keras, axis, rows, "fill up the vocabulary")
    more = abs(rows[0] - rows[1])
    grid = _grid(torch, keras, axis, rows)
    first = _first_rows(torch, keras, axis, rows) if more <= _MOST_EXTRA_ROWS else None
    return grid or first or _last_rows(torch, keras, axis, rows, "are of positions that no input has")


def _use(tensor: TensorRef) -> str:
    """Return the use of a table that its name shows: "positions", "vocabulary" or only "embed"; empty for no table."""
    name = tensor.path.lower()
    if len(tensor.shape) < 2:
        return ""
    if any(word in name for word in _POSITIONS):
        return "positions"
    if any(word in name for word in _VOCABULARY):
        return "vocabulary"
    return _EMBEDDING if _EMBEDDING in name else ""


def _row_axis(first: TensorRef, second: TensorRef) -> int | None:
    """Return the axis of a table along which its size differs from that of another table; axes of size one are skipped.

    Return None if it is the last axis, or not the only one.

    Args:
        first: The table whose axis is returned.
        second: The other table.
    """
    axes = [axis for axis, size in enumerate(first.shape) if size != 1]
    sizes = without_ones(second.shape)
    if len(axes) != len(sizes) or len(axes) < 2 or first.shape[axes[-1]] != sizes[-1]:
        return None
    differing = [axis for axis, size in zip(axes, sizes, strict=True) if first.shape[axis] != size]
    return differing[0] if len(differing) == 1 else None


def _grid(torch: TensorRef, keras: TensorRef, axis: int, rows: tuple[int, int]) -> OtherTable | None:
    """Return the proposal to pair two position tables whose rows are square grids of different sizes.

    Return None unless both tables have the same number of rows for tokens (0, 1 or 2), followed by those of a square
    grid.

    Args:
        torch: The torch table.
        keras: The Keras table.
        axis: The axis of the rows.
        rows: The numbers of rows in torch and in Keras, such as (197, 577).
    """
    for tokens in range(_MOST_TOKENS + 1):
        given, wanted = (isqrt(max(number - tokens, 0)) for number in rows)
        if given > 1 and wanted > 1 and (given**2 + tokens, wanted**2 + tokens) == rows:
            before = f"{count(tokens, 'token')} and " if tokens else ""
            fact = (
                f"{torch.path} has a grid of {before}{given} x {given} positions, and {keras.path} one of "
                f"{wanted} x {wanted}; a resize interpolates them"
            )
            made = f"ResizeGrid(axis={axis}, first={tokens}, given=({given}, {given}), wanted=({wanted}, {wanted}))"
            return OtherTable(fact, _pair(torch, keras, made, resized(torch.shape, axis, rows[1])))
    return None


def _first_rows(torch: TensorRef, keras: TensorRef, axis: int, rows: tuple[int, int]) -> OtherTable:
    """Return the proposal to pair two position tables, one of which begins with rows that the other one lacks.

    Args:
        torch: The torch table.
        keras: The Keras table.
        axis: The axis of the rows.
        rows: The numbers of rows in torch and in Keras, such as (514, 512).
    """
    more = rows[0] - rows[1]
    longer, shorter = (torch, keras) if more > 0 else (keras, torch)
    fact = (
        f"{longer.path} has {count(abs(more), 'row')} more than {shorter.path}: if it counts positions from "
        f"{abs(more)} on, the first rows are left out"
    )
    made = f"{'Skip' if more > 0 else 'Lead'}({axis}, {abs(more)})"
    return OtherTable(fact, _pair(torch, keras, made, resized(torch.shape, axis, rows[1])))


def _last_rows(torch: TensorRef, keras: TensorRef, axis: int, rows: tuple[int, int], use: str) -> OtherTable:
    """Return the proposal to pair two tables, one of which ends with rows that the other one lacks.

    Args:
        torch: The torch table.
        keras: The Keras table.
        axis: The axis of the rows.
        rows: The numbers of rows in torch and in Keras, such as (50257, 50304).
        use: The likely use of the last rows of the longer table, as the end of the sentence "if they ...".
    """
    more = rows[0] - rows[1]
    longer, shorter = (torch, keras) if more > 0 else (keras, torch)
    end = "they can be left out" if more > 0 else "they can be zeros"
    fact = f"{longer.path} has {count(abs(more), 'row')} more than {shorter.path}: if the last ones {use}, {end}"
    made = f"{'Trim' if more > 0 else 'Trail'}({axis}, {abs(more)})"
    return OtherTable(fact, _pair(torch, keras, made, resized(torch.shape, axis, rows[1])))


def _pair(torch: TensorRef, keras: TensorRef, transform: str, shape: Shape) -> str:
    """Return the call of `plan.pair` that pairs two tables, as code.

    Args:
        torch: The torch table.
        keras: The Keras table.
        transform: The transform of the rows, as code.
        shape: The shape of the result of `transform`; its axes of size one may differ from those of the Keras table.
    """
    made = f"k3c.transforms.{transform}"
    move = reshaping(shape, keras.shape)
    if isinstance(move, Axes):
        made = f'k3c.transforms.Chain({made}, k3c.transforms.Axes("{move.pattern}"))'
    return f'plan = plan.pair("{torch.path}", "{keras.path}", transform={made})'
