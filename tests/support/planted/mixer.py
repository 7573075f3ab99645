"""An image network with preprocessing, a gate, a roll and branches, and its Keras counterpart."""

from collections.abc import Callable
from typing import Any

import keras
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn


class Mixer(nn.Module):
    """An image network with preprocessing, groups, a gate, a roll and parallel branches.

    With a window of 1 after the roll, the mean at the end is the same for every roll.
    """

    def __init__(self, window: int = 1) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(3, 6)
        self.squeeze, self.excite = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1)
        self.mix = nn.Conv2d(6, 6, window, padding=window // 2)
        self.branch, self.last = (nn.Conv2d(6, 6, 1) for _ in range(2))
        self.parts = nn.ModuleList([nn.Conv2d(6, size, 1) for size in (2, 3, 4)])
        self.join, self.head = nn.Conv2d(9, 6, 1), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x / 255))
        x = x * torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = self.mix(torch.roll(x, (-2, -2), (2, 3)))
        x = self.last(F.relu(x + self.branch(x)))
        x = self.join(torch.cat([part(x) for part in self.parts], 1))
        return self.head(x.mean((2, 3)))


def as_it_is(x: Any) -> Any:
    return x / 255


def mixer(
    *,
    prepared: Callable[[Any], Any] = as_it_is,
    groups: int = 3,
    gated: bool = True,
    shift: int = -2,
    window: int = 1,
    share: float = 1.0,
    activated: str = "sum",
    order: tuple[int, ...] = (0, 1, 2),
) -> keras.Model:
    """Return the Keras counterpart of `Mixer`; every argument but `window` plants a mistake."""
    inputs = keras.Input((16, 20, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(prepared(inputs))
    x = layers.GroupNormalization(groups, epsilon=1e-5, name="norm")(x)
    gate = ops.silu(layers.Conv2D(4, 1, name="squeeze")(ops.mean(x, (1, 2), keepdims=True)))
    gate = ops.sigmoid(layers.Conv2D(6, 1, name="excite")(gate))
    x = x * gate if gated else x + 0 * gate
    x = ops.roll(x, (shift, shift), (1, 2)) if shift else x
    x = layers.Conv2D(6, window, padding="same", name="mix")(x)
    y = layers.Conv2D(6, 1, name="branch")(x) * share
    x = ops.relu(x) + y if activated == "first" else ops.relu(x + y)
    x = layers.Conv2D(6, 1, name="last")(x)
    parts = [layers.Conv2D(size, 1, name=f"parts_{place}")(x) for place, size in enumerate((2, 3, 4))]
    x = layers.Conv2D(6, 1, name="join")(ops.concatenate([parts[place] for place in order], -1))
    return keras.Model(inputs, layers.Dense(5, name="head")(ops.mean(x, (1, 2))))


def of_imagenet(x: Any) -> Any:
    """Preprocess by mean and standard deviation per channel."""
    return (x / 255 - ops.convert_to_tensor([0.5, 0.4, 0.3], x.dtype)) / ops.convert_to_tensor(
        [0.2, 0.25, 0.4], x.dtype
    )


def reversed_channels(x: Any) -> Any:
    return ops.flip(x, -1) / 255
