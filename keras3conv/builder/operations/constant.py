"""Layers that compute with numbers that are not trained: a normalisation with known statistics, a dropout."""

import numpy as np

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.program.names import OWN_LAYERS

_EPSILON = 1e-7
"""Keras' own: below it no standard deviation is divided by."""


@handles("keras.layers.Rescaling")
def _rescaling(call: Call) -> None:
    given, scale, offset = call.tensor, call.get("scale"), call.get("offset", 0.0)
    if isinstance(scale, int | float) and isinstance(offset, int | float):
        shift = f" + {offset!r}" if offset else ""
        call.returns(f"{{0}} * {scale!r}{shift}", [given], given.order)
        return
    factors = {"scale": np.asarray(scale, "float64"), "offset": np.asarray(offset, "float64")}
    values, order = call.aligned([given, *(call.constant(array, name) for name, array in factors.items())])
    call.returns("{0} * {1}.to({0}.dtype) + {2}.to({0}.dtype)", values, order)


@handles("keras.layers.Normalization")
def _normalization(call: Call) -> None:
    given, axes = call.tensor, call.get("axis", -1)
    axes = tuple(axes) if isinstance(axes, tuple | list) else () if axes is None else (axes,)
    if call.get("mean") is not None or any(axis % given.rank != given.rank - 1 for axis in axes):
        call.by_rule()  # a module of our own, which has constants as they were written, in any dtype
        return
    values, order = call.aligned([given, call.variable("mean"), call.variable("variance")])
    deviation = f"{{2}}.sqrt().clamp(min={_EPSILON!r})"
    template = f"{{1}} + {{0}} * {deviation}" if call.get("invert") else f"({{0}} - {{1}}) / {deviation}"
    call.returns(template, values, order)


@handles("keras.layers.Dropout")
def _dropout(call: Call) -> None:
    """With a noise shape, one decision for many values."""
    shape, given = call.get("noise_shape"), call.tensor
    if shape is None or call.get("rate") == 0:
        call.by_rule()
        return
    if any(one not in (None, 1, size) for one, size in zip(shape, given.shape, strict=True)):
        raise call.refuse(f"noise_shape={tuple(shape)} does not fit an input of shape {tuple(map(str, given.shape))}")
    shared = tuple(place for place, axis in enumerate(given.order) if shape[axis] == 1)
    name = call.module(f"{OWN_LAYERS}.SharedDropout", p=float(call.get("rate")), shared=shared)
    call.returns("{module}({0})", [given], given.order, module=name)
