"""Operators of torch in Keras models, on every backend in float64: the cases that the torch backend is tested with."""

import pytest
import torch

from tests.support.to_keras import Function, converted
from tests.support.torch_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_the_same_on_this_backend(name: str) -> None:
    function, shape = CASES[name]
    torch.manual_seed(0)
    converted(Function(function), torch.randn(shape))
