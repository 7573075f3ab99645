"""Modules that `torch.export` cannot capture, or that a rule of the user converts."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import ModelError, UnsupportedLayerError
from keras3conv.rules.rule import stub
from tests.support.to_keras import Function, converted
from tests.torch_backend.fixes.own_code import Branching, Chosen, in_package


class Inner(nn.Module):
    """A module with a branch on data, whose activation has no counterpart either."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.act = nn.Linear(4, 4), nn.RReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.act(self.lin(x))
        return made if x.sum() > 0 else made * 2


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.more = Inner(), nn.ModuleList([Inner() for _ in range(3)])
        self.head, self.act = nn.Linear(4, 2), nn.RReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for inner in self.more:
            x = inner(x)
        return torch.special.i1(self.act(self.head(x)))


def refusal(module: nn.Module, *inputs: torch.Tensor) -> str:
    with pytest.raises(UnsupportedLayerError) as caught:
        k3c.convert(module, inputs=inputs)
    return str(caught.value)


@pytest.mark.slow
def test_every_obstacle_is_listed_if_modules_cannot_be_captured() -> None:
    message = refusal(Outer(), torch.randn(2, 4))
    assert "10 problems in Outer" in message
    lines = [line for line in message.splitlines() if line.startswith("  ") and "(torch)" in line]
    paths = [line.split()[0] for line in lines]
    assert paths == ["first", "more.{0..2}", "act", "Outer", "first.act", "more.{0..2}.act"]
    assert "return made if x.sum() > 0 else made * 2" in lines[0]
    assert "data-dependent" in lines[1]
    assert "aten.rrelu" in lines[5]
    assert "move it into a module of its own" in lines[3]


class Returns(nn.Module):
    """A model whose own code has a branch on data."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.RReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.act(x)
        return made if float(made.sum()) > 0 else -made


@pytest.mark.slow
def test_the_modules_of_a_model_that_cannot_be_captured_are_examined() -> None:
    message = refusal(Returns(), torch.randn(2, 4))
    assert "if float(made.sum()) > 0" in message
    assert "aten.rrelu" in message


class Packs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        made, _ = self.rnn(packed)
        padded: torch.Tensor = nn.utils.rnn.pad_packed_sequence(made, batch_first=True)[0]
        return padded


def test_packed_sequences_are_refused_with_what_to_do_instead() -> None:
    message = refusal(Packs(), torch.randn(2, 5, 4), torch.tensor([5, 3]))
    assert "call it on the padded sequence" in message
    assert re.search(r"rnn +\(torch\)", message)


class Remembers(nn.Module):
    """Adds its last input to the present one, or only keeps it."""

    def __init__(self, *, is_used: bool) -> None:
        super().__init__()
        self.is_used, self.last, self.calls = is_used, torch.zeros(2, 4), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = x + self.last if self.is_used else x * 2
        self.last, self.calls = x, self.calls + 1
        return made


@pytest.mark.filterwarnings("ignore:The tensor attribute")
def test_a_state_in_an_attribute_is_refused_and_a_record_is_not() -> None:
    message = refusal(nn.Sequential(nn.Linear(4, 4), Remembers(is_used=True)), torch.randn(2, 4))
    assert "1.last" in message
    assert "the next call computes something else" in message
    module = Remembers(is_used=False)
    converted(module, torch.randn(2, 4))
    assert module.calls == 0


def test_inputs_of_a_wrong_shape_are_named() -> None:
    with pytest.raises(ModelError, match=r"raised when it was called with \(2, 5\)"):
        k3c.convert(nn.Linear(4, 4), inputs=torch.randn(2, 5))


class Condition(nn.Module):
    """A condition on a buffer, or on the data."""

    flag: torch.Tensor

    def __init__(self, *, on_data: bool) -> None:
        super().__init__()
        self.on_data, self.lin = on_data, nn.Linear(4, 4)
        self.register_buffer("flag", torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> Any:
        chosen = x[0, 0] > 0 if self.on_data else self.flag > 0
        made = torch.cond(chosen, lambda x: (self.lin(x), x.sin()), lambda x: (x * 2, x.cos()), (x,))
        return made[0] + made[1]


def test_both_branches_of_a_condition_are_computed() -> None:
    module = Condition(on_data=False)
    converted(module, torch.randn(2, 4))
    module.flag.fill_(-1.0)
    converted(module, torch.randn(2, 4))


def test_a_condition_on_one_sample_of_the_batch_is_converted() -> None:
    module = Condition(on_data=True)
    for sign in (1, -1):
        converted(module, sign * torch.ones(2, 4))


@pytest.mark.slow
def test_a_condition_in_a_saved_program_is_converted(tmp_path: Path) -> None:
    given = torch.ones(2, 4)
    program = torch.export.export(
        Condition(on_data=True).eval(), (given,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False
    )
    torch.export.save(program, tmp_path / "net.pt2")
    conversion = k3c.convert(tmp_path / "net.pt2", inputs=given)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert "ops.where" in conversion.source


def test_random_numbers_and_numbers_of_elements_are_refused_with_the_reason() -> None:
    message = refusal(Function(lambda x: x + torch.randn_like(x)), torch.randn(2, 4))
    assert "draws random numbers in evaluation mode" in message
    assert "depends on the data" in refusal(Function(torch.nonzero), torch.randn(2, 4))


@pytest.fixture
def registered() -> Iterator[None]:
    """The user's layer for `Branching`, and the rule for both."""
    undo = in_package(MyLayer=keras.saving.register_keras_serializable("my_package")(Chosen))
    kind = f"{Branching.__module__}.{Branching.__qualname__}"
    exec(stub(kind, ("lin.weight", "lin.bias", "shift"), "torch"), {"k3c": k3c})  # noqa: S102 - our own text
    yield
    undo()


@pytest.mark.usefixtures("registered")
def test_a_module_with_a_rule_of_the_user_becomes_the_layer_of_the_user(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), Branching(), Branching())
    conversion = k3c.convert(module, inputs=torch.randn(2, 3))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert "from my_package import MyLayer" in conversion.source
    conversion.save(tmp_path / "net")
    loaded = keras.saving.load_model(tmp_path / "net" / "model.keras")
    given = np.ones((2, 3), "float32")
    expected = module.eval()(torch.from_numpy(given)).detach().numpy()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(given)), expected, rtol=1e-5, atol=1e-6)
    assert "my_package" in sys.modules


def test_an_operator_that_torch_decomposes_into_known_ones_is_no_obstacle_beside_another() -> None:
    def both(x: torch.Tensor) -> torch.Tensor:
        return torch.diff(x, dim=1, prepend=x[:, :1]) + nn.functional.rrelu(x)

    with pytest.raises(UnsupportedLayerError, match=r"1 problem in .*\n.*Keras has no counterpart for rrelu"):
        k3c.convert(Function(both), inputs=torch.randn(2, 4))
