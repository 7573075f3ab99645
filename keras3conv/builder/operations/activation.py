"""Convert the activation functions of Keras (`keras.activations`), with Keras' default arguments."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F
from keras3conv.builder.operations.pointwise import UNARY, Unary, softplus, squareplus, unary
from keras3conv.builder.program.operation import Function
from keras3conv.rules.operation import Operation
from keras3conv.rules.operations import activations

_OF_KERAS_ALONE: dict[str, Unary] = {
    "softplus": softplus,
    "sparse_plus": UNARY["sparse_plus"],
    "sparse_sigmoid": UNARY["sparse_sigmoid"],
    "squareplus": squareplus,
}
"""For each activation that torch lacks or computes less accurately, by name: the function that computes it."""


def _as_activation(operation: Operation) -> Unary:
    """Return the torch function that computes an activation of Keras.

    Args:
        operation: The names and defaults of the activation in both frameworks. The torch function gets the defaults of
            Keras where those of torch differ.
    """
    arguments = operation.without_defaults(operation.to_torch({}, as_activation=True))
    function = Function(operation.torch[0])
    return lambda x: function(x, *arguments.values())


def _along_the_last_axis(call: Call, *, function: Function) -> None:
    given = call.tensor
    call.returns(function(given, dim=given.position(-1)), given.order)


@handles("keras.activations.linear")
def _linear(call: Call) -> None:
    call.passes(call.tensor)


for _name, _operation in activations().items():
    if _operation.is_elementwise and _name not in ("relu", *_OF_KERAS_ALONE):  # `relu` has arguments: see `pointwise`
        handles(f"keras.activations.{_name}")(partial(unary, function=_as_activation(_operation)))
for _name, _function in _OF_KERAS_ALONE.items():
    handles(f"keras.activations.{_name}")(partial(unary, function=_function))
for _name in ("softmax", "log_softmax", "glu"):
    handles(f"keras.activations.{_name}")(partial(_along_the_last_axis, function=F.named(_name)))
