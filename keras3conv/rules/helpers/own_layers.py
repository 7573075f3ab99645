"""The modules of our own that say on the torch side what Keras computes in one layer."""

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import name_of

_MODULE = "keras3conv.frameworks.torch.layers"

ATTENTION = f"{_MODULE}.Attention"
ADDITIVE_ATTENTION = f"{_MODULE}.AdditiveAttention"
GROUPED_QUERY_ATTENTION = f"{_MODULE}.GroupedQueryAttention"
GAUSSIAN_DROPOUT = f"{_MODULE}.GaussianDropout"
GAUSSIAN_NOISE = f"{_MODULE}.GaussianNoise"
CONV_LSTM = f"{_MODULE}.ConvLSTM"
NORMALIZATION = f"{_MODULE}.Normalization"
RECURRENT = f"{_MODULE}.Recurrent"

_FUNCTIONS = {
    **{
        name: name for name in ("elu", "gelu", "linear", "relu", "relu6", "selu", "sigmoid", "silu", "softsign", "tanh")
    },
    "hard_sigmoid": "hardsigmoid",
    "keras3conv>hard_sigmoid_of_keras_2": "hard_sigmoid_of_keras_2",
}
"""Keras' names of the activations that both sides compute alike, with those in `torch.nn.functional`."""


def function_of(kind: str, activation: object) -> str:
    """The name in `torch.nn.functional` of an activation inside a Keras layer; raises `RuleError` for another."""
    name = name_of(activation)
    if name not in _FUNCTIONS:
        known = ", ".join(_FUNCTIONS)
        raise RuleError(f"{kind.rpartition('.')[2]} with activation={name!r} inside: known are {known}")
    return _FUNCTIONS[name]


def activation_of(kind: str, function: str) -> str:
    """Keras' name of an activation; the inverse of `function_of`."""
    names = {function: name for name, function in _FUNCTIONS.items()}
    if function not in names:
        known = ", ".join(names)
        raise RuleError(f"{kind.rpartition('.')[2]} with activation={function!r} inside: known are {known}")
    return names[function]


__all__ = [
    "ADDITIVE_ATTENTION",
    "ATTENTION",
    "CONV_LSTM",
    "GAUSSIAN_DROPOUT",
    "GAUSSIAN_NOISE",
    "GROUPED_QUERY_ATTENTION",
    "NORMALIZATION",
    "RECURRENT",
    "activation_of",
    "function_of",
]
