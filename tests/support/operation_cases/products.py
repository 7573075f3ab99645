"""Cases of matrix products and functions of matrices."""

from typing import Any

import numpy as np
from keras import ops

from tests.support.operations import IMAGE, SEQUENCE, VECTOR, Case, Function, Given, case, named

_SQUARE = (4, 4)
_PAIR = (Given((3, 4), "int32"), Given((4, 2), "int32"))


def _positive(x: Any) -> Any:
    """Return invertible symmetric matrices."""
    return x @ ops.swapaxes(x, -1, -2) + ops.eye(4) * 4


def _of_matrix(name: str, **settings: object) -> Case:
    function: Function = named(name, **settings)
    return case(lambda x: function(_positive(x)), _SQUARE)


CASES: dict[str, list[Case]] = {
    "einsum": [
        case(lambda x, y: ops.einsum("bhwc,bhwd->bcd", x, y), IMAGE, IMAGE),
        case(lambda x, y: ops.einsum("bhwc,bhwd", x, y), IMAGE, IMAGE),
        case(lambda x, y: ops.einsum("...c,dc", x, y[0]), IMAGE, (7, 4)),
        case(lambda x, y: ops.einsum("...ij,jk->...ik", x, y[0]), IMAGE, (4, 3)),
        case(lambda x: ops.einsum("bhwc->bch", x), IMAGE),
        case(lambda x: ops.einsum("bii->bi", x), _SQUARE),
        case(lambda x, y: ops.einsum("btc,bsc->bts", x, y), SEQUENCE, (3, 4)),
        case(lambda x, y: ops.einsum("bhwc, bHWc->bhwHW", x, y), IMAGE, (3, 2, 4), inside=True),
    ],
    "matmul": [
        case(lambda x, y: x @ ops.swapaxes(y, -1, -2), IMAGE, IMAGE),
        case(lambda x, y: ops.matmul(x, y[0]), IMAGE, (4, 3)),
        case(lambda x, y: ops.matmul(x, y[0]), IMAGE, VECTOR),
        case(named("matmul"), Given((3, 4), "int32"), (4, 2)),
        case(named("matmul"), *_PAIR),
    ],
    "dot": [
        case(lambda x, y: ops.dot(x, y[0]), IMAGE, (4, 3)),
        case(lambda x, y: ops.dot(x, y[0]), IMAGE, VECTOR),
        case(lambda x, y: ops.dot(x[0], y[0]), VECTOR, VECTOR),
        case(lambda x, y: ops.dot(x, ops.max(y)), IMAGE, VECTOR),
    ],
    "tensordot": [
        case(lambda x, y: ops.tensordot(x, y[0], axes=[[1, 3], [1, 0]]), IMAGE, (4, 6, 2)),
        case(lambda x, y: ops.tensordot(x, y[0], axes=1), IMAGE, (4, 2)),
        case(lambda x, y: ops.tensordot(x, y[0], axes=2), IMAGE, (5, 4, 2)),
    ],
    "inner": [
        case(lambda x, y: ops.inner(x, y[0]), IMAGE, (7, 4)),
        case(lambda x, y: ops.inner(x[0], y[0]), VECTOR, VECTOR),
    ],
    "vdot": [case(lambda x, y: ops.vdot(x[0], y[0]), VECTOR, VECTOR)],
    "outer": [case(lambda x, y: ops.outer(x, y[0]), IMAGE, VECTOR)],
    "kron": [case(lambda x, y: ops.kron(x[0], y[0]), (2, 3), (3, 2))],
    "cross": [
        case(named("cross"), (5, 4, 3), (5, 4, 3), by_numpy=np.cross),
        case(named("cross", axis=1), (3, 5, 4), (3, 5, 4), by_numpy=lambda x, y: np.cross(x, y, axis=1)),
    ],
    "cdist": [case(named("cdist"), (5, 3), (4, 3))],
    "cholesky": [_of_matrix("cholesky"), _of_matrix("cholesky", upper=True)],
    "cholesky_inverse": [case(lambda x: ops.cholesky_inverse(ops.cholesky(_positive(x))), _SQUARE)],
    "det": [_of_matrix("det")],
    "inv": [_of_matrix("inv")],
    "logdet": [_of_matrix("logdet")],
    "pinv": [_of_matrix("pinv")],
    "solve": [case(lambda x, y: ops.solve(_positive(x), y), _SQUARE, (4, 2))],
    "solve_triangular": [
        case(lambda x, y: ops.solve_triangular(ops.cholesky(_positive(x)), y, lower=True), _SQUARE, (4, 2))
    ],
    "svd": [
        case(lambda x: ops.svd(x, full_matrices=False)[1], (5, 3)),
        case(lambda x: ops.svd(x, compute_uv=False), (5, 3)),
        case(lambda x: ops.matmul(ops.abs(ops.svd(x)[0]), x), (5, 3)),
    ],
    "qr": [
        case(lambda x: ops.matmul(*ops.qr(x)), (5, 3)),
        case(lambda x: ops.qr(x, mode="complete")[0], (5, 3)),
    ],
    "eigh": [
        case(lambda x: ops.eigh(_positive(x))[0], _SQUARE),
        case(lambda x: ops.abs(ops.eigh(_positive(x))[1]), _SQUARE),
    ],
    "slogdet": [case(ops.slogdet, _SQUARE, inside=True)],
    "lstsq": [case(lambda x, y: ops.lstsq(x[0], y[0]), (5, 3), (5, 2))],
}
