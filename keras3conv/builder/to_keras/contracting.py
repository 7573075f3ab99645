"""Convert matrix products of tensors with unmerged axes (see `Unmerged`) to an einsum over the axes that Keras has."""

from string import ascii_lowercase
from typing import Any

from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.to_keras.call import Call, ops
from keras3conv.builder.to_keras.forms import Unmerged
from keras3conv.builder.to_keras.operations_attention import masks_nothing, masks_rows, scored_weights
from keras3conv.builder.to_keras.operations_products import added, in_small_letters
from keras3conv.builder.to_keras.sizes import common_factors
from keras3conv.builder.to_keras.unmerged import MOST_AXES, apart, grouped, with_axes_split
from keras3conv.model.graph import Shape, Size

Factors = dict[str, tuple[int | Size, ...]]
"""For each letter of an equation, the sizes of the axes that its axis is merged from."""

_Operand = Value | Unmerged


def _operand(call: Call, tensor: Any) -> _Operand:
    return tensor if isinstance(tensor, Unmerged) else call.writer.value(tensor)


def contracted_call(call: Call) -> Value | Unmerged | None:
    """Convert a matrix product or an einsum of two tensors to an einsum over the axes that they have in Keras.

    One of them is `Unmerged`: torch has merged some of its axes, but Keras has them separate.

    Returns:
        The result; None if the axes of one tensor cannot be split into the same sizes as those of the other.
    """
    if call.name == "einsum":
        return _einsum(call)
    names = ("batch1", "batch2") if call.name == "baddbmm" else ("self", "other", "mat2")
    left, right = (_operand(call, call.arguments[name]) for name in names if name in call.arguments)
    if len(left.shape) != len(right.shape) or len(left.shape) < 2:
        return None
    batch = ascii_lowercase[: len(left.shape) - 2]
    made = _product(call, (f"{batch}xy", f"{batch}yz", f"{batch}xz"), left, right, call.shape)
    if made is None or call.name != "baddbmm":
        return made
    whole = {**call.arguments, "self": _whole(call, call.arguments["self"])}
    return added(Call(call.node, whole, call.writer), call.writer.value(made))


def _einsum(call: Call) -> Value | Unmerged | None:
    inputs, _, made = in_small_letters(call).partition("->")
    names = inputs.split(",")
    if "." in inputs or not made or len(names) != 2:
        return None
    left, right = (_operand(call, one) for one in call.arguments["tensors"])
    return _product(call, (names[0], names[1], made), left, right, call.shape)


def _whole(call: Call, tensor: Any) -> Any:
    return call.writer.value(tensor) if isinstance(tensor, Unmerged) else tensor


def attended(call: Call) -> Value | Unmerged | None:
    """Convert an attention to two products and a softmax over the axes that its tensors have in Keras.

    One of them is `Unmerged`: torch has merged some of its axes, but Keras has them separate. No permutation is needed.

    Returns:
        The output; None if the tensors do not have the four axes (batch, heads, steps, size), or if the mask is
        `Unmerged` or may hide all keys of a query.
    """
    query, key, value = (_operand(call, call.arguments[name]) for name in ("query", "key", "value"))
    if {len(one.shape) for one in (query, key, value)} != {4} or query.shape[:-2] != key.shape[:-2]:
        return None
    batch, size = ascii_lowercase[: len(query.shape) - 2], query.shape[-1]
    if not isinstance(size, int):
        return None
    mask = call.get("attn_mask")
    if isinstance(mask, Unmerged) or (mask is not None and masks_rows(mask)):
        return None
    shape = (*query.shape[:-1], key.shape[-2])
    scores = _product(call, (f"{batch}xz", f"{batch}yz", f"{batch}xy"), query, key, shape)
    if scores is None:
        return None
    mask = None if mask is None or masks_nothing(mask) else mask
    weights = scored_weights(call, call.ordered(scores, (0, 1, 2, 3)), size, mask)
    return _product(call, (f"{batch}xy", f"{batch}yz", f"{batch}xz"), weights, value, call.shape)


def _product(
    call: Call, equation: tuple[str, str, str], left: _Operand, right: _Operand, shape: Shape
) -> Value | Unmerged | None:
    """Return an einsum over the axes that the operands have in Keras; None if these allow no common sizes.

    Args:
        call: The call, to which the statement is added.
        equation: The letters of the axes of the left operand, the right one and the result: ("axy", "ayz", "axz").
        left: The left operand.
        right: The right operand.
        shape: The shape of the result.
    """
    factors = _factors(equation, left, right)
    if factors is None or sum(len(factors[letter]) for letter in equation[2]) > MOST_AXES:
        return None
    fine = [_split(call, letters, one, factors) for letters, one in zip(equation, (left, right), strict=False)]
    axes = [[(letter, part) for letter in letters for part in range(len(factors[letter]))] for letters in equation]
    order = _order_of_result(_replaced(equation, right), axes, fine[1], factors)
    known = list(dict.fromkeys([*axes[2], *axes[0], *axes[1]]))
    names = dict(zip(known, ascii_lowercase, strict=False))
    written = ["".join(names[own[axis]] for axis in one.order) for own, one in zip(axes, fine, strict=False)]
    text = f"{','.join(written)}->{''.join(names[axes[2][axis]] for axis in order)}"
    sizes = tuple(factors[letter][part] for letter, part in axes[2])
    made = call.step(ops.einsum(text, *fine), sizes, order, dtype="float32")
    return apart(call, made, grouped([len(factors[letter]) for letter in equation[2]]), shape)


