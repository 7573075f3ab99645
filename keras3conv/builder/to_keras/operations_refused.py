"""Refuse torch operators that cannot be part of a functional Keras model, each with a reason."""

from functools import partial

from keras3conv.builder.to_keras.call import Call, Result, handles
from keras3conv.errors import RuleError

_MEAN, _SUM = 1, 2
"""The reductions of a loss as the operators number them."""

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
    "bincount": "the number of elements of its result depends on the data: add up functional.one_hot(x, number)",
    "embedding_renorm": "an embedding with max_norm changes its weight in every call: normalise the weight once before",
}
"""For each torch operator that cannot be converted, the reason for the error message."""


def _refused(_call: Call, *, reason: str) -> Result:
    raise RuleError(reason)


@handles("cross_entropy_loss", "nll_loss_nd")
def _loss(call: Call) -> Result:
    """Refuse a loss that is reduced to a number; that of each sample is computed with other operators."""
    if call.get("reduction", _MEAN) in (_MEAN, _SUM):
        raise RuleError(
            "it reduces the loss of a batch to a number, in which the samples of a batch are not apart: call it with "
            'reduction="none", or leave it out of the module, and give the loss to model.compile'
        )
    raise RuleError(f"Keras has no counterpart for {call.name}")


for _name, _reason in REASONS.items():
    handles(_name)(partial(_refused, reason=_reason))
