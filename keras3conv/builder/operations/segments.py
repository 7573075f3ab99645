"""Convert reductions of segments, the parts of a tensor whose rows have the same index."""

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import converted, is_float
from keras3conv.builder.program.operation import Expression
from keras3conv.builder.program.program import Value


@handles("keras.ops.segment_sum")
def _segment_sum(call: Call) -> None:
    data, segments = _rows(call)
    zeros = data.method("new_zeros", *call.sizes(call.shape))
    call.returns(zeros.method("index_add", 0, segments, data))


_REDUCED = {
    "segment_max": ("amax", -float("inf")),
    "segment_min": ("amin", float("inf")),
    "segment_prod": ("prod", 1.0),
}
"""The name of each reduction in torch, and its value for a segment without rows (of Keras on torch and JAX)."""


@handles(*(f"keras.ops.{name}" for name in _REDUCED))
def _segment_reduced(call: Call) -> None:
    data, segments = _rows(call)
    reduced, start = _REDUCED[call.node.kind.rpartition(".")[2]]
    if not is_float(data):
        raise call.refuse("it is supported only for floating-point numbers")
    filled: Expression = data.method("new_full", call.sizes(call.shape), start)
    places = segments[(slice(None), *(None,) * (data.rank - 1))] if data.rank > 1 else segments
    call.returns(filled.method("scatter_reduce", 0, places.method("expand_as", data), data, reduced))


def _rows(call: Call) -> tuple[Value, Value]:
    """Return the data of a reduction, and the index of the segment of each row."""
    if call["num_segments"] is None:
        raise call.refuse("it needs the argument num_segments: otherwise the shape of the result depends on the values")
    return call.keras_order(call["data"]), converted(call, call["segment_ids"], "int64")