def _factors(equation: tuple[str, str, str], left: _Operand, right: _Operand) -> Factors | None:
    """Return, for each letter of an einsum, the sizes that its axis is split into, which are the same in both operands.

    Args:
        equation: The letters of the axes of the left operand, the right one and the result.
        left: The left operand.
        right: The right operand.

    Returns:
        The sizes by letter: {"a": (2,), "y": (4, 8)}; None if the two operands allow no common sizes.
    """
    own = [_sizes(letters, one) for letters, one in zip(equation, (left, right), strict=False)]
    made: Factors = {}
    for letter in dict.fromkeys(equation[0] + equation[1]):
        sizes = [found[letter] for found in own if letter in found]
        common = _common(sizes[0], sizes[-1])
        if common is None:
            return None
        made[letter] = common
    if (replaced := _replaced(equation, right)) is not None:
        kept, summed = replaced
        is_square = left.shape[equation[0].index(kept)] == right.shape[equation[1].index(summed)]
        if is_square and (common := _common(made[kept], made[summed])) is not None:
            made[kept] = made[summed] = common
    return made


def _common(first: tuple[int | Size, ...], second: tuple[int | Size, ...]) -> tuple[int | Size, ...] | None:
    """Return sizes into which two axes of equal size can both be split: (4, 2, 4) for (8, 4) and (4, 8); else None.

    Args:
        first: The sizes of the axes that the first one is merged from: (4, 8) for an axis of 32 elements.
        second: The sizes of the axes that the second one is merged from.
    """
    found = common_factors(first, second)
    if found is None or first == second:
        return first if first == second else None
    if 1 in (len(first), len(second)):
        return first if len(second) == 1 else second
    return tuple(found[0])


def _sizes(letters: str, tensor: _Operand) -> Factors:
    if isinstance(tensor, Unmerged):
        sizes = tensor.parts.shape
        return {
            letter: tuple(sizes[part] for part in parts) for letter, parts in zip(letters, tensor.groups, strict=True)
        }
    return {letter: (size,) for letter, size in zip(letters, tensor.shape, strict=True)}


def _replaced(equation: tuple[str, str, str], right: _Operand) -> tuple[str, str] | None:
    """Return two letters: the result axis at the position of the right operand's summed axis, and that axis.

    In an attention, the product of weights and values then has the axis order of the values: the heads can be joined
    without a permutation.

    Args:
        equation: The letters of the axes of the left operand, the right one and the result.
        right: The right operand.

    Returns:
        The two letters; None unless the columns of the right operand are last in Keras.
    """
    value = right.parts if isinstance(right, Unmerged) else right
    groups = right.groups if isinstance(right, Unmerged) else tuple((axis,) for axis in range(right.rank))
    last = next((letter for letter, parts in zip(equation[1], groups, strict=True) if value.order[-1] in parts), "")
    new, summed = ({*equation[2]} - {*equation[1]}, {*equation[1]} - {*equation[2]})
    is_column = last in equation[2] and last not in equation[0]
    return (new.pop(), summed.pop()) if is_column and len(new) == len(summed) == 1 else None


def _split(call: Call, letters: str, tensor: _Operand, factors: Factors) -> Value:
    value = tensor.parts if isinstance(tensor, Unmerged) else tensor
    own = _sizes(letters, tensor)
    return with_axes_split(call, value, [part for one in letters for part in _parts(own[one], factors[one])])


def _parts(sizes: tuple[int | Size, ...], split_sizes: tuple[int | Size, ...]) -> list[tuple[int | Size, ...]]:
    """Return the sizes to split each axis into: [(2, 4), (4,)] if axes of 8 and 4 elements become (2, 4, 4).

    Args:
        sizes: The sizes of the axes: (8, 4).
        split_sizes: The sizes of all axes after the split, with the same product: (2, 4, 4).
    """
    if sizes == split_sizes:
        return [(size,) for size in sizes]
    found = common_factors(sizes, split_sizes)
    if len(sizes) == 1 or found is None:
        return [split_sizes]
    return [tuple(found[0][factor] for factor in group) for group in found[1]]


def _order_of_result(
    replaced: tuple[str, str] | None, axes: list[list[tuple[str, int]]], right: Value, factors: Factors
) -> Order:
    """Return the axis order of a product in Keras: the right operand's if one of its axes is replaced, else torch's.

    Args:
        replaced: The letter of the axis of the result, and that of the axis of the right operand which it replaces;
            None if none is replaced.
        axes: For the left operand, the right one and the result, the axes after the split: (letter, index).
        right: The right operand, after its axes are split.
        factors: The sizes that the axis of each letter is split into.
    """
    if replaced is None or len(factors[replaced[0]]) != len(factors[replaced[1]]):
        return tuple(range(len(axes[2])))
    kept, summed = replaced
    found = [axes[1][axis] for axis in right.order]
    return tuple(axes[2].index((kept, part) if letter == summed else (letter, part)) for letter, part in found)
