"""Torch operators and their Keras translations, each in a small functional model."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from keras3conv.builder.to_keras.build import build
from keras3conv.errors import UnsupportedLayerError
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


def test_batches_that_are_joined_are_split_again() -> None:
    def both(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        first, second = torch.cat([x, y]).square().chunk(2)
        return first - 2 * second

    built = converted(Function(both), (torch.randn(2, 3, 4), torch.randn(2, 3, 4)))
    assert tuple(built.model([torch.ones(5, 3, 4).numpy()] * 2).shape) == (5, 3, 4)


@pytest.mark.slow
def test_images_are_sampled_whose_channels_are_merged_with_the_batch() -> None:
    def sampled(images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        given, grid = images.flatten(0, 1)[:, None], places.flatten(0, 1)
        return functional.grid_sample(given, grid, align_corners=True).view(-1, 5, 3, 4)

    converted(Function(sampled), (torch.randn(2, 5, 6, 7), torch.rand(2, 5, 3, 4, 2) * 2.4 - 1.2))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_positions_that_are_no_numbers_or_infinite_are_sampled_as_torch_does(mode: str) -> None:
    nan, inf = float("nan"), float("inf")
    places = torch.tensor([[nan, 0.0], [0.0, nan], [inf, 0.5], [-0.5, -inf], [1e30, 0.0], [0.5, -1e30], [0.3, 0.2]])
    images, grid = torch.randn(2, 3, 4, 5), places.view(1, 1, 7, 2).repeat(2, 1, 1, 1)
    for padding in ("zeros", "border"):

        def sampled(x: torch.Tensor, y: torch.Tensor, padding: str = padding) -> torch.Tensor:
            return functional.grid_sample(x, y, mode=mode, padding_mode=padding, align_corners=False)

        model = build(Function(sampled), "first", (images, torch.rand_like(grid))).model
        found = np.asarray(model([images.numpy(), grid.numpy()]).detach())
        expected = sampled(images, grid).numpy()
        assert np.isfinite(expected).any()
        assert np.allclose(found, expected, atol=1e-5, equal_nan=True)


class Sampling(torch.nn.Module):
    """Sample images at the positions of a grid, both of which are inputs."""

    def forward(self, images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return functional.grid_sample(images, grid, mode="nearest", align_corners=False)


@pytest.mark.slow
def test_a_grid_of_dynamic_size_is_refused() -> None:
    inputs = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 2)
    with pytest.raises(UnsupportedLayerError, match="grid_sample needs images and grids of a fixed size"):
        build(Sampling(), "last", inputs, {"grid": [1]})


def test_the_numbers_of_a_batch_do_not_number_two_batches() -> None:
    def first_half(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, 2 * x])[torch.arange(x.shape[0]), x[:, 0].long().clamp(0, 3)]

    with pytest.raises(UnsupportedLayerError, match="several computed index tensors"):
        converted(Function(first_half), torch.randn(2, 4))


def test_a_layer_of_a_constant_has_an_output_for_each_example() -> None:
    class Start(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            start = torch.linspace(-1, 1, 40).reshape(1, 2, 4, 5).repeat(x.shape[0], 1, 1, 1)
            return torch.cat([self.conv(start), x], 1)

    converted(Start(), torch.randn(2, 3, 4, 5))
