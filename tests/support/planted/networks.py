"""Three small torch networks, each with a Keras counterpart in which one mistake can be planted."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.errors import Problem
from tests.support.models import randomize

Tamper = Callable[[keras.Model], None]


def first_problem(
    module: nn.Module,
    model: keras.Model,
    inputs: Any,
    tamper: Tamper | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> Problem:
    """Align, transfer, plant a mistake and validate; return the first problem of a proof that runs the models.

    Args:
        module: The torch module; its weights are randomised.
        model: The Keras model.
        inputs: Inputs of the torch module.
        tamper: Changes the Keras model after the transfer.
        prepare: Changes the torch module before the transfer.
    """
    randomize(module)
    if prepare:
        prepare(module)
    plan = k3c.align(module, model, inputs=inputs, probe=False).check()  # by names: the models compute different values
    k3c.transfer(module, model, plan)
    if tamper:
        tamper(model)
    for proofs in (("float64",), ("activations", "outputs")):  # float64 first, so that one search for a cause is enough
        report = k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=proofs)
        problems = [problem for section in report.sections for problem in section.problems]
        if problems:
            return problems[0]
    raise AssertionError("the planted mistake was not found")


def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 20, generator=torch.Generator().manual_seed(5))


class Residual(nn.Module):
    """Two convolutions and a pooled shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.down = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.leaky_relu(self.norm1(self.conv1(x)), 0.2)))
        return y + self.down(x)


class ResNet(nn.Module):
    """A residual network for images of 16 x 20, with leaky ReLU so that negative values matter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.LeakyReLU(0.2)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.block = Residual()
        self.wide = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6 * 7 * 9, 6)
        self.last = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.norm(self.stem(x))))
        x = self.wide(self.block(x))
        x = F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=False)
        return self.last(torch.tanh(self.head(x.flatten(1))))


def _resized(x: Any, how: str) -> Any:
    mode, _, aligned = how.partition(" ")
    return layers.Lambda(lambda y: _torch_resize(y, mode, bool(aligned)), output_shape=(7, 9, 6))(x)


def _torch_resize(x: Any, mode: str, aligned: bool) -> Any:
    smooth = {"align_corners": aligned} if mode == "bilinear" else {}
    return F.interpolate(x.permute(0, 3, 1, 2), size=(7, 9), mode=mode, **smooth).permute(0, 2, 3, 1)


class Border(layers.Layer):
    """Pad height and width by one."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def call(self, x: Any) -> Any:
        return ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=self.value)


