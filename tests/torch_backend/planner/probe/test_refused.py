"""Models that cannot run: an error for the user's inputs, and a plan without a probe for random inputs."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError
from keras3conv.frameworks.shared.inputs import Inputs, refuse_unprovable


class Two(nn.Module):
    """A module that needs two inputs, while the Keras model has one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + y)


class Broken(layers.Layer):
    """A module that raises in every call."""

    def call(self, x: object) -> object:
        raise ValueError("cannot be run eagerly")

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


def twin(broken: bool = False) -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.Dense(5, name="a")(inputs)
    return keras.Model(inputs, layers.Dense(4, name="b")(Broken(name="broken")(x) if broken else x))


EXPECTED = {"first": "a", "second": "b"}


@pytest.mark.parametrize("broken", [False, True])
def test_a_model_that_raises_for_random_inputs_is_planned_without_a_run(broken: bool) -> None:
    plan = k3c.align(Two(), twin(broken)).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == EXPECTED
    assert plan.notes[0].startswith("not probed: with random inputs of shape (2, 6)")
    assert "missing 1 required positional argument" in plan.notes[0]
    assert plan.notes[0] in str(plan)
    assert any("broken (keras) ValueError: cannot be run eagerly" in note for note in plan.notes) == broken


def test_a_model_that_raises_for_the_users_inputs_is_named_with_the_line_that_avoids_the_probe() -> None:
    given = (torch.rand(2, 6), torch.rand(2, 5))
    said = r"broken +\(keras\) +ValueError(.|\n)*Fix: +k3c.align\(module, model, probe=False\)"
    with pytest.raises(ModelError, match=said):
        k3c.align(Two(), twin(True), inputs=given, keras_inputs=torch.rand(2, 6).numpy())
    plan = k3c.align(Two(), twin(True), inputs=given, keras_inputs=torch.rand(2, 6).numpy(), probe=False).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == EXPECTED
    assert plan.notes[0] == "not probed: probe=False"
    assert "cannot be run eagerly" in plan.notes[1]


def test_probe_true_never_falls_back_to_a_plan_without_a_run() -> None:
    with pytest.raises(ModelError, match="missing 1 required"):
        k3c.align(Two(), twin(), probe=True)


def test_inputs_with_nan_are_refused() -> None:
    with pytest.raises(InputError, match="contains 12 NaN"):
        k3c.align(nn.Linear(6, 5), twin(), inputs=torch.full((2, 6), torch.nan))


def test_bfloat16_inputs_with_nan_are_refused() -> None:
    given = torch.full((2, 3), float("nan"), dtype=torch.bfloat16)
    with pytest.raises(InputError, match="contains 6 NaN"):
        refuse_unprovable(Inputs(torch=given, keras=np.zeros((2, 3)), note=""))
    refuse_unprovable(
        Inputs(torch=torch.ones((2, 3), dtype=torch.bfloat16), keras=torch.ones(1, dtype=torch.int64), note="")
    )


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0])


def test_another_number_of_heads_is_a_problem_of_the_plan() -> None:
    steps = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(4, 2, name="attention")(steps, steps)
    model = keras.Model(steps, layers.Dense(3, name="head")(attended))
    plan = k3c.align(Attending(), model, inputs=torch.randn(2, 5, 8))
    assert [pair.torch for pair in plan.pairs] == ["attention", "head"]
    assert "attention.in_proj_weight (24, 8) becomes (8, 2, 4)" in plan.problems()[0].fact
