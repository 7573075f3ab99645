"""Axes that torch merges, and Keras could merge only by a permutation, stay apart until an operation needs them merged.

Windows of images, heads merged with the batch, grids of tokens and shuffled channels so need no permutation.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from keras3conv.builder.to_keras import on_parts, operations_axes, operations_layers, ordering, unmerged
from keras3conv.builder.to_keras.build import build
from keras3conv.errors import ModelError
from tests.support.to_keras import LIMIT, Function, converted, float64_error

IMAGE = (2, 12, 8, 8)


def windows(x: torch.Tensor, size: int = 4) -> torch.Tensor:
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height // size, size, width // size, size, channels)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def last(compute: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """Return a function of an image with its channels last."""
    return lambda x: compute(x.permute(0, 2, 3, 1))


def image(x: torch.Tensor, count: int = 2, size: int = 4) -> torch.Tensor:
    parts = x.view(-1, count, count, size, size, x.shape[-1])
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, count * size, count * size, x.shape[-1])


class WindowAttention(nn.Module):
    """The attention in windows of a shifted image, as in Swin, with a table of relative positions and a mask."""

    def __init__(self, attend: Callable[..., torch.Tensor], *, shift: int = 0) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(12), nn.Linear(12, 36), nn.Linear(12, 12)
        self.table = nn.Parameter(torch.randn(49, 3))
        self.places: torch.Tensor
        self.register_buffer("places", torch.randint(0, 49, (256,)))
        self.register_buffer("mask", torch.where(torch.rand(4, 16, 16) > 0.3, 0.0, -100.0))
        self.attend, self.shift = attend, shift

    def forward(self, image_first: torch.Tensor) -> torch.Tensor:
        x = image_first.permute(0, 2, 3, 1)
        shifted = torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2)) if self.shift else self.norm(x)
        given = windows(shifted)
        qkv = self.qkv(given).reshape(given.size(0), 16, 3, 3, 4).permute(2, 0, 3, 1, 4)
        bias = self.table[self.places].view(16, 16, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        made = self.attend(*qkv.unbind(0), bias, self.mask if self.shift else None)
        made = self.proj(made.transpose(1, 2).reshape(given.size(0), 16, 12))
        return x + torch.relu(image(made)) * 0.5


def by_products(q: Any, k: Any, v: Any, bias: Any, mask: Any) -> torch.Tensor:
    scores = (q * 0.5) @ k.transpose(-2, -1) + bias
    if mask is not None:
        scores = scores.view(-1, 4, 3, 16, 16) + mask.unsqueeze(1).unsqueeze(0)
        scores = scores.view(-1, 3, 16, 16)
    return functional.softmax(scores, dim=-1) @ v


def by_cosine(q: Any, k: Any, v: Any, bias: Any, mask: Any) -> torch.Tensor:
    return by_products(functional.normalize(q, dim=-1), functional.normalize(k, dim=-1), v, bias, mask)


def by_einsum(q: Any, k: Any, v: Any, bias: Any, mask: Any) -> torch.Tensor:
    scores = functional.softmax(torch.einsum("N H I D, N H J D -> N H I J", q, k) + bias, dim=-1)
    return torch.einsum("N H I J, N H J D -> N H I D", scores, v)


def by_one_operator(q: Any, k: Any, v: Any, bias: Any, mask: Any) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


ATTENTIONS: dict[str, tuple[Callable[..., torch.Tensor], int]] = {
    "products": (by_products, 0),
    "products, shifted and masked": (by_products, 2),
    "cosines, shifted and masked": (by_cosine, 2),
    "einsum": (by_einsum, 0),
    "one operator": (by_one_operator, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_in_windows_moves_no_data(name: str) -> None:
    attend, shift = ATTENTIONS[name]
    built = converted(WindowAttention(attend, shift=shift), torch.randn(IMAGE))
    assert "transpose" not in built.source


def merged_heads(x: torch.Tensor) -> torch.Tensor:
    """Merge the heads with the batch for the products, as BLOOM does."""
    heads = x.view(-1, 5, 2, 3)
    queries = heads.transpose(1, 2).reshape(-1, 5, 3)
    keys = heads.permute(0, 2, 3, 1).reshape(-1, 3, 5)
    values = heads.relu().transpose(1, 2).reshape(-1, 5, 3)
    bias = x.new_zeros(1).expand(1) + queries.sum((1, 2), keepdim=True)
    scores = torch.baddbmm(bias, queries, keys, alpha=0.7)
    weights = scores.view(-1, 2, 5, 5).softmax(-1).view(-1, 5, 5)
    made = torch.bmm(weights, values).view(-1, 2, 5, 3)
    return made.permute(0, 2, 1, 3).reshape(-1, 5, 6)


def grid(x: torch.Tensor) -> torch.Tensor:
    """Attend along the grid of windows, as MaxViT does, with axes swapped after the partition."""
    parts = x.reshape(-1, 2, 4, 2, 4, 12).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 16, 12).transpose(1, 2)
    weights = functional.softmax(torch.einsum("bgid,bgjd->bgij", parts, parts), -1)
    made = torch.einsum("bgij,bgjd->bgid", weights, parts) + parts
    return image(made.transpose(1, 2).reshape(-1, 16, 12))


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """Shuffle channels, as ShuffleNet does."""
    first, second = x.permute(0, 3, 1, 2).chunk(2, 1)
    joined = torch.cat((first, second.relu()), 1)
    return joined.view(-1, 2, 6, 8, 8).transpose(1, 2).reshape(-1, 12, 8, 8)


PLAIN: dict[str, tuple[Callable[[torch.Tensor], Any], tuple[int, ...]]] = {
    "heads merged with the batch": (merged_heads, (2, 5, 6)),
    "a grid of windows": (grid, IMAGE),
    "shuffled channels": (shuffled, IMAGE),
    "slices, sums and concatenations of windows": (
        lambda x: image(windows(x).softmax(-1)[..., :4].cumsum(-1) * windows(x).mean(-1, keepdim=True)),
        IMAGE,
    ),
    "windows in windows": (
        lambda x: windows(x).view(-1, 2, 2, 2, 2, 12).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 12).square().mean(-1),
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_tensors_with_merged_axes_compute_the_same(name: str) -> None:
    compute, shape = PLAIN[name]
    built = converted(Function(last(compute) if shape == IMAGE else compute), torch.randn(shape))
    assert ("transpose" in built.source) == (name == "windows in windows")


NEEDING: dict[str, Callable[[torch.Tensor], Any]] = {
    "a sum along the merged axis": lambda x: windows(x).cumsum(1),
    "a softmax along the merged axis": lambda x: windows(x).softmax(1),
    "a half of the merged axis": lambda x: windows(x)[:, :7],
    "an output": windows,
    "an output that is used, too": lambda x: (windows(x), image(windows(x) + 1)),
    "an operand with another order": lambda x: windows(x) + windows(x).flip(1) * x.reshape(-1, 16, 12),
    "a concatenation": lambda x: torch.cat((windows(x), windows(x)[:, :1]), 1),
    "a mask along the merged axis": lambda x: windows(x).masked_fill(torch.eye(16)[:, :12] > 0, 2.0),
    "a product along the merged axis": lambda x: windows(x).transpose(1, 2) @ torch.ones(16, 3),
    "a product with other windows": lambda x: windows(x) @ windows(x.relu(), 4).transpose(1, 2),
    "a product with another batch": lambda x: windows(x) @ x[:1, 0].transpose(1, 2),
    "shuffled channels in another order": lambda x: (
        torch.cat((x, x.relu()), -1).reshape(-1, 8, 8, 2, 12).permute(0, 4, 2, 3, 1).reshape(-1, 96, 16)
    ),
}


@pytest.mark.parametrize("name", NEEDING)
def test_an_operation_that_needs_the_merged_axis_gets_it(name: str) -> None:
    converted(Function(last(NEEDING[name])), torch.randn(IMAGE))


def windows_of_a_video(x: torch.Tensor) -> torch.Tensor:
    parts = x.permute(0, 2, 3, 4, 1).reshape(-1, 2, 2, 2, 2, 2, 2, 12)
    given = parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, 8, 12)
    q, k, v = given.reshape(-1, 8, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
    return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(-1, 8, 4)


def test_no_tensor_has_more_axes_than_tensorflow_can_slice() -> None:
    built = converted(Function(windows_of_a_video), torch.randn(2, 12, 4, 4, 4))
    used = {name for step in built.program.steps for name in step.outputs}
    assert max(len(built.program.values[name].shape) for name in used) <= unmerged.MOST_AXES


class Positions(nn.Module):
    """A table of positions that a network computes of coordinates, as in the second Swin, beside tokens that mix."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 6), nn.Linear(6, 4, bias=bias)
        self.tokens = nn.Linear(5, 7, bias=bias)
        self.coordinates: torch.Tensor
        self.register_buffer("coordinates", torch.randn(1, 3, 3, 2))
        self.places: torch.Tensor
        self.register_buffer("places", torch.randint(0, 9, (5, 5)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        table = self.second(torch.relu(self.first(self.coordinates))).view(-1, 4)
        scores = table[self.places.view(-1)].view(5, 5, -1).permute(2, 0, 1).contiguous().unsqueeze(0).sigmoid()
        return x.reshape(-1, 4, 5, 1) * scores, self.tokens(x.reshape(-1, 5, 4).transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_along_another_axis_is_an_einsum(bias: bool) -> None:
    built = converted(Positions(bias=bias), torch.randn(2, 20))
    assert "transpose" not in built.source
    assert '"abcd,dz->azbc"' in built.source
    assert '"acb,cz->azb"' in built.source


@pytest.mark.slow
def test_the_axes_of_an_einsum_in_the_wrong_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module, given = Positions(bias=True), torch.randn(2, 20)
    assert error_of(module, given) < LIMIT
    order_of, layer = operations_layers._order_of_einsum, operations_layers._einsum_layer
    swapped: dict[Any, Any] = {(0, 3, 1, 2): (0, 3, 2, 1)}
    monkeypatch.setattr(
        operations_layers,
        "_order_of_einsum",
        lambda call, value: swapped.get(found := order_of(call, value), found),
    )
    monkeypatch.setattr(
        operations_layers,
        "_einsum_layer",
        lambda call, value, weight, order: replace(
            layer(call, value, weight, order), order=(0, 3, 1, 2) if len(order) == 4 else order
        ),
    )
    assert error_of(module, given) > 1e-3


def error_of(module: nn.Module, given: torch.Tensor) -> float:
    return float64_error(module.eval(), build(module, "last", given), given)


@pytest.mark.slow
def test_a_product_in_the_wrong_axis_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module, given = WindowAttention(by_products), torch.randn(IMAGE)
    assert error_of(module, given) < LIMIT
    right = unmerged.apart
    monkeypatch.setattr(
        "keras3conv.builder.to_keras.contracting.apart",
        lambda call, parts, groups, shape: right(
            call,
            replace(parts, order=tuple(range(parts.rank))) if parts.order[-1] == parts.rank - 1 else parts,
            groups,
            shape,
        ),
    )
    with pytest.raises((AssertionError, ModelError)):  # other numbers, or other shapes
        assert error_of(module, given) < LIMIT


def test_parts_stacked_along_the_wrong_axis_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = torch.randn(IMAGE)
    assert error_of(Function(last(shuffled)), given) < LIMIT
    monkeypatch.setattr(operations_axes, "_numbers_parts", lambda old, new, parts: len(new) > len(old))
    monkeypatch.setattr(ordering, "_moves_only", lambda place, moved: True)
    halves = Function(
        last(lambda x: torch.cat((x, x.relu()), -1).reshape(-1, 8, 8, 12, 2).transpose(3, 4).reshape(-1, 8, 8, 24))
    )
    assert error_of(halves, given) > 1e-3


def test_axes_merged_without_a_permutation_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given, module = torch.randn(IMAGE), Function(last(lambda x: windows(x).cumsum(1)))
    assert error_of(module, given) < LIMIT
    monkeypatch.setattr(unmerged, "order_after_reshape", lambda old, new, order: tuple(range(len(new))))
    monkeypatch.setattr(
        on_parts,
        "reshaped_in_place",
        lambda call, value, shape: operations_axes.reshaped(
            call, replace(value, order=tuple(range(value.rank))), shape
        ),
    )
    assert error_of(module, given) > 1e-3
