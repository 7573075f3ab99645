"""Define handwritten networks in the style of research code, and list all handwritten ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from benchmarks._zoo import Architecture
from benchmarks._zoo_generative import Attention2d, Autoencoder, Coupling, Residual, UNet, WaveNet
from benchmarks._zoo_recurrent import Cells, Classifier, States, Translator


class Temporal(nn.Module):
    """A temporal convolutional network with weight normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv1d(4, 6, 3, padding=2))
        self.second = parametrizations.weight_norm(nn.Conv1d(6, 6, 3, padding=4, dilation=2))
        self.shortcut, self.head = nn.Conv1d(4, 6, 1), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Return two numbers computed from the last time step."""
        made = functional.relu(self.first(x)[..., :-2])
        made = functional.relu(self.second(made)[..., :-4])
        return self.head((made + self.shortcut(x))[..., -1])


class Mixer(nn.Module):
    """An MLP-Mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.tokens = nn.Sequential(nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 16))
        self.channels = nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        """Return the scores of three classes."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norms[1](x))
        return self.head(self.norms[2](x).mean(1))


class Points(nn.Module):
    """A PointNet: a network for each point, then the maximum over all points."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU())
        self.matrix = nn.Linear(8, 9)
        self.points = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> Any:
        """Return the scores of four classes."""
        turn = self.matrix(self.turn(x).max(2).values).view(-1, 3, 3) + torch.eye(3)
        x = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        return self.head(torch.max(self.points(x), 2)[0])


class Graph(nn.Module):
    """A graph convolution with a dense adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> Any:
        """Return three numbers for each node."""
        edges = edges + torch.eye(edges.shape[-1])
        degree = edges.sum(-1).clamp(min=1e-6).pow(-0.5)
        edges = degree[..., None] * edges * degree[:, None, :]
        return functional.log_softmax(edges @ self.second(functional.relu(edges @ self.first(x))), -1)


class Recommender(nn.Module):
    """Neural collaborative filtering."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(10, 6), nn.Embedding(12, 6)
        self.users2, self.items2 = nn.Embedding(10, 4), nn.Embedding(12, 4)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 4), nn.ReLU())
        self.head = nn.Linear(10, 1)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> Any:
        """Return a score for each pair of user and item."""
        product = self.users(user) * self.items(item)
        deep = self.mlp(torch.cat([self.users2(user), self.items2(item)], -1))
        return torch.sigmoid(self.head(torch.cat([product, deep], -1))).squeeze(-1)


class Sequences(nn.Module):
    """An encoder and decoder of `nn.Transformer` with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
        self.source, self.target, self.head = nn.Embedding(20, 8), nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> Any:
        """Return the scores of the next token."""
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        made = self.transformer(self.source(source), self.target(target), tgt_mask=mask, tgt_is_causal=True)
        return self.head(made)


class Excitation(nn.Module):
    """A convolution with squeeze and excitation, and stochastic depth around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.SiLU(), nn.Conv2d(2, 4, 1))

    def forward(self, x: torch.Tensor) -> Any:
        """Return an image of the same size."""
        made = self.conv(x)
        made = made * torch.sigmoid(self.squeeze(made))
        if self.training:
            made = made * torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), 0.8)) / 0.8
        return x + made


def _images(size: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size)


def _numbers(*sizes: int) -> torch.Tensor:
    return torch.randn(2, *sizes)


def _ids(count: int, *sizes: int) -> torch.Tensor:
    return torch.randint(0, count, (2, *sizes))


def _generator() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (8, 1, 1)),
        nn.ConvTranspose2d(8, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def _discriminator() -> nn.Module:
    norm = parametrizations.spectral_norm
    return nn.Sequential(
        norm(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2), norm(nn.Conv2d(8, 16, 4, 2, 1)), nn.LeakyReLU(0.2),
        nn.Flatten(), norm(nn.Linear(256, 1)),
    )  # fmt: skip


def _style_transfer() -> nn.Module:
    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 7), nn.InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1),
        Residual(8), Residual(8), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ReplicationPad2d(3),
        nn.Conv2d(4, 3, 7), nn.Tanh(),
    )  # fmt: skip


def _super_resolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.PReLU(8), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2),
        nn.Upsample(scale_factor=2, mode="bicubic"),
    )  # fmt: skip


def _pixel_unshuffle() -> nn.Module:
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(12, 8, 3, padding=1, groups=4),
        nn.ChannelShuffle(2),
        nn.Conv2d(8, 4, 3, padding=1),
    )


_MODELS: dict[str, tuple[str, Callable[[], tuple[Any, Any]]]] = {
    "LSTM classifier": ("recurrent", lambda: (Classifier(nn.LSTM), _ids(20, 5))),
    "GRU classifier": ("recurrent", lambda: (Classifier(nn.GRU, num_layers=2, dropout=0.1), _ids(20, 5))),
    "bidirectional LSTM": (
        "recurrent", lambda: (Classifier(nn.LSTM, bidirectional=True, num_layers=2), _ids(20, 5))),
    "plain RNN": ("recurrent", lambda: (Classifier(nn.RNN, nonlinearity="relu"), _ids(20, 5))),
    "LSTM with states": ("recurrent", lambda: (States(nn.LSTM), (_numbers(4, 5), _numbers(1, 7), _numbers(1, 7)))),
    "GRU of two layers with states": ("recurrent", lambda: (States(nn.GRU, 2), (_numbers(4, 5), _numbers(2, 7)))),
    "translation with attention": ("recurrent", lambda: (Translator(), (_ids(20, 5), _ids(18, 4)))),
    "LSTM cell in a loop": ("recurrent", lambda: (Cells(), _numbers(4, 4))),
    "U-Net": ("generative", lambda: (UNet(is_transposed=True), _images())),
    "U-Net with bilinear resizing": ("generative", lambda: (UNet(is_transposed=False), _images())),
    "U-Net with aligned corners": ("generative", lambda: (UNet(is_transposed=False, align_corners=True), _images())),
    "variational autoencoder": ("generative", lambda: (Autoencoder(), _images(16, 1))),
    "WaveNet": ("generative", lambda: (WaveNet(), _numbers(1, 20))),
    "temporal convolutions": ("recurrent", lambda: (Temporal(), _numbers(4, 9))),
    "DCGAN generator": ("generative", lambda: (_generator(), _numbers(8))),
    "spectral discriminator": ("generative", lambda: (_discriminator(), _images())),
    "style transfer": ("generative", lambda: (_style_transfer(), _images())),
    "super resolution": ("generative", lambda: (_super_resolution(), _images(8))),
    "pixel unshuffle": ("generative", lambda: (_pixel_unshuffle(), _images(8))),
    "diffusion U-Net": ("generative", lambda: (Attention2d(), (_images(8), torch.rand(2)))),
    "normalizing flow": ("generative", lambda: (Coupling(), _numbers(6))),
    "MLP-Mixer": ("vision", lambda: (Mixer(), _images())),
    "PointNet": ("vision", lambda: (Points(), _numbers(3, 10))),
    "graph convolution": ("encoder", lambda: (Graph(), (_numbers(6, 5), torch.rand(2, 6, 6)))),
    "recommender": ("encoder", lambda: (Recommender(), (_ids(10), _ids(12)))),
    "nn.Transformer": ("encoder-decoder", lambda: (Sequences(), (_ids(20, 5), _ids(20, 4)))),
    "squeeze and excitation": ("vision", lambda: (Excitation(), _images(8, 4))),
}  # fmt: skip

ENTRIES = tuple(Architecture(name=name, build=build, kind=kind) for name, (kind, build) in _MODELS.items())
