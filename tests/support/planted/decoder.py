"""Networks with handwritten attention, and Keras counterparts in which one mistake can be planted."""

from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

STEPS = 7


def places(width: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines and sines of a rotary embedding, for every position and pair of features."""
    angles = np.arange(STEPS)[:, None] * base ** (-np.arange(width // 2) * 2 / width)
    return np.cos(angles), np.sin(angles)


class RootMeanSquare(nn.Module):
    """A handwritten RMS normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Decoder(nn.Module):
    """Rotary embeddings, grouped-query attention and a gated MLP."""

    def __init__(self, causal: bool = True) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(11, 8), RootMeanSquare(8)
        self.query, self.key, self.value = (nn.Linear(8, size, bias=False) for size in (16, 8, 8))
        self.out, self.gate, self.up, self.down = (nn.Linear(*size) for size in ((16, 8), (8, 12), (8, 12), (12, 8)))
        self.pool, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.causal = causal

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        frequencies = 10000.0 ** (-torch.arange(2, dtype=x.dtype) / 2)
        angles = torch.arange(STEPS, dtype=x.dtype)[:, None] * frequencies
        first, second = x.chunk(2, -1)
        return x * torch.cat([angles.cos()] * 2, -1) + torch.cat([-second, first], -1) * torch.cat(
            [angles.sin()] * 2, -1
        )

    def attended(self, x: torch.Tensor) -> torch.Tensor:
        query = self.query(x).view(-1, STEPS, 4, 4).transpose(1, 2)
        key, value = (layer(x).view(-1, STEPS, 2, 4).transpose(1, 2) for layer in (self.key, self.value))
        query, key = self.rotated(query), self.rotated(key)
        key, value = key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1)
        scores = torch.matmul(query, key.transpose(2, 3)) * 0.5
        if self.causal:
            scores = scores + torch.full((STEPS, STEPS), -1e30, dtype=x.dtype).triu(1)
        return torch.matmul(scores.softmax(-1), value).transpose(1, 2).reshape(-1, STEPS, 16)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        x = x + self.out(self.attended(self.norm(x)))
        x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        return self.head(torch.tanh(self.pool(x[:, 0])))


class KerasRootMeanSquare(layers.Layer):
    """The Keras counterpart of `RootMeanSquare`."""

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(shape[-1],), initializer="ones", name="weight")

    def call(self, x: Any) -> Any:
        return self.weight * x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-6)


class Rotated(layers.Layer):
    """The Keras counterpart of `Decoder.rotated`."""

    def __init__(self, base: float, how: str) -> None:
        super().__init__()
        self.base, self.how = base, how

    def call(self, x: Any) -> Any:
        cosines, sines = (ops.convert_to_tensor(array, dtype=x.dtype) for array in places(x.shape[-1], self.base))
        sines = -sines if self.how == "backwards" else sines
        neighbours = self.how == "neighbours"
        first, second = (x[..., 0::2], x[..., 1::2]) if neighbours else ops.split(x, 2, -1)
        turned = [first * cosines - second * sines, second * cosines + first * sines]
        return ops.reshape(ops.stack(turned, -1), ops.shape(x)) if neighbours else ops.concatenate(turned, -1)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


