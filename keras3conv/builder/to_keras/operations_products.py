"""Convert matrix products, einsum, attention and `cdist`."""

from string import ascii_lowercase
from typing import Any

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape

_BATCH_LETTERS = "abcdefg"


def matmul(call: Call, left: Value, right: Value, shape: Shape) -> Value:
    """Return `torch.matmul` of two values; it is an einsum if an operand is not in torch's axis order.

    Args:
        call: The call.
        left: The left operand.
        right: The right operand.
        shape: The shape of the product in torch's axis order.
    """
    if left.rank < 2 or right.rank < 2:
        vectors = [call.ordered(value, identity(value.rank)) for value in (left, right)]
        return call.step(ops.matmul(*vectors), shape, dtype="float32")
    plain = left.order == identity(left.rank) and right.order == identity(right.rank)
    same_batch = left.shape[:-2] == right.shape[:-2] or right.rank == 2
    if plain or not same_batch:
        values = [call.ordered(value, identity(value.rank)) for value in (left, right)]
        return call.step(ops.matmul(*values), shape, dtype="float32")
    batch = _BATCH_LETTERS[: left.rank - 2]
    names = f"{batch}mk", f"{batch if right.rank == left.rank else ''}kn"
    written = ["".join(name[axis] for axis in value.order) for name, value in zip(names, (left, right), strict=True)]
    order = _order_of_product(left, right)
    made = "".join(f"{batch}mn"[axis] for axis in order)
    return call.step(ops.einsum(f"{','.join(written)}->{made}", left, right), shape, order, dtype="float32")


def _order_of_product(left: Value, right: Value) -> Order:
    """Return the axis order in which a matrix product is computed.

    It is the order of the right operand if this operand's columns are last in Keras. If the right operand is a matrix,
    it is the order of the left one, if the axis that is summed is last in Keras. Else it is torch's order.

    The product of weights (batch, heads, m, n) and values that are stored as (batch, n, heads, size) is then stored as
    (batch, m, heads, size), whose heads can be joined without a permutation.
    """
    last = left.rank - 1
    if right.rank == 2:
        return left.order if left.order[-1] == last else identity(left.rank)
    return right.order if right.rank == left.rank and right.order[-1] == last else identity(left.rank)


@handles("matmul", "bmm", "mm")
def _matmul(call: Call) -> Result:
    right = call.arguments.get("other", call.arguments.get("mat2"))
    return matmul(call, call.value("self"), call.writer.value(right), call.shape)


@handles("mv")
def _matrix_and_vector(call: Call) -> Result:
    left, right = call.ordered(call.arguments["self"], (0, 1)), call.ordered(call.arguments["vec"], (0,))
    return call.step(ops.matmul(left, right))


@handles("dot", "vdot")
def _vectors(call: Call) -> Result:
    other = call.arguments.get("tensor", call.arguments.get("other"))
    return call.step(ops.sum(ops.multiply(call.value("self"), call.writer.value(other))))


@handles("_weight_norm")
def _weight_norm(call: Call) -> Result:
    """Convert `_weight_norm`: scale a weight so that its norms along all axes but one are those of a second tensor.

    The weight is computed in the axis order of the kernel that Keras needs, so that it need not be permuted.
    """
    rank, kept = len(call.shape), call.get("dim", 0)
    value = call.writer.value(call.arguments["v"], _order_of_kernel(call, rank))
    scale = call.writer.value(call.arguments["g"], value.order if kept != -1 else ())
    axes = tuple(place for place, axis in enumerate(value.order) if axis != kept % rank) if kept != -1 else None
    square = ops.sum(ops.square(value), axis=axes, keepdims=True)
    scale = call.writer.ordered(scale, value.order) if kept != -1 else scale
    return call.step(value * (scale / ops.sqrt(square)), order=value.order)


def _order_of_kernel(call: Call, rank: int) -> Order:
    """Return the axis order of a computed weight: that of a Keras kernel if only layers use it as kernel, else torch's.

    Args:
        call: The call that computes the weight.
        rank: The number of axes of the weight.
    """
    users = {user.kind.split(".")[1] for user in call.writer.users(call.node.outputs[0].name)}
    last = (0, 1) if all("transpose" in name for name in users) else (1, 0)
    is_kernel = all(name.startswith(("linear", "conv")) for name in users) and rank > 1
    return (*range(2, rank), *last) if is_kernel else identity(rank)


