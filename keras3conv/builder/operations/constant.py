"""Convert layers with constants that are not trained: Rescaling, Normalization, and Dropout with a noise shape."""

import numpy as np

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import dtype_of
from keras3conv.builder.program.names import OWN_LAYERS

_EPSILON = 1e-7
"""The lower limit that Keras applies to the standard deviation in a Normalization layer."""


@handles("keras.layers.Rescaling")
def _rescaling(call: Call) -> None:
    given, scale, offset = call.tensor, call.get("scale"), call.get("offset", 0.0)
    if isinstance(scale, int | float) and isinstance(offset, int | float):
        call.returns(given * scale + offset if offset else given * scale, given.order)
        return
    factors = {"scale": np.asarray(scale, "float64"), "offset": np.asarray(offset, "float64")}
    constants = [call.builder.constant(array, f"{call.node.path}/{name}") for name, array in factors.items()]
    (given, *constants), order = call.aligned([given, *constants])
    factor, shift = (constant.method("to", dtype_of(given)) for constant in constants)
    call.returns(given * factor + shift, order)


@handles("keras.layers.Normalization")
def _normalization(call: Call) -> None:
    given, axes = call.tensor, call.get("axis", -1)
    axes = tuple(axes) if isinstance(axes, tuple | list) else () if axes is None else (axes,)
    if call.get("mean") is not None or any(axis % given.rank != given.rank - 1 for axis in axes):
        call.builder.by_rule(call)  # a torch module of keras3conv stores the given constants, in any dtype
        return
    moments = [call.builder.variable(f"{call.node.path}/{name}") for name in ("mean", "variance")]
    (given, mean, variance), order = call.aligned([given, *moments])
    deviation = variance.method("sqrt").method("clamp", min=_EPSILON)
    call.returns(mean + given * deviation if call.get("invert") else (given - mean) / deviation, order)


@handles("keras.layers.Dropout")
def _dropout(call: Call) -> None:
    """Convert Dropout. Along an axis with a 1 in `noise_shape`, all values are dropped together or not at all."""
    shape, given = call.get("noise_shape"), call.tensor
    if shape is None or call.get("rate") == 0:
        call.builder.by_rule(call)
        return
    if any(one not in (None, 1, size) for one, size in zip(shape, given.shape, strict=True)):
        raise call.refuse(
            f"noise_shape={tuple(shape)} does not fit an input of shape {tuple(map(str, given.shape))}: each entry "
            "must be None, 1 or the size of the input"
        )
    shared = tuple(position for position, axis in enumerate(given.order) if shape[axis] == 1)
    config = {"p": float(call.get("rate")), "shared": shared}
    dropout = call.builder.module(f"{OWN_LAYERS}.SharedDropout", config, call.node.path)
    call.returns(dropout(given), given.order)