class AlwaysTraining(layers.BatchNormalization):
    """Normalises with batch statistics in every mode."""

    def call(self, x: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(x, training=True)


def resnet(
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    stem: str = "valid",
    slope: float = 0.2,
    activation: str = "leaky_relu",
    border: float = -float("inf"),
    means: str = "counted",
    shortcut: bool = True,
    training: bool = False,
    dilation: int = 1,
    resize: str = "bilinear",
    bias: bool = True,
    last: str = "linear",
) -> keras.Model:
    """Return the Keras counterpart of `ResNet`; every argument other than its default plants a mistake."""
    inputs = keras.Input((16, 20, 3))
    x = layers.ZeroPadding2D(1)(inputs) if stem == "valid" else inputs
    x = layers.Conv2D(6, 3, strides=2, padding=stem, name="stem")(x)
    norm = AlwaysTraining if training else layers.BatchNormalization
    x = norm(epsilon=epsilon, momentum=momentum, name="norm")(x)
    if activation == "leaky_relu":
        x = layers.LeakyReLU(slope)(x)
    elif activation:
        x = layers.Activation(activation)(x)
    x = layers.MaxPooling2D(3, 1)(Border(border)(x))
    y = layers.Conv2D(6, 3, padding="same", dilation_rate=dilation, name="conv1")(x)
    y = layers.LeakyReLU(0.2)(layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm1")(y))
    y = layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv2")(layers.ZeroPadding2D(1)(y))
    y = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm2")(y)
    short = layers.AveragePooling2D(3, 2)(Border(0.0)(x))
    if means != "counted":
        count = layers.AveragePooling2D(3, 2)(Border(0.0)(ops.ones_like(x)))
        short = short / count
    x = y + short if shortcut else y
    x = _resized(layers.Conv2D(6, 1, name="wide")(x), resize)
    x = layers.Dense(6, "tanh", name="head")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(6, last, use_bias=bias, name="last")(x))


class Block(nn.Module):
    """Attention and an MLP, each after a normalisation."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.act = nn.GELU()
        self.heads, self.causal = heads, causal

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        y = self.norm1(x)
        query, key, value = (self.cut(layer(y)) for layer in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(self.act(self.up(self.norm2(x))))


class ViT(nn.Module):
    """A vision transformer for images of 16 x 20, with patches of 4."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList([Block(8, 2, causal), Block(8, 2, False)])
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        attended = (torch.arange(20) % 3 > 0).repeat(20, 1)
        for place, block in enumerate(self.blocks):
            x = block(x, attended if place else None)
        return self.head(self.norm(x).mean(1))


def vit(
    *,
    epsilon: float = 1e-6,
    swapped: tuple[str, str] = ("", ""),
    gelu: str = "gelu",
    causal: bool = False,
    mask: str = "kept",
    scale: float = 0.5,
    heads: str = "heads first",
    pooled: str = "mean",
    training: bool = False,
    factor: float = 1.0,
) -> keras.Model:
    """Return the Keras counterpart of `ViT`; every argument other than its default plants a mistake."""
    inputs = keras.Input((16, 20, 3))
    x = layers.Reshape((20, 8))(layers.Conv2D(8, 4, strides=4, name="patches")(inputs)) * factor
    for place in range(2):
        names = {role: f"blocks_{place}_{role}" for role in ("query", "key", "value")}
        y = layers.LayerNormalization(epsilon=epsilon, name=f"blocks_{place}_norm1")(x)
        parts = {role: _cut(layers.Dense(8, name=name)(y), heads) for role, name in names.items()}
        if swapped[0]:
            parts[swapped[0]], parts[swapped[1]] = parts[swapped[1]], parts[swapped[0]]
        scores = ops.matmul(parts["query"], ops.transpose(parts["key"], (0, 1, 3, 2))) * scale
        scores = _masked(scores, mask if place else "none", causal and not place)
        y = _joined(ops.matmul(ops.softmax(scores), parts["value"]), heads)
        x = x + layers.Dense(8, name=f"blocks_{place}_out")(y)
        y = layers.LayerNormalization(epsilon=1e-6, name=f"blocks_{place}_norm2")(x)
        y = layers.Dense(16, name=f"blocks_{place}_up")(y)
        y = ops.gelu(y, approximate=True) if gelu == "tanh" else layers.Activation(gelu)(y)
        x = x + layers.Dense(8, name=f"blocks_{place}_down")(y)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = ops.mean(x, 1) if pooled == "mean" else ops.sum(x, 1)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


def _cut(x: Any, heads: str) -> Any:
    if heads == "heads first":
        return ops.transpose(ops.reshape(x, (-1, 20, 2, 4)), (0, 2, 1, 3))
    return ops.transpose(ops.reshape(x, (-1, 20, 4, 2)), (0, 3, 1, 2))


def _joined(x: Any, heads: str) -> Any:
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3) if heads == "heads first" else (0, 2, 3, 1)), (-1, 20, 8))


def _masked(scores: Any, mask: str, causal: bool) -> Any:
    attended = np.arange(20) % 3 > 0
    if causal:
        return ops.where(np.tri(20, dtype=bool), scores, -1e30)
    if mask == "none":
        return scores
    return ops.where(~attended if mask == "inverted" else attended, scores, -1e30)


class Words(nn.Module):
    """An embedding, two recurrent layers and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.gru(self.table(x) * 6**0.5)
        x, _ = self.lstm(x)
        return self.head(x[:, -1])


def words(*, offset: int = 0, factor: float = 6**0.5, zero: bool = False) -> keras.Model:
    """Return the Keras counterpart of `Words`; every argument other than its default plants a mistake."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, name="table")(inputs + offset)
    x = x * ops.cast(ops.not_equal(inputs, 0), "float32")[..., None] if zero else x
    x = x * factor if factor != 1 else x
    x = layers.GRU(5, return_sequences=True, name="gru")(x)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x[:, -1]))


def sentences() -> torch.Tensor:
    return torch.randint(0, 10, (3, 7), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
