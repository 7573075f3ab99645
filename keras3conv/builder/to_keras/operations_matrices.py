"""Convert operators on the last two axes of a tensor, and operators that take windows or diagonals of a tensor."""

from functools import partial
from typing import Any

import numpy as np

from keras3conv.builder.program.program import identity
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_axes import permuted
from keras3conv.builder.to_keras.operations_indexing import as_int32
from keras3conv.errors import RuleError

_FUNCTIONS = {
    "linalg_inv": "inv",
    "inverse": "inv",
    "linalg_det": "det",
    "det": "det",
    "linalg_cholesky": "cholesky",
}


def _of_matrices(call: Call, *, name: str) -> Result:
    given: Any = call.arguments.get("self", call.arguments.get("A"))
    if call.get("upper", False):
        raise RuleError(f"{call.name} is supported only with upper=False")
    return call.step(ops.named(name)(call.ordered(given, identity(len(given.shape)))))


for _torch, _keras in _FUNCTIONS.items():
    handles(_torch)(partial(_of_matrices, name=_keras))


@handles("linalg_slogdet", "linalg_eigh", "linalg_eigvalsh", "linalg_svdvals")
def _decomposed(call: Call) -> Result:
    """Convert decompositions of matrices; their eigenvectors may differ by a sign, so only values are converted."""
    given: Any = call.arguments.get("self", call.arguments.get("A"))
    value = call.ordered(given, identity(len(given.shape)))
    if call.name == "linalg_svdvals":
        return call.step(ops.svd(value, compute_uv=False))
    used = call.node.config.get("used", ())
    if call.name == "linalg_eigh" and 1 in used:
        raise RuleError(
            "the eigenvectors of linalg_eigh have signs that depend on the library: use the eigenvalues only"
        )
    function = ops.slogdet if call.name == "linalg_slogdet" else ops.eigh
    shapes = [output.shape for output in call.node.outputs]
    if call.name == "linalg_eigvalsh":
        shapes.append(value.shape)
    made = [call.writer.new(shape, identity(len(shape)), value.dtype) for shape in shapes]
    call.writer.write(function(value), made)
    return made[0] if call.name == "linalg_eigvalsh" else made


@handles("linalg_qr")
def _orthogonal(call: Call) -> Result:
    """Convert `qr`; every library that Keras calls computes it by Householder reflections, with the same signs."""
    mode = call.get("mode", "reduced")
    value = call.ordered(call.arguments["A"], identity(len(call.arguments["A"].shape)))
    shapes = [output.shape for output in call.node.outputs]
    made = [call.writer.new(shape, identity(value.rank), value.dtype) for shape in shapes]
    call.writer.write(ops.qr(value, **({"mode": mode} if mode == "complete" else {})), made)
    return [None if mode == "r" else made[0], made[1]]


@handles("linalg_solve")
def _solve(call: Call) -> Result:
    left, right = call.arguments["A"], call.arguments["B"]
    if len(left.shape) != len(right.shape) or not call.get("left", True):
        raise RuleError("linalg_solve is supported only with left=True and a B that has as many axes as A")
    values = [call.ordered(one, identity(len(one.shape))) for one in (left, right)]
    return call.step(ops.solve(*values))


@handles("tril", "triu")
def _triangle(call: Call) -> Result:
    value = call.ordered(call.arguments["self"], identity(len(call.shape)))
    diagonal = call.get("diagonal", 0)
    if not isinstance(diagonal, int):
        raise RuleError(f"the argument diagonal of {call.name} is a dynamic size, but must be an integer")
    return call.step(ops.named(call.name)(value, **({"k": diagonal} if diagonal else {})))


@handles("diagonal")
def _diagonal(call: Call) -> Result:
    value = call.ordered(call.arguments["self"], identity(len(call.arguments["self"].shape)))
    first, second = call.get("dim1", 0) % value.rank, call.get("dim2", 1) % value.rank
    return call.step(ops.diagonal(value, offset=call.get("offset", 0), axis1=first, axis2=second))


@handles("unfold")
def _windows(call: Call) -> Result:
    """Convert `unfold`: take all windows along an axis; a new last axis has the elements of a window."""
    value, size, step = call.value("self"), call.arguments["size"], call.arguments["step"]
    value = call.ordered(value, identity(value.rank))
    axis = call.arguments["dimension"] % value.rank
    length = value.shape[axis]
    if not isinstance(length, int):
        raise RuleError(f"axis {axis} has a dynamic size, but unfold needs an axis of fixed size")
    array = np.arange(0, length - size + 1, step)[:, None] + np.arange(size)
    places = call.writer.value(
        as_int32(Constant(name=f"{call.node.outputs[0].name} places", array=array, shape=array.shape))
    )
    shape = (*value.shape[:axis], *array.shape, *value.shape[axis + 1 :])
    made = call.step(ops.take(value, places, axis=axis), shape, dtype=value.dtype)
    return permuted(made, [one for one in range(made.rank) if one != axis + 1] + [axis + 1])
