"""Convert products of tensors and linear algebra: einsum, matrix products, tensor products."""

from collections.abc import Sequence
from string import ascii_letters

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import axes_of, converted, torch, without
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.messages import count


def _of_one_dtype(call: Call, values: Sequence[Value]) -> list[Value]:
    """Return tensors converted to one dtype: Keras promotes dtypes in matrix products, torch does not."""
    if len({value.dtype for value in values}) == 1:
        return list(values)
    return [converted(call, value, call.dtype) for value in values]


@handles("keras.ops.einsum")
def _einsum(call: Call) -> None:
    """Convert `einsum`; its letters are reordered to the axis order of each operand, so that nothing is permuted."""
    if call.dtype == "bool" or "operands" not in call.arguments:
        raise call.refuse(
            "einsum is supported only with an equation as its first argument, and not for boolean tensors"
        )
    values = _of_one_dtype(call, call["operands"])
    inputs, output = _letters(call, values)
    moved = ["".join(letters[axis] for axis in value.order) for letters, value in zip(inputs, values, strict=True)]
    call.returns(torch.einsum(f"{','.join(moved)}->{output}", *values))


def _letters(call: Call, values: Sequence[Value]) -> tuple[list[str], str]:
    """Return the axis letters of each operand and of the result of an einsum: "bij", "bjk" and "bik".

    Letters replace every "...", and the result has letters even if the equation leaves it out.
    """
    text = call["subscripts"].replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(values):
        raise call.refuse(
            f"the equation {text!r} of einsum has {count(len(terms), 'operand')}, but the call has "
            f"{count(len(values), 'tensor')}"
        )
    unused = [letter for letter in ascii_letters if letter not in text]
    hidden = [
        value.rank - len(term.replace("...", "")) if "..." in term else 0
        for term, value in zip(terms, values, strict=True)
    ]
    extra = "".join(unused[: max(hidden)])
    inputs = [term.replace("...", extra[len(extra) - count :]) for term, count in zip(terms, hidden, strict=True)]
    if arrow:
        return inputs, right.replace("...", extra)
    once = sorted(letter for letter in {*"".join(inputs)} - {*extra} if "".join(inputs).count(letter) == 1)
    return inputs, extra + "".join(once)


@handles("keras.ops.matmul")
def _matmul(call: Call) -> None:
    first, second = (call.keras_order(value) for value in _of_one_dtype(call, [call["x1"], call["x2"]]))
    call.returns(first @ second)


@handles("keras.ops.dot")
def _dot(call: Call) -> None:
    first, second = call["x1"], call["x2"]
    if not (isinstance(first, Value) and isinstance(second, Value)):
        raise call.refuse("dot is supported only for two tensors, but an operand is a number; use keras.ops.multiply")
    if not first.rank or not second.rank:
        call.returns(first * second, first.order or second.order)
    elif second.rank > 2:
        raise call.refuse(
            "dot is not supported if x2 has more than two axes: the result then depends on the Keras backend "
            "(torch differs from JAX and TensorFlow)"
        )
    else:
        _summed(call, first, second, ((first.rank - 1,), (max(second.rank - 2, 0),)))


@handles("keras.ops.tensordot")
def _tensordot(call: Call) -> None:
    first, second, axes = call["x1"], call["x2"], call["axes"]
    if isinstance(axes, int):
        pair = tuple(range(first.rank - axes, first.rank)), tuple(range(axes))
    else:
        pair = axes_of(axes[0], first.rank), axes_of(axes[1], second.rank)
    _summed(call, first, second, pair)


@handles("keras.ops.inner")
def _inner(call: Call) -> None:
    first, second = call["x1"], call["x2"]
    _summed(call, first, second, ((first.rank - 1,), (second.rank - 1,)))


