"""Operators of torch in Keras models, on every backend in float64: the cases that the torch backend is tested with."""

import keras
import pytest
import torch

from keras3conv.errors import ModelError
from tests.support.to_keras import LIMIT, Function, converted
from tests.support.torch_cases import CASES

REFUSED = {
    "tensorflow": dict.fromkeys(
        (
            "elements of a constant row",
            "largest values",
            "one row of each example",
            "unpooling",
            "unpooling of a size that windows do not divide",
        ),
        "Argmax|Incompatible shapes",
    )
}
"""Cases that Keras itself cannot compute in float64 on a backend: `argmax` of TensorFlow splits each number."""


IN_FLOAT32 = {"tensorflow": ("resizing",)}
"""Cases that a backend computes in float32 whatever the dtype: `tf.image.resize`, which bilinear UpSampling2D calls."""

EVERY = 4
"""One of this many cases is tried in `make test`, all of them in `make test-full`: JAX compiles each operation anew.

On torch none is tried here, because tests/torch_backend/builder/to_keras/test_operations.py tries all.
"""


def is_left_to_full(place: int) -> bool:
    return place % EVERY != 0 or keras.backend.backend() == "torch"


NAMES = [
    pytest.param(name, marks=[pytest.mark.full] if is_left_to_full(place) else []) for place, name in enumerate(CASES)
]


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_computes_the_same_on_this_backend(name: str) -> None:
    function, shape = CASES[name]
    torch.manual_seed(0)
    refused = REFUSED.get(keras.backend.backend(), {}).get(name)
    if refused is None:
        is_rounded = name in IN_FLOAT32.get(keras.backend.backend(), ())
        converted(Function(function), torch.randn(shape), limit=1e-6 if is_rounded else LIMIT)
        return
    with pytest.raises(ModelError, match=refused):
        converted(Function(function), torch.randn(shape))
