"""Define handwritten generative networks in the style of research code."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """An encoder and a decoder of images with connections between them."""

    def __init__(self, *, is_transposed: bool, align_corners: bool = False) -> None:
        super().__init__()
        self.inner, self.middle, self.bottom = _double(3, 4), _double(4, 8), _double(8, 16)
        upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
        self.up1 = nn.ConvTranspose2d(16, 8, 2, 2) if is_transposed else nn.Sequential(upsample, nn.Conv2d(16, 8, 1))
        self.up2 = nn.ConvTranspose2d(8, 4, 2, 2) if is_transposed else nn.Sequential(upsample, nn.Conv2d(8, 4, 1))
        self.join1, self.join2, self.head = _double(16, 8), _double(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        """Return the scores of two classes for each pixel."""
        first = self.inner(x)
        second = self.middle(functional.max_pool2d(first, 2))
        third = self.bottom(functional.max_pool2d(second, 2))
        second = self.join1(torch.cat([second, self.up1(third)], 1))
        return self.head(self.join2(torch.cat([first, self.up2(second)], 1)))


class Autoencoder(nn.Module):
    """A variational autoencoder; in evaluation mode the latent code is the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.mean, self.deviation = nn.Linear(128, 5), nn.Linear(128, 5)
        self.start = nn.Linear(5, 128)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3, 2, 1, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the image, the mean and the logarithm of the variance."""
        hidden = self.encoder(x)
        mean, deviation = self.mean(hidden), self.deviation(hidden)
        code = mean + torch.exp(0.5 * deviation) * torch.randn_like(deviation) if self.training else mean
        return self.decoder(self.start(code).view(-1, 8, 4, 4)), mean, deviation


class Causal(nn.Module):
    """A block of WaveNet: a gated dilated causal convolution with a residual and a skip connection."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.past = dilation
        self.conv = nn.Conv1d(6, 12, 2, dilation=dilation)
        self.skip, self.rest = nn.Conv1d(6, 8, 1), nn.Conv1d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the input of the next block, and the skip output, which the last layers add up."""
        value, gate = self.conv(functional.pad(x, (self.past, 0))).chunk(2, 1)
        hidden = torch.tanh(value) * torch.sigmoid(gate)
        return x + self.rest(hidden), self.skip(hidden)


class WaveNet(nn.Module):
    """Causal convolutions with growing dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, 6, 1)
        self.blocks = nn.ModuleList(Causal(2**number) for number in range(4))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(8, 8, 1), nn.ReLU(), nn.Conv1d(8, 5, 1))

    def forward(self, x: torch.Tensor) -> Any:
        """Return the scores of the next sample."""
        x, total = self.start(x), 0.0
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return self.end(total)


class Residual(nn.Module):
    """A residual block with reflected borders and instance normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> Any:
        """Return an image of the same size."""
        return x + self.block(x)


class Attention2d(nn.Module):
    """A U-Net of a diffusion model: a sinusoidal time embedding, group normalization, attention over pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 16))
        self.start, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.shift = nn.Linear(16, 16)
        self.norm, self.qkv, self.out = nn.GroupNorm(4, 16), nn.Conv2d(16, 48, 1), nn.Conv2d(16, 16, 1)
        self.up, self.end = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> Any:
        """Return the noise in an image."""
        angles = step[:, None] * torch.exp(-torch.arange(4) * 2.3)[None]
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        first = self.start(x)
        x = self.down(functional.silu(first)) + self.shift(time)[:, :, None, None]
        batch, channels, height, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, 3, 4, channels // 4, height * width).unbind(1)
        weights = torch.einsum("bhcn,bhcm->bhnm", q, k).mul(0.5).softmax(-1)
        x = x + self.out(torch.einsum("bhnm,bhcm->bhcn", weights, v).reshape(batch, channels, height, width))
        x = self.up(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.end(torch.cat([x, first], 1))


class Coupling(nn.Module):
    """A normalizing flow: affine coupling layers with a permutation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latent code and the logarithm of the Jacobian determinant."""
        volume = x.new_zeros(x.shape[0])
        for net in self.nets:
            first, second = x.chunk(2, -1)
            scale, shift = net(first).chunk(2, -1)
            scale = torch.tanh(scale)
            x = torch.cat([second * scale.exp() + shift, first], -1)
            volume = volume + scale.sum(-1)
        return x, volume
