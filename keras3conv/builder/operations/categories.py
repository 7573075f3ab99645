"""Convert the layers that turn categories and bins of numbers into vectors: CategoryEncoding and Discretization."""

from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import converted, device_of, torch, torch_dtype
from keras3conv.builder.program.operation import Expression, operator
from keras3conv.builder.program.program import Value


@handles("keras.layers.CategoryEncoding")
def _category_encoding(call: Call) -> None:
    given = converted(call, call.keras_order(call.tensor), "int64")
    _encode(call, given, call.get("num_tokens"), call.get("count_weights"))


@handles("keras.layers.Discretization")
def _discretization(call: Call) -> None:
    """Convert a Discretization: a value becomes the number of boundaries up to it, or a vector for this number."""
    bounds = call.get("bin_boundaries")
    if bounds is None:
        raise call.refuse("the layer has no bin_boundaries yet: call its method adapt, or pass bin_boundaries")
    given = call.keras_order(call.tensor)
    line = torch.tensor([float(bound) for bound in bounds], device=device_of(given))
    found = torch.bucketize(given, line, right=True)
    if call.get("output_mode") == "int":
        call.returns(found.method("to", torch_dtype(call, call.dtype)))
        return
    _encode(call, call.step(found, dtype="int64"), len(bounds) + 1, None)


def _encode(call: Call, indices: Value, depth: int, weights: Any) -> None:
    """Return vectors with one position for each category, from the indices of the categories.

    Args:
        call: The call of the layer, with an output_mode and sparse.
        indices: The indices, in the axis order of Keras. An index that is no category sets no position.
        depth: The number of categories.
        weights: The weight of each index, with output_mode="count"; None if all weights are one.
    """
    mode = call.get("output_mode")
    if call.get("sparse"):
        raise call.refuse("sparse=True is not supported: the torch module returns a dense tensor; set sparse=False")
    if mode == "one_hot" and indices.rank > 1 and indices.shape[-1] == 1:
        call.returns(_rows(indices, depth).method("squeeze", -2).method("to", torch_dtype(call, call.dtype)))
    elif mode == "one_hot":
        call.returns(_rows(indices, depth).method("to", torch_dtype(call, call.dtype)))
    elif indices.rank < 2:
        raise call.refuse(
            f"output_mode={mode!r} needs an axis of categories after that of the batch; the input has none"
        )
    elif mode == "multi_hot":
        call.returns(_rows(indices, depth).method("any", 1).method("to", torch_dtype(call, call.dtype)))
    else:
        counted: Expression = _rows(indices, depth)
        if weights is not None:
            counted = counted * call.keras_order(weights).method("unsqueeze", -1)
        call.returns(counted.method("sum", 1).method("to", torch_dtype(call, call.dtype)))


def _rows(indices: Value, depth: int) -> Expression:
    return operator("==", indices.method("unsqueeze", -1), torch.arange(depth, device=device_of(indices)))
