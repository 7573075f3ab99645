"""An image network with the operations that the other planted networks lack, and its Keras counterpart."""

from typing import Any

import keras
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn


class Deviation(nn.Module):
    """A handwritten normalisation by the standard deviation of the features and an epsilon."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / (x.std(-1, keepdim=True) + 1e-5)


class Painter(nn.Module):
    """Two poolings, a transposed convolution and a pixel shuffle; returns four scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.depth = nn.Conv2d(6, 12, 2, groups=6)
        self.grouped = nn.Conv2d(12, 12, 1, groups=3)
        self.norm = nn.BatchNorm2d(12)
        self.thin, self.slim = nn.Conv2d(12, 8, 1), nn.Conv2d(12, 8, 1)
        self.up = nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)
        self.fine = nn.Conv2d(8, 12, 1)
        self.mix, self.gate, self.last = (nn.Conv2d(6, 6, 1) for _ in range(3))
        self.head, self.spread, self.scores = nn.Linear(6, 5), Deviation(5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(F.pad(x, (1, 1, 1, 1), mode="reflect"))
        x = F.elu(self.depth(F.pad(x, (0, 1, 1, 0))), 0.5)
        x = self.norm(self.grouped(x))
        x = self.thin(F.max_pool2d(x, 3, 2, 1)) + self.slim(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
        x = self.mix(torch.cat([self.up(x), F.pixel_shuffle(self.fine(x), 2)], 1))
        y = self.gate(x)
        y = self.last(y.softmax(1) - y)
        y = F.max_pool2d(y, 3, 2, ceil_mode=True).mean((2, 3))
        return self.scores(self.spread(self.head(y)))


class KerasDeviation(layers.Layer):
    """The Keras counterpart of `Deviation`."""

    def __init__(self, unbiased: bool, epsilon: float, **options: Any) -> None:
        super().__init__(**options)
        self.correction, self.epsilon = int(unbiased), epsilon

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(shape[-1],), initializer="ones", name="weight")

    def call(self, x: Any) -> Any:
        spread = ops.var(x, -1, keepdims=True) * (x.shape[-1] / (x.shape[-1] - self.correction))
        return self.weight * x / (ops.sqrt(spread) + self.epsilon)


def painter(
    *,
    edge: str = "reflect",
    corner: str = "torch",
    alpha: float = 0.5,
    maxima: tuple[int, int] = (1, 1),
    means: str = "torch",
    crop: int = 1,
    shuffle: str = "torch",
    order: int = 1,
    axis: int = -1,
    minus: str = "torch",
    stride: int = 1,
    windows: tuple[int, int] = (1, 1),
    unbiased: bool = True,
    epsilon: float = 1e-5,
) -> keras.Model:
    """Return the Keras counterpart of `Painter`; every argument other than its default plants a mistake."""
    inputs = keras.Input((16, 20, 3))
    x = layers.Conv2D(6, 3, name="stem")(_padded(inputs, (1, 1), (1, 1), mode=edge))
    x = _padded(x, (1, 0), (0, 1)) if corner == "torch" else _padded(x, (0, 1), (1, 0))
    x = ops.elu(layers.DepthwiseConv2D(2, depth_multiplier=2, name="depth")(x), alpha)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm")(
        layers.Conv2D(12, 1, groups=3, name="grouped")(x)
    )
    x = layers.Add()(
        [layers.Conv2D(8, 1, name="thin")(_maxima(x, maxima)), layers.Conv2D(8, 1, name="slim")(_means(x, means))]
    )
    up = layers.Conv2DTranspose(3, 3, strides=2, name="up")(x)[:, crop : crop + 16, crop : crop + 20]
    parts = [up, _shuffled(layers.Conv2D(12, 1, name="fine")(x), shuffle)]
    x = layers.Conv2D(6, 1, name="mix")(ops.concatenate(parts[::order], -1))
    y = layers.Conv2D(6, 1, name="gate")(x)
    weights = ops.softmax(y, axis)
    y = weights - y if minus == "torch" else y - weights
    y = layers.Conv2D(6, 1, strides=stride, name="last")(y)
    y = ops.mean(layers.MaxPooling2D(3, 2)(_padded(y, (0, windows[0]), (0, windows[1]), value=-float("inf"))), (1, 2))
    y = KerasDeviation(unbiased, epsilon, name="spread")(layers.Dense(5, name="head")(y))
    return keras.Model(inputs, layers.Dense(4, name="scores")(y))


def _padded(
    x: Any, rows: tuple[int, int], columns: tuple[int, int], mode: str = "constant", value: float | None = None
) -> Any:
    widths = ((0, 0), rows, columns, (0, 0))
    return ops.pad(x, widths, mode, constant_values=value) if any((*rows, *columns)) else x


def _maxima(x: Any, pads: tuple[int, int]) -> Any:
    return layers.MaxPooling2D(3, 2)(_padded(x, pads, pads, value=-float("inf")))


def _means(x: Any, how: str) -> Any:
    if how == "maximum":
        return _maxima(x, (1, 1))
    pads = (1, 1) if how == "torch" else (0, 1)
    sums, counts = (
        layers.AveragePooling2D(3, 2)(_padded(values, pads, pads, value=0.0)) for values in (x, ops.ones_like(x))
    )
    return sums / counts


def _shuffled(x: Any, order: str) -> Any:
    if order == "torch":
        x = ops.transpose(ops.reshape(x, (-1, 8, 10, 3, 2, 2)), (0, 1, 4, 2, 5, 3))
    else:
        x = ops.transpose(ops.reshape(x, (-1, 8, 10, 2, 2, 3)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, 16, 20, 3))