def decoder(
    *,
    factor: float = 1.0,
    base: float = 10000.0,
    rotation: str = "halves",
    shared: str = "in a row",
    mask: str = "causal",
    scale: float = 0.5,
    cut: tuple[str, ...] = (),
    joined: str = "heads first",
    gated: str = "gate",
    place: int | str = 0,
) -> keras.Model:
    """Return the Keras counterpart of `Decoder`; every argument other than its default plants a mistake."""
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(11, 8, name="table")(inputs)
    x = x * factor if factor != 1 else x
    y = KerasRootMeanSquare(name="norm")(x)
    sizes = {"query": 16, "key": 8, "value": 8}
    parts = {name: layers.Dense(size, use_bias=False, name=name)(y) for name, size in sizes.items()}
    parts = {name: _heads(part, sizes[name] // 4, name in cut) for name, part in parts.items()}
    if rotation != "none":
        parts |= {name: Rotated(base, rotation)(parts[name]) for name in ("query", "key")}
    parts |= {name: _shared(parts[name], shared) for name in ("key", "value")}
    scores = ops.matmul(parts["query"], ops.transpose(parts["key"], (0, 1, 3, 2))) * scale
    y = ops.matmul(ops.softmax(_hidden(scores, inputs, mask)), parts["value"])
    x = x + layers.Dense(8, name="out")(_joined(y, joined, len(cut) == 3))
    gate, up = (layers.Dense(12, name=name)(x) for name in ("gate", "up"))
    x = x + layers.Dense(8, name="down")(_gated(gate, up, gated))
    x = ops.mean(x, 1) if place == "mean" else x[:, place]
    return keras.Model(inputs, layers.Dense(5, name="head")(ops.tanh(layers.Dense(8, name="pool")(x))))


def _heads(x: Any, number: int, width_first: bool) -> Any:
    if width_first:
        return ops.transpose(ops.reshape(x, (-1, STEPS, 4, number)), (0, 3, 1, 2))
    return ops.transpose(ops.reshape(x, (-1, STEPS, number, 4)), (0, 2, 1, 3))


def _shared(x: Any, how: str) -> Any:
    return ops.repeat(x, 2, 1) if how == "in a row" else ops.concatenate([x, x], 1)


def _hidden(scores: Any, tokens: Any, how: str) -> Any:
    earlier = np.tri(STEPS, dtype=bool)
    if how == "none":
        return scores
    if how == "padding":
        return ops.where(ops.not_equal(tokens, 0)[:, None, None, :], scores, -1e30)
    if how == "number":
        return scores + ops.cast(earlier, scores.dtype)
    if how == "inverted":
        return ops.where(earlier, -1e30, scores)
    return ops.where(earlier.T if how == "transposed" else earlier, scores, -1e30)


def _joined(y: Any, how: str, width_first: bool) -> Any:
    if how != "only reshaped":
        y = ops.transpose(y, (0, 2, 3, 1) if how == "width first" or width_first else (0, 2, 1, 3))
    return ops.reshape(y, (-1, STEPS, 16))


def _gated(gate: Any, up: Any, how: str) -> Any:
    if how == "exchanged":
        gate, up = up, gate
    return ops.silu(gate) + up if how == "added" else ops.silu(gate) * up


class Packed(nn.Module):
    """Attention with a packed projection of query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.packed, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.packed(x).split(8, -1))
        scores = torch.matmul(query, key.transpose(2, 3)) * 0.5
        return self.out(torch.matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2))


def packed(*, order: str = "qkv", by_head: bool = False, width_first: bool = False) -> keras.Model:
    """Return the Keras counterpart of `Packed`; every argument other than its default plants a mistake."""
    inputs = keras.Input((STEPS, 8))
    x = ops.reshape(layers.Dense(24, name="packed")(inputs), (-1, STEPS, *((2, 3) if by_head else (3, 2)), 4))
    parts = {role: x[:, :, :, place] if by_head else x[:, :, place] for place, role in enumerate(order)}
    if width_first:
        parts = {
            role: ops.transpose(ops.reshape(part, (-1, STEPS, 4, 2)), (0, 1, 3, 2)) for role, part in parts.items()
        }
    query, key, value = (ops.transpose(parts[role], (0, 2, 1, 3)) for role in "qkv")
    weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * 0.5)
    x = ops.transpose(ops.matmul(weights, value), (0, 2, 3, 1) if width_first else (0, 2, 1, 3))
    return keras.Model(inputs, layers.Dense(8, name="out")(ops.reshape(x, (-1, STEPS, 8))))
