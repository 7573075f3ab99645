"""How fast a converted module is beside torchvision's, and beside torchvision's edited to compute what Keras does.

What is measured is the time that the processor spends on all threads together: what else runs on the machine does not
count, as it does by the clock on the wall.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks._torchvision import torchvision_models

FAMILIES = {
    "ConvNeXtTiny": "convnext_tiny",
    "DenseNet121": "densenet121",
    "EfficientNetB0": "efficientnet_b0",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Large": "mobilenet_v3_large",
    "ResNet50": "resnet50",
    "VGG16": "vgg16",
}
"""Models that torchvision has too."""

THREADS, ROUNDS, IMAGES, SIZE = 2, 24, 4, 224


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Our time and our arithmetic beside others'.

    Attributes:
        torchvision: Our time, that of torchvision's model being one.
        by_hand: Our time, that of torchvision's model with the same function as Keras' being one.
        arithmetic: Our multiplications and additions, torchvision's being one.
    """

    torchvision: float
    by_hand: float
    arithmetic: float


def measured(name: str, ours: Any) -> Speed:
    """Times three modules in turns in eager mode, another first in every round; the quickest of the rounds counts.

    Args:
        name: One of `FAMILIES`.
        ours: The converted module, in evaluation mode.
    """
    plain, edited = (getattr(torchvision_models(), FAMILIES[name])(weights=None) for _ in range(2))
    modules = [ours, plain.eval(), as_in_keras(name, edited).eval()]
    given = torch.randn(IMAGES, 3, SIZE, SIZE)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.no_grad():
            rounds = [_round(modules, given, first=number % len(modules)) for number in range(ROUNDS + 3)][3:]
            counts = [_operations(module, given) for module in modules]
    finally:
        torch.set_num_threads(before)
    first, second, third = (min(times) for times in zip(*rounds, strict=True))
    return Speed(torchvision=first / second, by_hand=first / third, arithmetic=counts[0] / counts[1])


def as_in_keras(name: str, module: nn.Module) -> nn.Module:
    """A model of torchvision with what Keras does otherwise in that family, as a person would write it."""
    if name == "ResNet50":
        _stride_first(module)
        _with_biases(module)
    if name.startswith(("EfficientNet", "MobileNet")):
        _padded_behind(module)
    parts = [module, nn.Softmax(dim=1)]
    if name.startswith(("ConvNeXt", "EfficientNet")):
        parts.insert(0, _Normalized())
    return nn.Sequential(*parts)


class _Normalized(nn.Module):
    """Images with a mean of zero and a deviation of one for each channel."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([58.4, 57.1, 57.4]).reshape(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Of the shape that was given."""
        return (images - self.mean) / self.deviation


def _stride_first(module: nn.Module) -> None:
    """The stride of a bottleneck in its first convolution, as in the paper, and not in the second."""
    for block in module.modules():
        if hasattr(block, "conv3"):
            first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
            first.stride, second.stride = second.stride, first.stride


def _with_biases(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.bias = nn.Parameter(torch.zeros(part.out_channels))


def _padded_behind(module: nn.Module) -> None:
    """Convolutions with a stride of two pad one less in front."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d) and part.stride == (2, 2) and part.padding != (0, 0):
                around = int(part.padding[0])
                part.padding = (0, 0)
                pad = nn.ZeroPad2d((around - 1, around, around - 1, around))
                setattr(parent, name, nn.Sequential(pad, part))


def _round(modules: Sequence[nn.Module], given: torch.Tensor, *, first: int) -> list[float]:
    """How long each module takes, in their order; they run in turns from the first on."""
    times = {}
    for place in (*range(first, len(modules)), *range(first)):
        started = time.process_time()
        modules[place](given)
        times[place] = time.process_time() - started
    return [times[place] for place in range(len(modules))]


def _operations(module: nn.Module, given: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        module(given)
    return counter.get_total_flops()
