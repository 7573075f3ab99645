"""Refuse operators for which a functional Keras model has no form, each with the reason."""

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

_REASONS = {
    **dict.fromkeys(_RANDOM, "draws random numbers in evaluation mode: take them as an input of the module"),
    **dict.fromkeys(_SIZES, "the number of elements depends on the data"),
    "_remove_batch_dim": "torch.vmap is not an operator: write the axis of the batch out",
    "embedding_renorm": "an embedding with max_norm changes its weight in every call: normalise the weight once before",
}


def _refused(call: Call, *, reason: str) -> Result:
    raise RuleError(f"{call.node.kind}: {reason}")


for _name, _reason in _REASONS.items():
    handles(_name)(partial(_refused, reason=_reason))
