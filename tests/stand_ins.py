"""Classes of packages that the tests do without: the same names, the same attributes, the same function."""

import sys
from importlib.util import find_spec
from types import ModuleType

import torch


class Conv1D(torch.nn.Module):
    """The product of GPT-2: a Linear whose weight is (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = torch.nn.Parameter(torch.empty(nx, nf))
        self.bias = torch.nn.Parameter(torch.zeros(nf))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, inputs.flatten(0, -2), self.weight).unflatten(0, inputs.shape[:-1])


STAND_INS: tuple[tuple[str, type], ...] = (("transformers.pytorch_utils", Conv1D),)


def install() -> None:
    """Puts every class where its package would have it, unless the package is installed."""
    for package, cls in STAND_INS:
        if package not in sys.modules and find_spec(package.partition(".")[0]) is None:
            cls.__module__ = package
            sys.modules[package] = ModuleType(package)
            setattr(sys.modules[package], cls.__name__, cls)
