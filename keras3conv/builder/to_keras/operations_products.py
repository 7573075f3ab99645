"""Convert matrix products, einsum and attention."""

from string import ascii_lowercase

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

    The product gets the order of its right operand if that operand's columns are its last axis in Keras; else torch's
    order.

    The product of weights (batch, heads, m, n) and values that are stored as (batch, n, heads, size) is then stored as
    (batch, m, heads, size), whose heads can be joined without a permutation.
    """
    last = left.rank - 1
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
    """Convert `_weight_norm`: scale a weight so that its norms along all axes but one are those of a second tensor."""
    value, scale = call.value("v"), call.value("g")
    kept = call.get("dim", 0)
    axes = tuple(axis for axis in range(value.rank) if axis != kept % value.rank) if kept != -1 else None
    square = ops.sum(ops.square(value), axis=axes, keepdims=True)
    return call.step(value * (scale / ops.sqrt(square)))


@handles("baddbmm")
def _baddbmm(call: Call) -> Result:
    made = matmul(call, call.value("batch1"), call.value("batch2"), call.shape)
    alpha, beta = call.get("alpha", 1), call.arguments.get("beta", 1)
    if alpha != 1:
        made = elementwise(call, [made], lambda value: value * alpha)
    if beta == 0:
        return made
    if beta != 1:
        raise RuleError(f"baddbmm is supported only with beta=0 or beta=1, not beta={beta}")
    return elementwise(call, [call.arguments["self"], made], lambda first, second: sign(call, "+", first, second))


@handles("einsum")
def _einsum(call: Call) -> Result:
    left, _, right = _in_small_letters(call.arguments["equation"].replace(" ", "")).partition("->")
    if "..." in left or not right:
        raise RuleError("an einsum equation is supported only without an ellipsis and with a result after ->")
    values = [call.writer.value(one) for one in call.arguments["tensors"]]
    names = left.split(",")
    written = ["".join(name[axis] for axis in value.order) for name, value in zip(names, values, strict=True)]
    return call.step(ops.einsum(f"{','.join(written)}->{right}", *values))


def _in_small_letters(equation: str) -> str:
    """Return an einsum equation with lower-case letters only, because Keras does not accept capital letters."""
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


__all__ = ["matmul"]