@handles("baddbmm")
def _baddbmm(call: Call) -> Result:
    return added(call, matmul(call, call.value("batch1"), call.value("batch2"), call.shape))


def added(call: Call, product: Value) -> Value:
    """Return `beta * self + alpha * product`, the result of a `baddbmm`.

    Args:
        call: The call, which has the arguments `self`, `alpha` and `beta`.
        product: The matrix product.
    """
    alpha, beta = call.get("alpha", 1), call.arguments.get("beta", 1)

    def total(first: Any, second: Any) -> Any:
        left = first if beta == 1 else sign(call, "*", first, beta)
        return sign(call, "+", left, second if alpha == 1 else second * alpha)

    if beta == 0:  # torch then ignores the values of `self`, even if they are not numbers
        return product if alpha == 1 else elementwise(call, [product], lambda value: value * alpha)
    return elementwise(call, [call.arguments["self"], product], total)


@handles("einsum")
def _einsum(call: Call) -> Result:
    left, _, right = in_small_letters(call).partition("->")
    if "..." in left or not right:
        raise RuleError("an einsum equation is supported only without an ellipsis and with a result after ->")
    values = [call.writer.value(one) for one in call.arguments["tensors"]]
    names = left.split(",")
    written = ["".join(name[axis] for axis in value.order) for name, value in zip(names, values, strict=True)]
    return call.step(ops.einsum(f"{','.join(written)}->{right}", *values))


def in_small_letters(call: Call) -> str:
    """Return the equation of an einsum with small letters instead of capital ones, which Keras does not accept."""
    equation: str = call.arguments["equation"].replace(" ", "")
    letters = dict.fromkeys(letter for letter in equation if letter.isalpha())
    free = [letter for letter in ascii_lowercase if letter not in letters]
    names: dict[int, str] = {}
    for letter in letters:
        if letter.isupper():
            if not free:
                raise RuleError("einsum is supported only with at most 26 axes, one for each letter")
            wanted = letter.lower()
            names[ord(letter)] = free.pop(free.index(wanted) if wanted in free else 0)
    return equation.translate(names)


@handles("bilinear")
def _bilinear(call: Call) -> Result:
    first, second = (call.ordered(call.arguments[name], identity(len(call.shape))) for name in ("input1", "input2"))
    letters = _BATCH_LETTERS[: len(call.shape) - 1]
    weight = call.ordered(call.arguments["weight"], (0, 1, 2))
    made = call.step(ops.einsum(f"{letters}i,oij,{letters}j->{letters}o", first, weight, second))
    bias = call.get("bias")
    return made if bias is None else elementwise(call, [made, bias], lambda one, other: sign(call, "+", one, other))


@handles("cdist")
def _cdist(call: Call) -> Result:
    """Convert `cdist`, the distances of all pairs of rows; the gradient of a distance of zero is zero, as in torch."""
    order = float(call.get("p", 2.0))
    first, second = (call.ordered(call.arguments[name], identity(len(call.shape))) for name in ("x1", "x2"))
    if first.rank != second.rank:
        raise RuleError("cdist is supported only for two tensors with the same number of axes")
    pairs = (*call.shape, first.shape[-1])
    apart = ops.subtract(ops.expand_dims(first, -2), ops.expand_dims(second, -3))
    difference = call.step(apart, pairs, dtype=first.dtype)
    if order == float("inf"):
        return call.step(ops.max(ops.abs(difference), axis=-1))
    if order == 1:
        return call.step(ops.sum(ops.abs(difference), axis=-1))
    if order != 2:
        raise RuleError(f"cdist is supported only with p=1, p=2 and p=inf, not p={order}")
    total = call.step(ops.sum(ops.square(difference), axis=-1))
    return call.step(_root(total))


def _root(total: Any) -> Any:
    is_zero = ops.equal(total, 0.0)
    return ops.where(is_zero, 0.0, ops.sqrt(ops.where(is_zero, 1.0, total)))
