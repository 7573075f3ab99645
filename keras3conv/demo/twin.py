"""Define the PyTorch model of the demo, written by hand in common PyTorch style, with a common mistake.

Its images are channels first, its layer names differ from the Keras model, and its modules are not defined in call
order. The mistake is `padding=1` with a stride of 2: with this stride, padding="same" in Keras pads only at the end.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import nn

KERAS_EPSILON = 1e-3
"""The default epsilon of batch normalization in Keras; in torch it is 1e-5."""


def conv_and_norm(channels: int, filters: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without a bias, followed by a batch normalization."""
    convolution = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters, eps=KERAS_EPSILON))


class Stage(nn.Module):
    """Two convolutions and a shortcut.

    Args:
        channels: The number of input channels.
        filters: The number of output channels.
        stride: The stride of the first convolution.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.second = conv_and_norm(filters, filters)
        self.first = conv_and_norm(channels, filters, stride)
        self.skip = nn.Conv2d(channels, filters, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map shape (n, channels, height, width) to (n, filters, height / stride, width / stride)."""
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.skip(x))


class DigitsNet(nn.Module):
    """The torch counterpart of the Keras model of the demo, with a wrong padding: the mistake that the demo finds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 10)
        self.stages = nn.Sequential(Stage(16, 32, 2), Stage(32, 32, 1))
        self.stem = conv_and_norm(1, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images of shape (n, 1, 8, 8) to the probabilities of the digits, shape (n, 10)."""
        x = self.stages(F.relu(self.stem(x)))
        probabilities: torch.Tensor = self.head(x.mean(dim=(2, 3))).softmax(dim=-1)
        return probabilities


def predict(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the output of the module in evaluation mode."""
    module.eval()
    with torch.no_grad():
        probabilities: torch.Tensor = module(images)
    return probabilities
