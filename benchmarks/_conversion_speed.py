"""Measure the speed of a converted module against torchvision's module, unchanged and edited to compute as in Keras.

The measured time is the processor time of all threads, which other work on the machine does not increase as it does the
wall time.
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
"""Models of `keras.applications` that torchvision also has, with their names in torchvision."""

THREADS, ROUNDS, IMAGES, SIZE = 2, 24, 4, 224


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The time and the arithmetic of a converted module, relative to torchvision's modules.

    Attributes:
        torchvision: The time of the converted module divided by that of torchvision's module.
        by_hand: The time divided by that of torchvision's module edited to compute the same function as Keras.
        arithmetic: The number of multiplications and additions divided by that of torchvision's module.
    """

    torchvision: float
    by_hand: float
    arithmetic: float


def measured(name: str, converted: Any) -> Speed:
    """Time three modules alternately in eager mode; the first module changes with each round; the fastest round counts.

    Args:
        name: One of `FAMILIES`.
        converted: The converted module, in evaluation mode.
    """
    plain, edited = (getattr(torchvision_models(), FAMILIES[name])(weights=None) for _ in range(2))
    modules = [converted, plain.eval(), as_in_keras(name, edited).eval()]
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
    """Return a torchvision model with the differences of the Keras family, edited as a person would."""
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
    """Normalizes images to mean zero and standard deviation one per channel."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([58.4, 57.1, 57.4]).reshape(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape of the input."""
        return (images - self.mean) / self.deviation


def _stride_first(module: nn.Module) -> None:
    """Move the stride of each bottleneck from its second to its first convolution, as in the paper."""
    for block in module.modules():
        if hasattr(block, "conv3"):
            first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
            first.stride, second.stride = second.stride, first.stride


def _with_biases(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.bias = nn.Parameter(torch.zeros(part.out_channels))


def _padded_behind(module: nn.Module) -> None:
    """Make convolutions with stride two pad one pixel less at the start, as in Keras."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d) and part.stride == (2, 2) and part.padding != (0, 0):
                around = int(part.padding[0])
                part.padding = (0, 0)
                pad = nn.ZeroPad2d((around - 1, around, around - 1, around))
                setattr(parent, name, nn.Sequential(pad, part))


def _round(modules: Sequence[nn.Module], images: torch.Tensor, *, first: int) -> list[float]:
    """Return the time of each module, in the given order; module number `first` runs first."""
    times = {}
    for place in (*range(first, len(modules)), *range(first)):
        started = time.process_time()
        modules[place](images)
        times[place] = time.process_time() - started
    return [times[place] for place in range(len(modules))]


def _operations(module: nn.Module, inputs: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        module(inputs)
    return counter.get_total_flops()
