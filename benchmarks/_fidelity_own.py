"""Define handwritten pairs that are hard to align: equal blocks, meaningless names, tied weights, unused layers."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers
from torch import nn

from benchmarks._fidelity import Entry, Pair, randomised

WIDTH = 6


class Mess(nn.Module):
    """A module with layers defined in reverse, equal blocks, meaningless names, a tied weight, and an unused head."""

    def __init__(self) -> None:
        super().__init__()
        self.z9 = nn.Linear(WIDTH, WIDTH)  # never runs
        self.c1 = nn.Linear(WIDTH, 11, bias=False)
        self.b7 = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
                                 for _ in range(3)])  # fmt: skip
        self.a2 = nn.LayerNorm(WIDTH, eps=1e-3)
        self.a1 = nn.Embedding(11, WIDTH)
        self.c1.weight = self.a1.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.a1(tokens)
        for block in reversed(self.b7):
            x = x + block(self.a2(x))
        return self.c1(self.a2(x))  # type: ignore[no-any-return]


class KerasMess(keras.Model):  # type: ignore[misc]
    """The Keras counterpart of `Mess`; its unused layer is built, so that it has variables."""

    def __init__(self) -> None:
        super().__init__(name="mess")
        self.table = layers.Embedding(11, WIDTH, name="w0")
        self.blocks = [[layers.Dense(WIDTH, activation="gelu", name=f"p{n}"), layers.Dense(WIDTH, name=f"q{n}")]
                       for n in range(3)]  # fmt: skip
        self.norm = layers.LayerNormalization(epsilon=1e-3, name="n")
        self.spare = layers.Dense(WIDTH, name="s")
        self.spare.build((None, WIDTH))

    def call(self, tokens: Any) -> Any:
        """The forward pass."""
        x = self.table(tokens)
        for first, second in self.blocks:
            x = x + second(first(self.norm(x)))
        return keras.ops.matmul(self.norm(x), keras.ops.transpose(self.table.embeddings))


def mess() -> Pair:
    """Return the pair of `Mess` and `KerasMess`."""
    tokens = np.random.default_rng(1).integers(0, 11, (2, 5))
    model = KerasMess()
    model(tokens)
    return Pair(torch=randomised(Mess()), keras=model, inputs=tokens, keras_inputs=tokens)


class Detector(nn.Module):
    """A backbone with three scales, and a head with shared layers for boxes and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.Conv2d(8, 4, 1)
        self.classes = nn.Conv2d(8, 5, 1)
        self.tower = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, eps=1e-3), nn.SiLU())
        self.lateral = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))
        self.stages = nn.ModuleList(nn.Conv2d(3 if n == 0 else 8, 8, 3, padding=1) for n in range(3))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = F.max_pool2d(F.relu(stage(x)), 2)
            y = self.tower(lateral(x))
            found += [self.boxes(y), self.classes(y)]
        return found


def detector() -> Pair:
    """Return a pair of detectors, whose head layers run once for every scale."""
    inputs = keras.Input((16, 24, 3))
    tower = [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.Activation("silu")]
    boxes, classes = layers.Conv2D(4, 1, name="box"), layers.Conv2D(5, 1, name="class")
    x, found = inputs, []
    for _ in range(3):
        x = layers.MaxPooling2D()(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
        y = layers.Conv2D(8, 1)(x)
        for layer in tower:
            y = layer(y)
        found += [boxes(y), classes(y)]
    return Pair(torch=randomised(Detector()), keras=keras.Model(inputs, found))


class UNet(nn.Module):
    """A U-Net: downsampling, upsampling, and a skip connection at every depth."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)])
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)])
        self.merge = nn.ModuleList([nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)])
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for down in self.down:
            x = F.relu(down(x))
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = F.relu(self.middle(x))
        for up, merge, across in zip(self.up, self.merge, reversed(kept), strict=True):
            x = F.relu(merge(torch.cat([up(x), across], 1)))
        return self.out(x)  # type: ignore[no-any-return]


def unet() -> Pair:
    """Return a pair of U-Nets."""
    inputs = keras.Input((16, 12, 3))
    first = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    second = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(second))
    for width, across in ((8, second), (4, first)):
        joined = layers.Concatenate()([layers.Conv2DTranspose(width, 2, 2)(x), across])
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(joined)
    return Pair(torch=randomised(UNet()), keras=keras.Model(inputs, layers.Conv2D(2, 1)(x)))


class Recurrent(nn.Module):
    """Two recurrent layers, the second bidirectional, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(10, 3)
        self.second = nn.GRU(7, 5, batch_first=True, bidirectional=True)
        self.first = nn.GRU(4, 7, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)[0])[0])  # type: ignore[no-any-return]


