"""Statements that become a part of the statement which uses their result."""

import torch
from torch import nn

from tests.support.to_keras import Function, converted


def body(function: object, *shape: int) -> str:
    """Return the statements of the Keras model that computes a function of a tensor."""
    built = converted(Function(function), torch.randn(*shape))
    return built.source.partition("def build_model")[2]


def test_slices_are_items_of_the_list_that_joins_them() -> None:
    def joined(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, 2:], torch.sin(x)], 1)

    assert "ops.concatenate([inputs_0[:, 2:], sin], axis=-1)" in body(joined, 2, 5)


def test_a_slice_that_two_statements_use_keeps_its_variable() -> None:
    def twice(x: torch.Tensor) -> torch.Tensor:
        part = x[:, 2:]
        return torch.cat([part, torch.sin(part)], 1)

    assert "part = inputs_0[:, 2:]\n" in body(twice, 2, 5)


def test_a_list_stays_in_one_line_rather_than_take_in_its_items() -> None:
    def named(some_first_tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([some_first_tensor[:, 1:3, 2:4], some_first_tensor[:, :2, 1:3], torch.ones(2, 2, 2)], 1)

    assert all(len(line) <= 100 for line in body(named, 2, 5, 5).splitlines())


def test_arithmetic_is_the_argument_of_a_function_with_settings() -> None:
    def summed(x: torch.Tensor) -> torch.Tensor:
        return (x * torch.sin(x)).sum(1)

    assert "ops.sum(inputs_0 * sin, " in body(summed, 2, 5)


class Shared(nn.Module):
    """Call one layer twice, the first time on a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.arange(4).float()[None].repeat(len(x), 1)
        for _ in range(2):
            state = self.layer(state) + x
        return state


def test_calls_of_one_layer_stay_equal_if_only_one_has_a_constant_input() -> None:
    source = converted(Shared(), torch.randn(2, 4)).source
    assert "for _ in range(2):" in source
