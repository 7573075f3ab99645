"""The activations of Keras, with Keras' default settings: a slope of 0.2, an exact GELU."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F, torch
from keras3conv.builder.operations.pointwise import UNARY, Unary, softplus, squareplus, unary
from keras3conv.builder.program.operation import Function

_ACTIVATIONS: dict[str, Unary] = {
    "celu": F.celu,
    "elu": F.elu,
    "exponential": torch.exp,
    "gelu": F.gelu,
    "hard_shrink": F.hardshrink,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "hard_tanh": F.hardtanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "soft_shrink": F.softshrink,
    "softplus": softplus,
    "softsign": F.softsign,
    "sparse_plus": UNARY["sparse_plus"],
    "sparse_sigmoid": UNARY["sparse_sigmoid"],
    "squareplus": squareplus,
    "tanh": torch.tanh,
    "tanh_shrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
}


def _along_the_last_axis(call: Call, *, function: Function) -> None:
    given = call.tensor
    call.returns(function(given, dim=given.position(-1)), given.order)


@handles("keras.activations.linear")
def _linear(call: Call) -> None:
    call.passes(call.tensor)


for _name, _function in _ACTIVATIONS.items():
    handles(f"keras.activations.{_name}")(partial(unary, function=_function))
for _name in ("softmax", "log_softmax", "glu"):
    handles(f"keras.activations.{_name}")(partial(_along_the_last_axis, function=F.named(_name)))
