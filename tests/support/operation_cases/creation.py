"""Cases of operations that create tensors from sizes, including the size of a dynamic axis."""

from keras import ops

from tests.support.operations import SEQUENCE, VECTOR, Case, Function, case


def _of_length(function: Function) -> Case:
    """Return a case of a function of the input and the size of its dynamic axis."""
    return case(lambda x: function(x, ops.shape(x)[1]), SEQUENCE, inside=True)


CASES: dict[str, list[Case]] = {
    "arange": [
        _of_length(lambda x, length: ops.take(x, ops.arange(length), axis=1)),
        _of_length(lambda x, length: ops.take(x, ops.arange(1, length, 2), axis=1)),
    ],
    "eye": [_of_length(lambda x, length: ops.matmul(ops.eye(length), x))],
    "identity": [_of_length(lambda x, length: ops.matmul(ops.identity(length), x))],
    "tri": [
        _of_length(lambda x, length: ops.matmul(ops.tri(length), x)),
        _of_length(lambda x, length: ops.matmul(ops.tri(length, k=-1), x)),
    ],
    "ones": [_of_length(lambda x, length: x + ops.ones((length, 4)))],
    "zeros": [_of_length(lambda x, length: x * ops.zeros((length, 4)))],
    "full": [
        _of_length(lambda x, length: x * ops.full((length, 4), 0.25)),
        case(lambda x: ops.full((2, 3, 4), x[0]), VECTOR),
    ],
}
