"""Name the torch modules that keras3conv defines for Keras layers without a counterpart in torch.

Translate their activations between the names in torch and in Keras.
"""

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import name_of
from keras3conv.rules.operations import activations

_MODULE = "keras3conv.frameworks.torch.layers"

ATTENTION = f"{_MODULE}.Attention"
ADDITIVE_ATTENTION = f"{_MODULE}.AdditiveAttention"
GROUPED_QUERY_ATTENTION = f"{_MODULE}.GroupedQueryAttention"
GAUSSIAN_DROPOUT = f"{_MODULE}.GaussianDropout"
GAUSSIAN_NOISE = f"{_MODULE}.GaussianNoise"
CONV_LSTM = f"{_MODULE}.ConvLSTM"
MASKED_BATCH_NORM = f"{_MODULE}.MaskedBatchNorm"
NORMALIZATION = f"{_MODULE}.Normalization"
RECURRENT = f"{_MODULE}.Recurrent"

_FUNCTIONS = {
    "linear": "linear",
    **{
        name: entry.name
        for name, entry in activations().items()
        if f"torch.nn.functional.{entry.name}" in entry.torch and entry.is_elementwise and not entry.note
        if not entry.without_defaults(entry.to_torch({}, as_activation=True))
    },
    "keras3conv>hard_sigmoid_of_keras_2": "hard_sigmoid_of_keras_2",
}
"""For each Keras activation, the equal function in `torch.nn.functional`, which needs no further arguments."""


def function_of(kind: str, activation: object) -> str:
    """Return the name in `torch.nn.functional` of a Keras activation; raise `RuleError` if it is unknown."""
    name = name_of(activation)
    if name not in _FUNCTIONS:
        known = ", ".join(_FUNCTIONS)
        raise RuleError(
            f"{kind.rpartition('.')[2]} is not supported with activation={name!r}; the supported activations are "
            f"{known}"
        )
    return _FUNCTIONS[name]


def activation_of(kind: str, function: str) -> str:
    """Return the Keras name of an activation; the inverse of `function_of`.

    Args:
        kind: The class of the torch module, for the message.
        function: The name of the activation in `torch.nn.functional`.
    """
    names = {function: name for name, function in _FUNCTIONS.items()}
    if function not in names:
        known = ", ".join(names)
        raise RuleError(
            f"{kind.rpartition('.')[2]} is not supported with activation={function!r}; the supported activations are "
            f"{known}"
        )
    return names[function]
