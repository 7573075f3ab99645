"""The same model in PyTorch, written by hand as a PyTorch user would.

Channels come first, the names are others, the modules are not defined in the order in which they run.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn

KERAS_EPSILON = 1e-3
"""The default of Keras' batch normalisation; torch's own is 1e-5."""


def conv_and_norm(channels: int, filters: int, stride: int = 1, padding: int = 1) -> nn.Sequential:
    """A convolution without a bias, and its batch normalisation."""
    convolution = nn.Conv2d(channels, filters, 3, stride=stride, padding=padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters, eps=KERAS_EPSILON))


class Stage(nn.Module):
    """Two convolutions beside a shortcut.

    Args:
        channels: How many channels come in.
        filters: How many go out.
        stride: By how much the image shrinks.
        naive: Whether a stride of 2 is given `padding=1`, as one would in PyTorch. Keras' "same" pads only after.
    """

    def __init__(self, channels: int, filters: int, stride: int, *, naive: bool) -> None:
        super().__init__()
        self.pads_after = stride > 1 and not naive
        self.second = conv_and_norm(filters, filters)
        self.first = conv_and_norm(channels, filters, stride, padding=0 if self.pads_after else 1)
        self.skip = nn.Conv2d(channels, filters, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, channels, height, width) to (n, filters, height / stride, width / stride)."""
        y = F.pad(x, (0, 1, 0, 1)) if self.pads_after else x
        y = self.second(F.relu(self.first(y)))
        return F.relu(y + self.skip(x))


class DigitsNet(nn.Module):
    """The twin of the Keras model.

    Args:
        naive: Whether it has the mistake that the demo begins with.
    """

    def __init__(self, *, naive: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(32, 10)
        self.stages = nn.Sequential(Stage(16, 32, 2, naive=naive), Stage(32, 32, 1, naive=naive))
        self.stem = conv_and_norm(1, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images of shape (n, 1, 8, 8) to the probability of every digit, shape (n, 10)."""
        x = self.stages(F.relu(self.stem(x)))
        probabilities: torch.Tensor = self.head(x.mean(dim=(2, 3))).softmax(dim=-1)
        return probabilities


def predict(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the module returns in evaluation mode."""
    module.eval()
    with torch.no_grad():
        probabilities: torch.Tensor = module(images)
    return probabilities