def _summed(call: Call, first: Value, second: Value, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Convert a sum of products along pairs of axes (a tensordot).

    The result has the remaining axes of the first operand, then the remaining axes of the second.

    Args:
        call: The call.
        first: The first operand.
        second: The second operand.
        axes: The axes of the first operand to sum over, and the axes of the second that are paired with them.
    """
    first, second = _of_one_dtype(call, [first, second])
    if first.rank == second.rank == 1:
        call.returns(first @ second)
        return
    left = without(first.order, axes[0])
    order: Order = (*left, *(axis + len(left) for axis in without(second.order, axes[1])))
    dims = tuple([value.position(axis) for axis in summed] for value, summed in zip((first, second), axes, strict=True))
    call.returns(torch.tensordot(first, second, dims=dims), order)


@handles("keras.ops.vdot", "keras.ops.outer")
def _flattened_product(call: Call) -> None:
    values = _of_one_dtype(call, [call["x1"], call["x2"]])
    function = torch.outer if call.node.kind.endswith("outer") else torch.dot
    call.returns(function(*(value if value.rank == 1 else call.flat(value) for value in values)))


@handles("keras.ops.kron")
def _kron(call: Call) -> None:
    call.returns(torch.kron(call.keras_order(call["x1"]), call.keras_order(call["x2"])))


@handles("keras.ops.cross")
def _cross(call: Call) -> None:
    values, order = call.aligned([call["x1"], call["x2"]])
    axis = call["axisa"]
    if {call["axisb"], call["axisc"]} != {axis}:
        raise call.refuse("cross is supported only with equal values of the arguments axisa, axisb and axisc")
    if axis == -1 and 3 in values[0].shape[:-1]:
        raise call.refuse(
            "cross is not supported if an axis before the last has size 3: Keras' torch backend then uses the "
            "first axis of "
            "size 3, but the other backends use the last axis"
        )
    if any(value.shape[axis] != 3 for value in values):
        raise call.refuse("cross is supported only for vectors with three elements, not with two")
    call.returns(torch.linalg.cross(*values, dim=values[0].position(axis)), order)


@handles("keras.ops.cdist")
def _cdist(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("x", "y"))
    call.returns(torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist"))


_MATRICES = {
    "cholesky_inverse": torch.cholesky_inverse,
    "cholesky": torch.linalg.cholesky,
    "det": torch.linalg.det,
    "inv": torch.linalg.inv,
    "logdet": torch.logdet,
    "pinv": torch.linalg.pinv,
}
"""Functions of square matrices, which are the last two axes of a tensor: determinant, inverse and others."""


def _matrix(call: Call) -> None:
    name = call.node.kind.rpartition(".")[2]
    if call.get("rcond") is not None:
        raise call.refuse(f"{name} is supported only with rcond=None")
    settings = {"upper": bool(call.get("upper"))} if "cholesky" in name else {}
    call.returns(_MATRICES[name](call.keras_order(call.tensor), **settings), identity(len(call.shape)))


for _kind in _MATRICES:
    handles(f"keras.ops.{_kind}")(_matrix)


@handles("keras.ops.solve")
def _solve(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("a", "b"))
    call.returns(torch.linalg.solve(first, second))


@handles("keras.ops.solve_triangular")
def _solve_triangular(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("a", "b"))
    if second.rank == first.rank - 1:
        raise call.refuse(
            "solve_triangular is supported only if b has as many axes as a; give a vector b an axis at its end"
        )
    call.returns(torch.linalg.solve_triangular(first, second, upper=not call["lower"]))


@handles("keras.ops.svd")
def _svd(call: Call) -> None:
    given = call.keras_order(call["x"])
    if call["compute_uv"]:
        call.returns(torch.linalg.svd(given, full_matrices=bool(call["full_matrices"])))
    else:
        call.returns(torch.linalg.svdvals(given))


@handles("keras.ops.qr")
def _qr(call: Call) -> None:
    call.returns(torch.linalg.qr(call.keras_order(call["x"]), mode=call["mode"]))


@handles("keras.ops.eigh")
def _eigh(call: Call) -> None:
    call.returns(torch.linalg.eigh(call.keras_order(call["x"])))


@handles("keras.ops.slogdet")
def _slogdet(call: Call) -> None:
    call.returns(torch.linalg.slogdet(call.keras_order(call["x"])))


@handles("keras.ops.lstsq")
def _lstsq(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("a", "b"))
    if call["rcond"] is not None:
        raise call.refuse("lstsq is supported only with rcond=None")
    call.returns(torch.linalg.lstsq(first, second).attribute("solution"))
