"""Conversion of subclassed models, which need example inputs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import keras3conv as k3c
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers
ROWS = np.random.default_rng(2).uniform(-1, 1, (3, 5)).astype("float32")


class Loop(keras.Model):
    """A Python loop over a list of layers."""

    def __init__(self) -> None:
        super().__init__(name="loop")
        self.parts = [layers.Dense(5, activation="tanh", name=f"part_{place}") for place in range(3)]

    def call(self, x: Any) -> Any:
        for part in self.parts:
            x = x + part(x)
        return x


class Outputs(keras.Model):
    """A dict of outputs, one of them in a tuple."""

    def __init__(self) -> None:
        super().__init__(name="outputs")
        self.body, self.label, self.box = (layers.Dense(size, name=f"dense_{size}") for size in (7, 2, 4))

    def call(self, x: Any) -> Any:
        x = keras.ops.relu(self.body(x))
        return {"label": keras.ops.softmax(self.label(x)), "boxes": (self.box(x), keras.ops.mean(x, axis=-1))}


class Keywords(keras.Model):
    """Inputs as keyword arguments."""

    def __init__(self) -> None:
        super().__init__(name="keywords")
        self.left, self.right = layers.Dense(4, name="left"), layers.Dense(4, name="right")

    def call(self, first: Any, second: Any = None, *, scale: float = 0.5) -> Any:
        x = self.left(first)
        return x if second is None else x + scale * self.right(second)


class Named(keras.Model):
    """Inputs in a dict."""

    def __init__(self) -> None:
        super().__init__(name="named")
        self.left, self.right = layers.Dense(4, name="left"), layers.Dense(4, name="right")

    def call(self, inputs: Any) -> Any:
        return self.left(inputs["first"]) - 2 * self.right(inputs["second"])


class Mixing(keras.layers.Layer):
    """A layer that uses its own weights in operations."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")
        self.gates = {"open": self.add_weight(shape=(6,), name="open")}

    def call(self, x: Any) -> Any:
        x = keras.ops.matmul(x, self.kernel)
        return x * keras.ops.sigmoid(self.gates["open"])


class Nested(keras.Model):
    """A model with a layer that has weights."""

    def __init__(self) -> None:
        super().__init__(name="nested")
        self.mixing, self.out = Mixing(name="mixing"), layers.Dense(2, name="out")

    def call(self, x: Any) -> Any:
        return self.out(self.mixing(x))


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (Loop, ROWS),
        (Outputs, ROWS),
        (Keywords, (ROWS, ROWS * 0.5)),
        (Named, {"first": ROWS, "second": ROWS * 0.5}),
        (Nested, ROWS),
    ],
    ids=["a_loop", "outputs_in_a_dict", "two_arguments", "inputs_in_a_dict", "nested"],
)
def test_a_converted_subclassed_model_passes_validation(make: Callable[[], keras.Model], inputs: Any) -> None:
    model = make()
    model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    conversion = k3c.convert(randomised(model), inputs=inputs)
    assert conversion.report is not None
    conversion.report.raise_if_failed()


def test_the_variables_of_a_nested_layer_are_parameters_of_the_module() -> None:
    model = Nested()
    model(ROWS)
    module = k3c.convert(model, inputs=ROWS, validate=False).model
    assert {name for name, _ in module.named_parameters()} == {
        "mixing_kernel",
        "mixing_open",
        "out.weight",
        "out.bias",
    }
