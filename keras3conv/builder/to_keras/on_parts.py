"""Convert calls with an `Unmerged` argument, a tensor whose axes torch has merged and Keras has not.

A call is converted on the separate axes if possible, else after a permutation that merges them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import walk
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Call, Result
from keras3conv.builder.to_keras.contracting import attended, contracted_call
from keras3conv.builder.to_keras.forms import FORMS, TAKES_MAXIMA, Complex, Constant, Held, Maxima, Unmerged
from keras3conv.builder.to_keras.operations_axes import RESHAPES, dims_of, permuted, reshaped, reshaped_in_place
from keras3conv.builder.to_keras.operations_complex import handler_for
from keras3conv.builder.to_keras.operations_convolutions import convolved_each
from keras3conv.builder.to_keras.operations_pointwise import ELEMENTWISE
from keras3conv.builder.to_keras.unmerged import apart, can_reshape, grouped, split_further
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Tensor, mapped

_PERMUTING = frozenset({"permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "movedim"})
_ALONG_AXES = frozenset(
    {
        "select", "slice", "narrow", "split", "split_with_sizes", "chunk", "unbind", "softmax", "_softmax",
        "log_softmax", "_log_softmax", "mean", "sum", "amax", "amin", "normalize", "flip", "cumsum",
    }
)  # fmt: skip
"""Operators with an argument `dim` that treat all other axes alike."""

_ALONG_LAST = {"linear": "input", "addmm": "mat1", "layer_norm": "input", "rms_norm": "input"}
"""Operators that treat all axes except the last alike, and the name of their input."""

_OF_SEVERAL: dict[str, Callable[[Call], Value | Unmerged | None]] = {
    **dict.fromkeys(("matmul", "bmm", "baddbmm", "einsum"), contracted_call),
    "scaled_dot_product_attention": attended,
    **dict.fromkeys((f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)), convolved_each),
}
"""Operators with several tensors, and the functions that convert them."""


def handled(call: Call) -> Result:
    """Convert a call. Axes that only torch has merged (`Unmerged`) stay separate if the operator allows it."""
    is_apart = any(isinstance(leaf, Unmerged) for leaf in walk(call.arguments))
    made = _on_parts(call) if is_apart else _kept_apart(call)
    if made is not None:
        return made
    if is_apart:
        whole = mapped(call.arguments, lambda leaf: call.writer.value(leaf) if isinstance(leaf, Unmerged) else leaf)
        call = Call(call.node, whole, call.writer)
    if call.name not in TAKES_MAXIMA and any(isinstance(leaf, Maxima) for leaf in walk(call.arguments)):
        raise RuleError(f"the operator needs a tensor of numbers, found {FORMS['Maxima']}")
    return handler_for(call)(call)


def _kept_apart(call: Call) -> Result:
    """Return the result of a reshape, with the axes apart (`Unmerged`) if they are not adjacent in Keras; else None."""
    value = call.arguments.get("self")
    if call.name not in RESHAPES or not isinstance(value, Value):
        return None
    if 1 not in value.shape and (made := reshaped_in_place(call, value, call.shape)) is not None:
        return made
    return split_further(call, value, call.shape)


def _on_parts(call: Call) -> Result:
    """Return the result of a call with an `Unmerged` argument; None if the operator needs the merged axes."""
    if call.node.kind in ELEMENTWISE or call.node.kind.rpartition(".")[0] in ELEMENTWISE:
        return _elementwise(call)
    name = _ALONG_LAST.get(call.name, "self")
    given, others = call.arguments.get(name), [one for key, one in call.arguments.items() if key != name]
    if isinstance(given, Unmerged) and not any(isinstance(leaf, Unmerged) for leaf in walk(others)):
        if call.name in RESHAPES:
            return split_further(call, given, call.shape)
        if call.name in _PERMUTING:
            return _permuted(call, given)
        if call.name in _ALONG_LAST or (call.name == "matmul" and len(call.arguments["other"].shape) == 2):
            return _along_last(call, given, name)
        if call.name in _ALONG_AXES:
            return _along_axes(call, given)
    made = _OF_SEVERAL.get(call.name)
    return None if made is None else made(call)


def _permuted(call: Call, tensor: Unmerged) -> Value | Unmerged:
    dims = dims_of(call, len(tensor.shape))
    parts = permuted(tensor.parts, [part for dim in dims for part in tensor.groups[dim]])
    return apart(
        call, parts, grouped([len(tensor.groups[dim]) for dim in dims]), tuple(tensor.shape[dim] for dim in dims)
    )


def _on(call: Call, arguments: dict[str, Any], shapes: Sequence[Shape]) -> Result:
    """Convert a call with replaced arguments and replaced shapes of its results, and return the result.

    Args:
        call: The call.
        arguments: The new arguments, by name.
        shapes: The new shape of each result.
    """
    outputs = tuple(replace(output, shape=shape) for output, shape in zip(call.node.outputs, shapes, strict=True))
    inner = Call(replace(call.node, outputs=outputs), {**call.arguments, **arguments}, call.writer)
    return handler_for(inner)(inner)


def _along_last(call: Call, tensor: Unmerged, name: str) -> Value | Unmerged | None:
    """Convert an operator along the last axis of an `Unmerged` argument; None if this axis is merged from several."""
    parts = tensor.parts
    if len(tensor.groups[-1]) != 1 or parts.order[-1] != parts.rank - 1:
        return None
    if len(call.get("normalized_shape", [0])) != 1:
        return None
    made = _on(call, {name: parts}, [(*parts.shape[:-1], call.shape[-1])])
    return apart(call, made, tensor.groups, call.shape) if isinstance(made, Value) else None


def _along_axes(call: Call, tensor: Unmerged) -> Result:
    """Convert an operator along axes of an `Unmerged` argument; None if one of them is merged from several."""
    dims = call.get("dim", call.get("dims"))
    if dims is None and call.name in ("select", "slice", "split", "split_with_sizes", "chunk", "unbind"):
        dims = 0
    axes = [dim % len(tensor.shape) for dim in ([dims] if isinstance(dims, int) else dims or [])]
    if not axes or any(len(tensor.groups[axis]) != 1 for axis in axes):
        return None
    places = [tensor.groups[axis][0] for axis in axes]
    name = "dims" if "dims" in call.arguments else "dim"
    changed = {"self": tensor.parts, name: places[0] if isinstance(dims, int) else places}
    kept = [axis for axis in range(len(tensor.shape)) if len(call.shape) == len(tensor.shape) or axis not in axes]
    shapes = [_of_parts(tensor, kept, output) for output in call.node.outputs]
    made = _on(call, changed, shapes)
    groups = grouped([len(tensor.groups[axis]) for axis in kept])
    results = [
        apart(call, one, groups, output.shape) if isinstance(one, Value) else one
        for one, output in zip(made if isinstance(made, list | tuple) else [made], call.node.outputs, strict=False)
    ]
    return results if isinstance(made, list | tuple) else results[0]


def _of_parts(tensor: Unmerged, kept: Sequence[int], output: Tensor) -> Shape:
    """Return the shape of a result that keeps the separate axes of its `Unmerged` argument.

    Args:
        tensor: The argument from which the result is computed.
        kept: The axes of the argument that the result has.
        output: The result, with merged axes.
    """
    sizes: list[Any] = []
    for axis, size in zip(kept, output.shape, strict=True):
        parts = tensor.groups[axis]
        sizes += [size] if len(parts) == 1 else [tensor.parts.shape[part] for part in parts]
    return tuple(sizes)


def _elementwise(call: Call) -> Value | Unmerged | None:
    """Convert an elementwise operator on the axes of the `Unmerged` operand that has the shape of the result.

    Returns:
        The result; None if there is no such operand, or if another operand cannot get its axes without a permutation.
    """
    operands = [leaf for leaf in walk(call.arguments) if isinstance(leaf, Unmerged)]
    whole = next((one for one in operands if one.shape == call.shape), None)
    if whole is None or call.name == "feature_dropout":
        return None
    if call.node.config.get("for_each_example", False) and len(whole.groups[0]) != 1:
        return None
    arguments: dict[str, Any] = {}
    for name, given in call.arguments.items():
        is_tensor = isinstance(given, Value | Constant | Held | Complex | Unmerged)
        arguments[name] = _fitted(call, given, whole) if is_tensor else given
        if is_tensor and arguments[name] is None:
            return None
    made = _on(call, arguments, [whole.parts.shape])
    return apart(call, made, whole.groups, call.shape) if isinstance(made, Value) else None


def _fitted(call: Call, tensor: Any, whole: Unmerged) -> Any:
    """Return an operand with the separate axes of the `Unmerged` tensor `whole`; None if that needs a permutation."""
    if isinstance(tensor, Unmerged):
        sizes_of = zip(tensor.parts.shape, whole.parts.shape, strict=False)
        is_alike = tensor.groups == whole.groups and all(own in (1, size) for own, size in sizes_of)
        return tensor.parts if is_alike else None
    if isinstance(tensor, Complex):
        return None
    shape = tensor.array.shape if isinstance(tensor, Constant) else tensor.shape
    groups = whole.groups[len(whole.shape) - len(shape) :] if shape else ()
    sizes: list[Any] = []
    for axis, (size, parts) in enumerate(zip(shape, groups, strict=True), len(whole.shape) - len(shape)):
        if size not in (1, whole.shape[axis]):
            return None
        sizes += [1] * len(parts) if size == 1 else [whole.parts.shape[part] for part in parts]
    fine = tuple(sizes)
    if fine == tuple(shape):
        return tensor
    if isinstance(tensor, Constant):
        return Constant(name=f"{tensor.name} {fine}", array=np.reshape(tensor.array, fine), shape=fine)
    value = call.writer.value(tensor)
    return reshaped(call, value, fine) if can_reshape(value, fine) else None
