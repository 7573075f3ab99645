"""Torch operators and their Keras translations, each in a small functional model."""

import pytest
import torch
from torch.nn import functional

from tests.support.to_keras import Function, converted
from tests.support.torch_cases import CASES, TEXT


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_the_same_in_keras(name: str) -> None:
    function, shape = CASES[name]
    converted(Function(function), torch.randn(shape))


def test_a_causal_attention_with_heads_is_not_permuted() -> None:
    def attend(x: torch.Tensor) -> torch.Tensor:
        heads = x.view(-1, 5, 2, 2).transpose(1, 2)
        made = functional.scaled_dot_product_attention(heads, heads, heads * 2, is_causal=True)
        return made.transpose(1, 2).reshape(-1, 5, 4)

    assert "transpose" not in converted(Function(attend), torch.randn(TEXT)).source


def test_an_attention_takes_a_constant_mask() -> None:
    mask = torch.ones(5, 5).tril().bool()

    def attend(x: torch.Tensor) -> torch.Tensor:
        x = x[:, None]
        bias = torch.zeros(5, 5).masked_fill(~mask, -3.0)
        made = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask, scale=0.3)
        return made + functional.scaled_dot_product_attention(x, x, x, attn_mask=bias)

    converted(Function(attend), torch.randn(TEXT))


def test_an_attention_with_values_of_another_size_is_written_out() -> None:
    def attend(x: torch.Tensor) -> torch.Tensor:
        x = x[:, None]
        mask = torch.ones(5, 5).tril().bool()
        return functional.scaled_dot_product_attention(x, x * 2, x[..., :3], attn_mask=mask)

    assert "dot_product_attention" not in converted(Function(attend), torch.randn(TEXT)).source
