"""The inputs of torch are matched with those of Keras by name or order, as a list, a dict or several arguments."""

import warnings
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError
from keras3conv.frameworks.keras.view import call_arguments
from keras3conv.frameworks.shared.inputs_given import derive
from keras3conv.transforms import Array

LEFT, RIGHT = np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")
BY_NAME = {"right": RIGHT, "left": LEFT}


class Two(nn.Module):
    """A module that treats two inputs of the same shape differently."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(torch.tanh(self.first(left)) * torch.sigmoid(self.second(right)))
        return result


def of_a_dict() -> keras.Model:
    inputs = {"left": keras.Input((3,), name="left"), "right": keras.Input((3,), name="right")}
    x = ops.tanh(layers.Dense(4)(inputs["left"])) * ops.sigmoid(layers.Dense(4)(inputs["right"]))
    return keras.Model(inputs, layers.Dense(2)(x))


class OfArguments(keras.Model):
    """The Keras counterpart of `Two` whose call takes two arguments, and an optional one between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.out = layers.Dense(4), layers.Dense(4), layers.Dense(2)

    def call(self, left: Any, scale: Any = None, right: Any = None) -> Any:
        """Take arrays of shapes (samples, 3), None, (samples, 3)."""
        assert scale is None
        return self.out(ops.tanh(self.one(left)) * ops.sigmoid(self.other(right)))


class OfOneArgument(keras.Model):
    """The Keras counterpart of `Two` whose call takes a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = OfArguments()

    def call(self, inputs: Any) -> Any:
        """Take a dict of arrays of shape (samples, 3)."""
        return self.inner(inputs["left"], None, inputs["right"])


@pytest.mark.parametrize("make", [of_a_dict, OfArguments, OfOneArgument])
def test_inputs_of_equal_shape_are_matched_by_name(make: type[keras.Model]) -> None:
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal((3, 3), dtype=np.float32) for name in ("right", "left")}
    module, model = Two(), make()
    with warnings.catch_warnings():
        # Keras' own word for a model whose `build` is left to its first call.
        warnings.filterwarnings("ignore", message=".*unbuilt state")
        warnings.filterwarnings("ignore", message=".*does not have a `build")
        plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=["outputs", "float64"]).raise_if_failed()


@pytest.mark.parametrize(
    ("arrays", "takes", "expected"),
    [
        (BY_NAME, (), BY_NAME),
        (BY_NAME, ("left", "right"), (LEFT, RIGHT)),
        (BY_NAME, ("left", "mask", "right"), (LEFT, None, RIGHT)),
        (BY_NAME, ("x", "mask"), BY_NAME),
        ({"0": LEFT, "1": RIGHT}, ("a", "b"), (LEFT, RIGHT)),
        ({"0": LEFT, "1": RIGHT}, ("x", "mask"), [LEFT, RIGHT]),
        ({"0": LEFT}, ("x",), LEFT),
    ],
)
def test_the_inputs_of_a_subclassed_model_follow_the_arguments_of_its_call(
    arrays: dict[str, Array], takes: tuple[str, ...], expected: Any
) -> None:
    made = derive(arrays, (), takes)
    assert type(made) is type(expected)
    told, wanted = (dict(enumerate(value)) if isinstance(value, tuple | list) else value for value in (made, expected))
    assert all(told[name] is wanted[name] for name in wanted) if isinstance(wanted, dict) else told is wanted


def test_the_positional_arguments_of_call_are_listed() -> None:
    assert call_arguments(OfArguments()) == ("left", "scale", "right")
    assert call_arguments(of_a_dict()) == ()


def test_a_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(InputError, match=r"called with 1 array, the Keras model takes 2 \(left .*give keras_inputs"):
        k3c.align(nn.Linear(3, 4), of_a_dict(), inputs=LEFT)
