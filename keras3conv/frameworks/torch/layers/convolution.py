"""Convolutions with a padding that torch.nn does not have."""

import torch
from torch import nn


class UnevenConv2d(nn.Conv2d):
    """A convolution that pads more behind an image than before it, as Keras' "same" does with a stride.

    No padded copy of the image is made. Both sides are padded alike, and the kernel gets zeros before its first values:
    so it begins where it would with less padding there. The weights are those of `nn.Conv2d`.

    Args:
        in_channels: The channels of the input.
        out_channels: The channels of the output.
        kernel_size: The height and the width of the kernel.
        padding: What is padded behind, for each axis.
        less: By how much less is padded before, for each axis.
        stride: The steps of the kernel.
        groups: How many parts the channels are in.
        bias: Whether there is a bias.
    """

    kind = "keras3conv.frameworks.torch.layers.UnevenConv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        padding: int | tuple[int, int],
        less: tuple[int, int],
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.less = less

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of shape (batch, out_channels, height, width)."""
        kernel = nn.functional.pad(self.weight, (self.less[1], 0, self.less[0], 0))
        return nn.functional.conv2d(inputs, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)
