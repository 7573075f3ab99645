"""The activations of Keras, with the settings that Keras assumes: a slope of 0.2, an exact GELU."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.pointwise import SOFTPLUS, UNARY, unary

_ACTIVATIONS = {
    "celu": "F.celu({0})",
    "elu": "F.elu({0})",
    "exponential": "torch.exp({0})",
    "gelu": "F.gelu({0})",
    "hard_shrink": "F.hardshrink({0})",
    "hard_sigmoid": "F.hardsigmoid({0})",
    "hard_silu": "F.hardswish({0})",
    "hard_tanh": "F.hardtanh({0})",
    "leaky_relu": "F.leaky_relu({0}, 0.2)",
    "log_sigmoid": "F.logsigmoid({0})",
    "mish": "F.mish({0})",
    "relu": "F.relu({0})",
    "relu6": "F.relu6({0})",
    "selu": "F.selu({0})",
    "sigmoid": "torch.sigmoid({0})",
    "silu": "F.silu({0})",
    "soft_shrink": "F.softshrink({0})",
    "softplus": SOFTPLUS,
    "softsign": "F.softsign({0})",
    "sparse_plus": UNARY["sparse_plus"],
    "sparse_sigmoid": UNARY["sparse_sigmoid"],
    "squareplus": "({0} + torch.sqrt({0} * {0} + 4)) / 2",
    "tanh": "torch.tanh({0})",
    "tanh_shrink": "F.tanhshrink({0})",
    "threshold": "F.threshold({0}, 0.0, 0.0)",
}


def _along_the_last_axis(call: Call, *, function: str) -> None:
    given = call.tensor
    call.returns(f"{function}({{0}}, dim={given.place(-1)})", [given], given.order)


@handles("keras.activations.linear")
def _linear(call: Call) -> None:
    call.passes(call.tensor)


for _name, _template in _ACTIVATIONS.items():
    if _name != "relu":  # the class of this name has settings
        handles(f"keras.activations.{_name}")(partial(unary, template=_template))
for _name, _function in {"softmax": "F.softmax", "log_softmax": "F.log_softmax", "glu": "F.glu"}.items():
    handles(f"keras.activations.{_name}")(partial(_along_the_last_axis, function=_function))