def recurrent() -> Pair:
    """Return a pair of GRU models; torch orders the gates differently from Keras."""
    inputs = keras.Input((6, 4))
    x = layers.GRU(7, return_sequences=True)(inputs)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(x)
    return Pair(torch=randomised(Recurrent()), keras=keras.Model(inputs, layers.Dense(3)(x)))


class Mixer(nn.Module):
    """Mixes along the tokens, then along the channels; both have one size."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.tokens = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, eps=1e-3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for channels, tokens, norm in zip(self.channels, self.tokens, self.norms, strict=True):
            y = norm(x)
            x = x + tokens(y.transpose(1, 2)).transpose(1, 2)
            x = x + F.gelu(channels(x))
        return x


def mixer() -> Pair:
    """Return a pair of mixers, in which all matrices are square and of the same size."""
    x = inputs = keras.Input((WIDTH, WIDTH))
    for _ in range(3):
        y = layers.Permute((2, 1))(layers.LayerNormalization(epsilon=1e-3)(x))
        x = layers.Add()([x, layers.Permute((2, 1))(layers.Dense(WIDTH)(y))])
        x = layers.Add()([x, layers.Dense(WIDTH, activation="gelu")(x)])
    return Pair(torch=randomised(Mixer()), keras=keras.Model(inputs, x))


class TwoInputs(nn.Module):
    """A module that joins the features of an image and of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(8, 2)
        self.table = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.image = nn.Conv2d(3, 4, 3)

    def forward(self, image: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        pooled = self.image(image).mean((2, 3))
        return self.out(torch.cat([self.table(table), pooled], 1))  # type: ignore[no-any-return]


def two_inputs() -> Pair:
    """Return a pair of models with two inputs."""
    image, table = keras.Input((8, 9, 3)), keras.Input((4,))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    y = layers.Dense(4)(layers.Dense(4, activation="relu")(table))
    model = keras.Model([image, table], layers.Dense(2)(layers.Concatenate()([y, pooled])))
    generator = np.random.default_rng(2)
    given = (generator.standard_normal((2, 3, 8, 9)), generator.standard_normal((2, 4)))
    return Pair(torch=randomised(TwoInputs()), keras=model, inputs=tuple(a.astype(np.float32) for a in given))


def resnet8_file() -> Path:
    """Return the file of the trained ResNet8 of MLPerf Tiny, if it exists; see `KERAS3CONV_SHARED`."""
    folder = os.environ.get("KERAS3CONV_SHARED", str(Path(__file__).resolve().parents[2] / "shared"))
    return Path(folder) / "data" / "mlperf_tiny_resnet8.h5"


def resnet8() -> Pair:
    """Return a pair of a trained model from a Keras 2 file and a matching torch module."""
    from keras3conv.frameworks.keras import files as keras_files
    from tests.support.models import ResNet8

    return Pair(torch=randomised(ResNet8()), keras=keras_files.load(resnet8_file()))


ENTRIES = (
    Entry(name="a mess", build=mess),
    Entry(name="detection head", build=detector),
    Entry(name="U-Net", build=unet),
    Entry(name="GRU", build=recurrent),
    Entry(name="mixer", build=mixer),
    Entry(name="two inputs", build=two_inputs),
    *((Entry(name="ResNet8 of MLPerf Tiny", build=resnet8),) if resnet8_file().exists() else ()),
)
