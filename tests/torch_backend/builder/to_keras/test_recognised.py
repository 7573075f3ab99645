"""Known formulas in user code become one layer or operation; slightly different formulas are unchanged."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.to_keras import Function, converted


class Scaled(nn.Module):
    """A weight that scales the result of a function."""

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.weight, self.compute = nn.Parameter(torch.linspace(0.5, 2.0, 6)), compute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * self.compute(x)


class Activation(nn.Module):
    """A network with a function between two layers."""

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.compute, self.last = nn.Linear(6, 5), compute, nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.last(self.compute(hidden))


def root_mean_square(x: torch.Tensor) -> torch.Tensor:
    variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
    return x * torch.rsqrt(variance + 1e-3)


NEAR_NORMALIZATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "epsilon outside of the root": lambda x: x * (torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) + 1e-3),
    "another axis": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3),
    "a sum": lambda x: x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-3),
    "a third power": lambda x: x * torch.rsqrt(x.pow(4).mean(-1, keepdim=True) + 1e-3),
    "another value": lambda x: (x + 1) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3),
    "the root itself": lambda x: x * torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3),
    "epsilon twice": lambda x: x * torch.rsqrt(torch.add(x.pow(2).mean(-1, keepdim=True), 1e-3, alpha=2)),
}


def approximate(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


EXACT_ACTIVATIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "silu": (lambda x: x * torch.sigmoid(x), "ops.silu("),
    "silu in the other order": (lambda x: torch.sigmoid(x) * x, "ops.silu("),
    "gelu": (lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))), "approximate=False"),
    "gelu with tanh": (approximate, "ops.gelu("),
}

NEAR_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a scaled sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "the sigmoid of another value": lambda x: (x + 1) * torch.sigmoid(x),
    "erf without the root": lambda x: x * 0.5 * (1.0 + torch.erf(x)),
    "no half": lambda x: x * 0.6 * (1.0 + torch.erf(x / math.sqrt(2.0))),
    "another constant": lambda x: 0.5 * x * (1.0 + torch.tanh(0.8 * (x + 0.044715 * torch.pow(x, 3.0)))),
    "another power": lambda x: (
        0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 2.0))))
    ),
}


def test_a_normalization_by_the_root_of_the_mean_square_is_a_layer() -> None:
    conversion = converted(Scaled(root_mean_square), torch.randn(2, 3, 6))
    assert "layers.RMSNormalization(epsilon=0.001" in conversion.source
    assert "rsqrt" not in conversion.source


@pytest.mark.parametrize("name", NEAR_NORMALIZATIONS)
def test_a_formula_similar_to_a_normalization_is_not_replaced_by_a_layer(name: str) -> None:
    conversion = converted(Scaled(NEAR_NORMALIZATIONS[name]), torch.randn(2, 3, 6))
    assert "RMSNormalization" not in conversion.source


def test_a_normalization_with_intermediate_values_used_elsewhere_is_not_replaced_by_a_layer() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(0.5, 2.0, 6))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            variance = x.pow(2).mean(-1, keepdim=True)
            return self.weight * (x * torch.rsqrt(variance + 1e-3)), variance

    conversion = converted(Both(), torch.randn(2, 3, 6))
    assert "RMSNormalization" not in conversion.source


@pytest.mark.parametrize("name", EXACT_ACTIVATIONS)
def test_the_formula_of_an_activation_becomes_one_operation(name: str) -> None:
    compute, expected = EXACT_ACTIVATIONS[name]
    conversion = converted(Activation(compute), torch.randn(2, 6))
    assert expected in conversion.source


@pytest.mark.parametrize("name", NEAR_ACTIVATIONS)
def test_a_formula_similar_to_an_activation_is_not_replaced(name: str) -> None:
    conversion = converted(Activation(NEAR_ACTIVATIONS[name]), torch.randn(2, 6))
    assert "silu(" not in conversion.source
    assert "gelu(" not in conversion.source


@pytest.mark.slow
def test_vectors_of_length_one_are_one_operation() -> None:
    given = torch.randn(2, 5, 4)
    given[0, 1] = 0
    built = converted(Function(lambda x: functional.normalize(x * 2, dim=-1, eps=1e-5)), given)
    assert "ops.normalize(" in built.source
    others = (
        lambda x: functional.normalize(x, p=1.0, dim=-1),
        lambda x: x / x.norm(dim=-1, keepdim=True).clamp_min(1e-3).clamp_max(1.0),
    )
    for other in others:
        assert "normalize(" not in converted(Function(other), given).source
