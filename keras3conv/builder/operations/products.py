"""Products of tensors: einsum, matrix products, tensor products."""

from collections.abc import Sequence
from string import ascii_letters

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import axes_of, converted, without
from keras3conv.builder.program.names import places
from keras3conv.builder.program.program import Order, Value, identity


def _of_one_dtype(call: Call, values: Sequence[Value]) -> list[Value]:
    """Torch multiplies no matrices of different dtypes; Keras makes them what the result is."""
    made = call.node.outputs[0].dtype
    if len({value.dtype for value in values}) == 1:
        return list(values)
    return [converted(call, value, made) for value in values]


@handles("keras.ops.einsum")
def _einsum(call: Call) -> None:
    """Nothing is moved: the letters of each operand stand in the order of its axes."""
    if call.node.outputs[0].dtype == "bool" or "operands" not in call.arguments:
        raise call.refuse("this form of einsum is not supported")
    values = _of_one_dtype(call, call["operands"])
    inputs, output = _letters(call, values)
    moved = ["".join(letters[axis] for axis in value.order) for letters, value in zip(inputs, values, strict=True)]
    call.returns(f'torch.einsum("{",".join(moved)}->{output}", {places(values)})', values)


def _letters(call: Call, values: Sequence[Value]) -> tuple[list[str], str]:
    """A letter for every axis of every operand, and those of the result: "..." and what is left out written out."""
    text = call["subscripts"].replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(values):
        raise call.refuse(f"{text!r} is not supported")
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
    call.returns("{0} @ {1}", [first, second])


@handles("keras.ops.dot")
def _dot(call: Call) -> None:
    first, second = call["x1"], call["x2"]
    if not (isinstance(first, Value) and isinstance(second, Value)):
        raise call.refuse("a number in the place of a tensor is not supported")
    if not first.rank or not second.rank:
        call.returns("{0} * {1}", [first, second], first.order or second.order)
    elif second.rank > 2:
        raise call.refuse("with more than two axes on the right, Keras' torch backend and the others differ")
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
    """The sum of the products along pairs of axes; the axes that stay are those of the first, then of the second."""
    first, second = _of_one_dtype(call, [first, second])
    shown = ", ".join(
        f"[{', '.join(str(value.place(axis)) for axis in some)}]"
        for value, some in zip((first, second), axes, strict=True)
    )
    left = without(first.order, axes[0])
    order: Order = (*left, *(axis + len(left) for axis in without(second.order, axes[1])))
    if first.rank == second.rank == 1:
        call.returns("{0} @ {1}", [first, second])
        return
    call.returns(f"torch.tensordot({{0}}, {{1}}, dims=({shown}))", [first, second], order)


def _flat(call: Call, value: Value) -> Value:
    if value.rank == 1:
        return value
    return call.step("{0}.flatten()", [call.keras_order(value)], shape=(0,), order=(0,))


@handles("keras.ops.vdot", "keras.ops.outer")
def _flattened_product(call: Call) -> None:
    values = [_flat(call, value) for value in _of_one_dtype(call, [call["x1"], call["x2"]])]
    name = "torch.outer" if call.node.kind.endswith("outer") else "torch.dot"
    call.returns(f"{name}({{0}}, {{1}})", values)


@handles("keras.ops.kron")
def _kron(call: Call) -> None:
    call.returns("torch.kron({0}, {1})", [call.keras_order(call["x1"]), call.keras_order(call["x2"])])


@handles("keras.ops.cross")
def _cross(call: Call) -> None:
    values, order = call.aligned([call["x1"], call["x2"]])
    axis = call["axisa"]
    if {call["axisb"], call["axisc"]} != {axis}:
        raise call.refuse("different axes are not supported")
    if axis == -1 and 3 in values[0].shape[:-1]:
        raise call.refuse("Keras' torch backend takes the first axis of three values, the others the last")
    if any(value.shape[axis] != 3 for value in values):
        raise call.refuse("vectors of two values are not supported")
    call.returns(f"torch.linalg.cross({{0}}, {{1}}, dim={values[0].place(axis)})", values, order)


@handles("keras.ops.cdist")
def _cdist(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("x", "y"))
    mode = '"donot_use_mm_for_euclid_dist"'
    call.returns(f"torch.cdist({{0}}, {{1}}, compute_mode={mode})", [first, second])


_MATRICES = {
    "cholesky_inverse": "torch.cholesky_inverse({0}, upper=UPPER)",
    "cholesky": "torch.linalg.cholesky({0}, upper=UPPER)",
    "det": "torch.linalg.det({0})",
    "inv": "torch.linalg.inv({0})",
    "logdet": "torch.logdet({0})",
    "pinv": "torch.linalg.pinv({0})",
}
"""Functions of square matrices, which are the last two axes."""


def _matrix(call: Call) -> None:
    name = call.node.kind.rpartition(".")[2]
    if call.get("rcond") is not None:
        raise call.refuse("rcond is not supported")
    template = _MATRICES[name].replace("UPPER", repr(bool(call.get("upper"))))
    given = call.keras_order(call.tensor)
    call.returns(template, [given], identity(len(call.node.outputs[0].shape)))


for _kind in _MATRICES:
    handles(f"keras.ops.{_kind}")(_matrix)


@handles("keras.ops.solve")
def _solve(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("a", "b"))
    call.returns("torch.linalg.solve({0}, {1})", [first, second])


@handles("keras.ops.solve_triangular")
def _solve_triangular(call: Call) -> None:
    first, second = (call.keras_order(call[name]) for name in ("a", "b"))
    if second.rank == first.rank - 1:
        raise call.refuse("a right side that is a vector is not supported")
    call.returns(f"torch.linalg.solve_triangular({{0}}, {{1}}, upper={not call['lower']})", [first, second])
