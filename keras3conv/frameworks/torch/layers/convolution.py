"""Define convolutions with a padding that torch.nn lacks."""

import torch
from torch import nn


class UnevenConv2d(nn.Conv2d):
    """A convolution with more padding at the end of an axis than at its start, as "same" in Keras with a stride.

    The image is not copied to pad it. Both ends get the same padding, and zeros before the first values of the kernel
    shift it, as if there were less padding at the start. The weights are those of `nn.Conv2d`.

    Args:
        in_channels: The channels of the input.
        out_channels: The channels of the output.
        kernel_size: The height and the width of the kernel.
        padding: The padding at the end, for each axis.
        less: The difference between the padding at the end and at the start, for each axis.
        stride: The stride of the kernel.
        groups: The number of groups of channels.
        bias: Whether there is a bias.
    """

    kind = "keras3conv.frameworks.torch.layers.UnevenConv2d"  # a name for keras3conv; nothing is imported

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
        """Return the output of shape (batch, out_channels, height, width)."""
        kernel = nn.functional.pad(self.weight, (self.less[1], 0, self.less[0], 0))
        return nn.functional.conv2d(inputs, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)
