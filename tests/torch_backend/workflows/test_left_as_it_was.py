"""Align, validate and convert leave both models unchanged, also after errors and interrupts."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.transforms import Array
from tests.support.models import randomize
from tests.torch_backend.planner.probe.test_afterwards import State


def rows() -> Array:
    return np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def model(*first: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), *first, layers.Dense(4)])


def everything(module: nn.Module, target: keras.Model, inputs: Any) -> None:
    """Run every public function that runs the two models."""
    plan = k3c.align(module, target, inputs=inputs, probe=False)
    plan = k3c.align(module, target, inputs=inputs)
    k3c.transfer(module, target, plan)
    k3c.validate(module, target, inputs=inputs, alignment=plan).raise_if_failed()
    k3c.convert(target)


class Keeps(nn.Linear):
    """A layer that caches tables for its next call: in an attribute, in a new buffer, and in containers."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.table: torch.Tensor | None = None
        self.tables: dict[str, torch.Tensor] = {}
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.table is None:
            self.table = x.new_ones(6)
            self.late = 1
            self.register_buffer("angles", x.new_ones(6), persistent=False)
        if "ones" not in self.tables:
            self.tables["ones"] = x.new_ones(6)
        self.seen.append(x)
        return super().forward(x * self.table * self.tables["ones"] * self.get_buffer("angles"))


def test_tables_that_a_module_caches_are_restored_to_float32() -> None:
    module = randomize(Keeps())
    everything(module, model(), rows())
    assert module.table is None
    assert not module.tables
    assert not module.seen
    assert not hasattr(module, "late")
    assert not list(module.named_buffers())
    assert module(torch.from_numpy(rows())).dtype == torch.float32


def test_tables_that_a_keras_layer_caches_are_restored() -> None:
    class Scaled(layers.Layer):
        table: Any = None

        def call(self, x: Any) -> Any:
            if self.table is None:
                self.table = keras.ops.ones((6,), dtype=x.dtype)
            return x * self.table

    scaled = Scaled()
    module, target = randomize(nn.Sequential(nn.Linear(6, 4))), model(scaled)
    del scaled.table  # from when the model was drawn
    plan = k3c.align(module, target, inputs=rows())
    k3c.transfer(module, target, plan)
    k3c.validate(module, target, inputs=rows(), alignment=plan).raise_if_failed()
    assert scaled.table is None
    k3c.convert(target)
    assert scaled.table is None


def test_a_call_counter_is_restored_before_every_run_and_reported_as_state() -> None:
    class Counts(nn.Linear):
        calls = 0

        def __init__(self) -> None:
            super().__init__(6, 4)
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(x) * self.calls

    module, target = randomize(Counts()), model()
    everything(module, target, rows())
    assert module.calls == 0
    facts = k3c.validate(module, target, inputs=rows()).section("outputs").facts
    assert facts["state in torch"].startswith("calls (changed by a call")


def test_weight_lists_of_recurrent_layers_and_constants_of_normalization_are_restored() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(6, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.rnn((x - 0.5) / 2.0)[0]
            return made

    module = randomize(Last())
    normal = layers.Normalization(mean=[0.5] * 6, variance=[4.0] * 6)
    target = keras.Sequential([keras.Input((3, 6)), normal, layers.LSTM(4, return_sequences=True)])
    before, listed = dict(vars(normal)), list(module.rnn._flat_weights)
    everything(module, target, np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32))
    assert all(one is other for one, other in zip(module.rnn._flat_weights, listed, strict=True))
    assert [name for name, value in vars(normal).items() if before.get(name) is not value] == []


class Rectifies(nn.Sequential):
    """A module that writes into its input."""

    def __init__(self) -> None:
        super().__init__(nn.ReLU(inplace=True), nn.Linear(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.25)
        made: torch.Tensor = super().forward(x)
        return made


@pytest.mark.parametrize("make", [np.array, torch.from_numpy], ids=["an array", "a tensor"])
def test_a_module_that_writes_into_its_inputs_gets_copies(make: Callable[[Array], Any]) -> None:
    inputs, before = make(rows()), rows()
    everything(randomize(Rectifies()), model(layers.Rescaling(1.0, offset=-0.25), layers.ReLU()), inputs)
    np.testing.assert_array_equal(np.asarray(inputs), before)


def test_every_replaced_method_of_keras_is_restored() -> None:
    classes = (keras.Variable, keras.layers.Layer, keras.Operation, keras.Model)
    before = [dict(vars(cls)) for cls in classes]
    everything(randomize(nn.Linear(6, 4)), model(), rows())
    assert [dict(vars(cls)) for cls in classes] == before


def layers_of(module: nn.Module, target: keras.Model) -> dict[str, tuple[Any, str]]:
    return {"torch": (module[-1], "forward"), "keras": (target.layers[-1], "call")}  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["torch", "keras"])
def test_an_interrupt_in_any_run_of_any_proof_leaves_both_models_unchanged(side: str) -> None:
    module = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 4))
    randomize(module)[0].requires_grad_(False)
    target = model(layers.Dense(6), layers.BatchNormalization(epsilon=1e-5), layers.Dropout(0.5))
    plan = k3c.align(module, target)
    k3c.transfer(module, target, plan)
    layer, method = layers_of(module, target)[side]
    original, before = getattr(layer, method), State(module.train(), target)
    calls, at = 0, 0

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    vars(layer)[method] = counted
    k3c.validate(module, target, alignment=plan)
    runs = calls
    assert runs > 5
    for at in range(1, runs + 1):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            k3c.validate(module, target, alignment=plan)
        assert before.same(), f"after an interrupt in run {at}"
    del vars(layer)[method]
