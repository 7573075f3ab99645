"""Experts, of which a router chooses some for each token, as transformers computes them."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from keras3conv.frameworks.torch.exportable import experts_without_a_loop
from keras3conv.frameworks.torch.float64 import Float64Kernels
from tests.support.to_keras import converted


class Experts(nn.Module):
    """Multiplies the tokens of each expert in turn, which `torch.export` cannot follow."""

    def __init__(self, *, has_gate: bool, has_bias: bool, is_transposed: bool) -> None:
        super().__init__()
        self.has_gate, self.has_bias, self.is_transposed = has_gate, has_bias, is_transposed
        self._is_expert_parallel = False
        name, width = ("gate_up_proj", 10) if has_gate else ("up_proj", 5)
        for kernel, sizes in ((name, (width, 4)), ("down_proj", (4, 5))):
            shape = sizes[::-1] if is_transposed else sizes
            setattr(self, kernel, nn.Parameter(torch.randn(3, *shape)))
            if has_bias:
                setattr(self, f"{kernel}_bias", nn.Parameter(torch.randn(3, sizes[0])))
        self.act_fn = nn.SiLU()

    def _apply_gate(self, given: torch.Tensor) -> torch.Tensor:
        gate, up = given.chunk(2, -1)
        made: torch.Tensor = self.act_fn(gate) * up
        return made

    def _product(self, name: str, expert: int, given: torch.Tensor) -> torch.Tensor:
        kernel = getattr(self, name)[expert]
        made = given @ (kernel if self.is_transposed else kernel.T)
        return made + getattr(self, f"{name}_bias")[expert] if self.has_bias else made

    def forward(self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> Any:
        made = torch.zeros_like(hidden_states)
        for expert in range(3):
            token, place = torch.where(top_k_index == expert)
            inner = self._product("gate_up_proj" if self.has_gate else "up_proj", expert, hidden_states[token])
            inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
            inner = self._product("down_proj", expert, inner) * top_k_weights[token, place, None]
            made.index_add_(0, token, inner)
        return made


class Mixture(nn.Module):
    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(4, 3, bias=False), Experts(**options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, 4)
        weights, places = self.router(rows).softmax(-1).topk(2, -1)
        made: torch.Tensor = self.experts(rows, places, weights)
        return made.view(x.shape)


OPTIONS = (
    {"has_gate": True, "has_bias": False, "is_transposed": False},
    {"has_gate": False, "has_bias": True, "is_transposed": True},
)


@pytest.mark.parametrize("options", OPTIONS)
def test_experts_are_computed_for_every_token_and_weighted(options: dict[str, bool]) -> None:
    source = converted(Mixture(**options), torch.randn(2, 5, 4)).source
    assert source.count("EinsumDense") == (2 if not options["has_bias"] else 4)
    assert "one_hot" in source


@pytest.mark.parametrize("options", OPTIONS)
def test_the_computation_with_every_expert_has_the_values_of_the_loop(options: dict[str, bool]) -> None:
    module, x = Mixture(**options).double(), torch.randn(2, 5, 4, dtype=torch.float64)
    expected = module(x)
    with experts_without_a_loop(module):
        found = module(x)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert "forward" not in vars(module.experts)


@pytest.mark.skipif(not hasattr(functional, "grouped_mm"), reason="this torch has no grouped_mm")
def test_groups_of_rows_are_multiplied_in_float64() -> None:
    rows, matrices = torch.randn(6, 8, dtype=torch.float64), torch.randn(3, 8, 4, dtype=torch.float64)
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    with Float64Kernels():
        found = functional.grouped_mm(rows, matrices, offs=ends)
    expected = [rows[:2] @ matrices[0], rows[2:5] @ matrices[2], torch.zeros(1, 4, dtype=torch.float64)]
    assert torch.equal(found, torch.cat(expected))
    with pytest.raises(RuntimeError, match="Double"):
        functional.grouped_mm(rows, matrices, offs=ends)
