"""Refuse torch operators that cannot be part of a functional Keras model, each with a reason."""

from functools import partial

from keras3conv.builder.to_keras.call import Call, Result, handles
from keras3conv.errors import RuleError

_RANDOM = (
    "bernoulli", "exponential", "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like",
    "randn", "randn_like", "randperm", "uniform",
)  # fmt: skip
_SIZES = (
    "_unique", "_unique2", "masked_scatter", "masked_select", "nonzero", "nonzero_numpy", "unique_consecutive",
    "unique_dim",
)  # fmt: skip

REASONS = {
    **dict.fromkeys(_RANDOM, "it draws random numbers in evaluation mode: take them as an input of the module"),
    **dict.fromkeys(_SIZES, "the number of elements of its result depends on the data"),
    "_remove_batch_dim": "torch.vmap cannot be converted: write the computation with an axis for the batch",
    "embedding_renorm": "an embedding with max_norm changes its weight in every call: normalise the weight once before",
}
"""For each torch operator that cannot be converted, the reason for the error message."""


def _refused(_call: Call, *, reason: str) -> Result:
    raise RuleError(reason)


for _name, _reason in REASONS.items():
    handles(_name)(partial(_refused, reason=_reason))
