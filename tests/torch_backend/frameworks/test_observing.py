"""Models are observed without a lasting change, and the running layers are known after a caught exception."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

from keras3conv.errors import ModelError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras import observing as keras_observing
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.observing import forward_calls


class Base:
    def greet(self) -> str:
        return "base"


class Derived(Base):
    pass


def test_an_inherited_method_is_inherited_again_after_an_exception() -> None:
    seen = []

    def fail() -> None:
        with keras_observing.replaced([(Derived, "greet", lambda _: "new")]):
            seen.extend([Derived().greet(), Base().greet()])
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        fail()
    assert seen == ["new", "base"]
    assert "greet" not in vars(Derived)
    assert Derived().greet() == "base"


def test_every_call_of_a_layer_is_handled_and_may_change() -> None:
    original = keras.layers.Layer.__call__
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="first"), keras.layers.Dense(2)])
    seen: list[str] = []

    def double(call: Any, layer: Any, args: Any, kwargs: Any) -> Any:
        seen.append(layer.name)
        return 2 * call(layer, *args, **kwargs)

    plain = model(np.ones((1, 3), "float32"))
    with keras_observing.layer_calls(double):
        doubled = model(np.ones((1, 3), "float32"))
    assert seen == [model.name, "first", model.layers[1].name]
    assert torch.allclose(doubled, 8 * plain)  # both layers have zero biases
    assert keras.layers.Layer.__call__ is original


def test_hooks_are_removed_after_an_exception() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(RuntimeError), forward_calls(module) as running:
        module(torch.ones(1, 4))
    assert running == ["", "0"]
    assert not module[0]._forward_hooks
    assert not module[0]._forward_pre_hooks


class Catches(nn.Module):
    """A module that calls another layer if the first one raises."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 2), nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return self.first(x)
        except RuntimeError:
            return self.second(x)


def test_a_caught_exception_of_a_layer_does_not_hide_the_layer_that_raises_later() -> None:
    with pytest.raises(ModelError, match=r"(?m)^  second +\(torch\)"):
        torch_side.run(Catches(5), np.ones((1, 3), "float32"))
    recording = torch_side.run(Catches(3), np.ones((1, 3), "float32"))
    assert [call.path for call in recording.calls] == ["", "second"]


class Counts(nn.Module):
    """Adds hooks to its layers in its first call, as transformers does to collect hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3))])
        self.seen: list[int] = []
        self.is_prepared = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.is_prepared:
            for layer in self.layers:
                layer.register_forward_hook(lambda *_: self.seen.append(1))
            self.is_prepared = True
        self.seen.clear()
        for layer in self.layers:
            x = layer(x)
        return x * len(self.seen)


def test_a_module_that_adds_hooks_in_its_first_call_is_left_without_them() -> None:
    module = Counts()
    first, second = (torch_side.run(module, torch.ones(2, 3)).outputs for _ in range(2))
    assert not module.layers[0]._forward_hooks
    assert not module.layers[1]._forward_hooks
    assert {name: value.tolist() for name, value in first.items()} == {
        name: value.tolist() for name, value in second.items()
    }


class Doubling(keras.layers.Layer):
    """Writes into its input, which is the output of another layer."""

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2.0)


def test_an_output_that_a_later_layer_overwrites_is_recorded_as_it_was() -> None:
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(4, name="dense")
    model = keras.Model(inputs, Doubling()(dense(inputs)))
    given = np.ones((2, 3), np.float32)
    run = keras_side.run(model, given, record=lambda path: path == "dense")
    np.testing.assert_array_equal(run.of("dense")[0].outputs[0], to_numpy(dense(given)))
    np.testing.assert_array_equal(run.outputs[""], 2 * run.of("dense")[0].outputs[0])


def test_an_output_that_nobody_overwrites_is_recorded_without_a_copy() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="dense"), keras.layers.ReLU(name="relu")])
    run = keras_side.run(model, np.ones((2, 3), np.float32), record=lambda path: True)
    assert run.of("dense")[0].outputs[0] is run.of("relu")[0].inputs[0]
    assert not run.of("dense")[0].outputs[0].flags.owndata
