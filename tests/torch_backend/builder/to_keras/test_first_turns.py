"""Loops whose first turn computes with a constant: it is written like the others, so that all turns are one loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.to_keras import converted


class Refined(nn.Module):
    """Move a grid of positions in several turns, as RAFT does; only in the first turn it is a constant."""

    def __init__(self, *, detached: bool) -> None:
        super().__init__()
        self.detached = detached
        self.motion, self.step = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        batch, _, height, width = images.shape
        axes = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        start = torch.stack(axes[::-1]).float()[None].repeat(batch, 1, 1, 1)
        places, found = start, []
        for _ in range(4):
            if self.detached:
                places = places.detach()
            grid = (2 * places / (width - 1) - 1).permute(0, 2, 3, 1)
            sampled = functional.grid_sample(images, grid, align_corners=True)
            given = torch.cat([sampled, places - start], 1)
            places = places + self.step(torch.relu(self.motion(given)))
            found.append(places)
        return found


class Recurrent(nn.Module):
    """Apply the same layers to a state that starts as zeros, of a batch on the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(3, x.shape[0], 4)
        for _ in range(4):
            scaled = torch.sin(state * 3) + x
            state = torch.tanh(self.first(scaled)) * torch.sigmoid(self.gate(scaled)) + 0.5 * state
        return state


class Counted(nn.Module):
    """Add layers of a number that starts as an integer constant."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        place = torch.zeros(x.shape[0], dtype=torch.long)
        total = x
        for _ in range(4):
            row = torch.tanh(self.table(place) + x)
            total = total + row * total
            place = (place + total.argmax(-1) + 1) % 5
        return total, place


@pytest.mark.parametrize("detached", [True, False])
def test_a_turn_that_computes_with_a_constant_is_in_the_loop(detached: bool) -> None:
    built = converted(Refined(detached=detached), torch.randn(2, 2, 5, 6))
    assert "for _ in range(4):" in built.source
    assert built.source.count("grid_sample(") == 2  # the function, and one call of it
    assert "ops.transpose" not in built.source  # the grid has the axis order that later turns give it


def test_a_state_whose_batch_is_the_second_axis_starts_for_each_sample() -> None:
    source = converted(Recurrent(), torch.randn(2, 4)).source
    assert "for _ in range(4):" in source
    assert source.count("ops.sin(") == 1


def test_a_number_may_be_what_starts_a_loop() -> None:
    assert "for _ in range(" in converted(Counted(), torch.randn(2, 4)).source  # compares with torch


class Overwritten(nn.Module):
    """Write into the tensor with which a loop starts, and read it afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.arange(4).float() - 2
        for _ in range(3):
            functional.relu(state, inplace=True)
            state = torch.tanh(self.layer(state * 2 + x)) - state
        return state


def test_a_constant_that_is_overwritten_or_gets_an_axis_has_torchs_values() -> None:
    converted(Overwritten(), torch.randn(2, 4))  # compares with torch


class Written(nn.Module):
    """Compute with a constant first, by a line of code that is no turn of a loop."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(12).reshape(3, 4).float()
        places = torch.sin(places * 2)
        first = torch.cos(places) + x
        return torch.cos(first) * places


def test_a_constant_is_computed_in_advance_if_nothing_repeats() -> None:
    source = converted(Written(), torch.randn(2, 3, 4)).source
    assert "ops.sin(" not in source
    assert "ops.ones" not in source


class OfOneLine(nn.Module):
    """Take the sine of a constant and of a value in one line, which is no loop."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fixed = torch.arange(4).float()
        return torch.sin(fixed) + torch.exp(x) * torch.sin(torch.sin(x))


def test_a_line_with_the_same_operator_twice_is_no_loop() -> None:
    assert converted(OfOneLine(), torch.randn(2, 4)).source.count("ops.sin(") == 2


class Cells(nn.Module):
    """A loop over the steps with a cell whose first states are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, cell = x.new_zeros(x.shape[0], 6), x.new_zeros(x.shape[0], 6)
        for step in x.unbind(1):
            hidden, cell = self.cell(step, (hidden, cell))
        return hidden


def test_the_first_states_of_a_cell_are_not_marked_as_sparse_which_tensorflow_cannot_load() -> None:
    model = converted(Cells(), torch.randn(2, 3, 4), limit=1e-6).model  # the sum of two biases is rounded
    given = [tensor for node in model.get_layer("cell")._inbound_nodes for tensor in node.input_tensors]
    assert len(given) == 9
    assert not any(tensor.sparse for tensor in given)
