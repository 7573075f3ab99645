"""A table or number that a Keras layer computes in float32 in each call passes; another value of it fails."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.exact_constants import matched

LENGTH, WIDTH = 500, 8
INPUTS = np.random.default_rng(0).normal(size=(2, LENGTH, WIDTH)).astype("float32")


class Sines(layers.Layer):
    """The sines of positions up to 500, whose float32 rounding error is a hundred times that of one rounding."""

    def call(self, x: Any) -> Any:
        length, width = x.shape[1:]
        frequencies = 1 / ops.power(10000.0, ops.arange(0, width, 2, dtype="float32") / width)
        angles = ops.arange(length, dtype="float32")[:, None] * frequencies
        return x + ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


def network() -> keras.Model:
    given = keras.Input((LENGTH, WIDTH))
    return keras.Model(given, Sines()(layers.Dense(WIDTH, name="first")(given)))


class Table(nn.Module):
    """The same network in torch, as it is usually written: the frequencies are computed in another way."""

    table: torch.Tensor

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor] = lambda table: table) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        frequencies = torch.exp(torch.arange(0, WIDTH, 2) * (-np.log(10000.0) / WIDTH))
        angles = torch.arange(LENGTH)[:, None] * frequencies
        self.register_buffer("table", change(torch.cat([torch.sin(angles), torch.cos(angles)], -1)[None]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.first(x) + self.table
        return made


def shifted(table: torch.Tensor) -> torch.Tensor:
    return table + 1e-5


def one_changed(table: torch.Tensor) -> torch.Tensor:
    changed = table.clone()
    changed[..., 3, 2] += 1e-5
    return changed


def test_a_converted_table_of_sines_passes() -> None:
    conversion = k3c.convert(network())
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)


@pytest.mark.parametrize("change", [shifted, one_changed])
def test_another_table_in_a_converted_module_fails(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = network()
    conversion = k3c.convert(model, validate=False)
    ((_, table),) = conversion.model.named_buffers()
    table.copy_(change(table))
    report = k3c.validate(conversion.model, model, inputs=INPUTS, plan=conversion.plan)
    assert report.section("float64").status == "failed"


def test_a_single_value_of_a_converted_table_may_not_differ_where_rounding_is_large_either() -> None:
    model = network()
    conversion = k3c.convert(model, validate=False)
    ((_, table),) = conversion.model.named_buffers()
    table[..., LENGTH - 1, 0] += 1e-5
    report = k3c.validate(conversion.model, model, inputs=INPUTS, plan=conversion.plan)
    assert report.section("float64").status == "failed"


def certificate(module: nn.Module) -> k3c.Report:
    model = network()
    plan = k3c.align(module, model).ignore("table", "it is computed in Keras")
    k3c.transfer(model, module, plan, accept_difference=True)
    return k3c.validate(module, model, inputs=INPUTS, plan=plan)


def test_a_table_that_torch_computes_in_another_way_passes() -> None:
    report = certificate(Table())
    assert report.ok, str(report)


def test_an_alignment_sees_no_difference_in_such_a_table() -> None:
    assert k3c.align(Table(), network()).difference == ""


@pytest.mark.parametrize("change", [shifted, one_changed])
def test_another_table_fails(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert certificate(Table(change)).section("float64").status == "failed"


def test_a_transposed_constant_is_recognised() -> None:
    exact = np.random.default_rng(1).normal(size=(3, 4))
    found = matched({"table": exact.T[None].astype("float32")}, [(exact.astype("float32"), exact)])
    assert np.array_equal(found["table"], exact.T[None])


def test_a_constant_of_another_shape_is_left_alone() -> None:
    exact = np.ones((3, 4)) / 3
    assert matched({"table": np.ones((2, 6), "float32") / 3}, [(exact.astype("float32"), exact)]) == {}


class Scaled(layers.Layer):
    """A layer that computes a number with keras.ops, in float32."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x, ops.cast(ops.shape(x)[-1], "float32"))


NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "a root": lambda x, size: x / ops.sqrt(size),
    "an exponential": lambda x, size: x * ops.exp(ops.convert_to_tensor(0.37)),
    "a logarithm": lambda x, size: x + ops.log(size),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_a_layer_computes_in_float32_is_exact_in_the_module(name: str) -> None:
    given = keras.Input((5, 7))
    conversion = k3c.convert(keras.Model(given, layers.Dense(3)(Scaled(NUMBERS[name])(given))))
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)


def test_another_number_in_the_module_fails() -> None:
    given = keras.Input((5, 7))
    model = keras.Model(given, layers.Dense(3)(Scaled(NUMBERS["a root"])(given)))
    conversion = k3c.convert(model, validate=False)
    assert str(7**0.5) in conversion.source
    from keras3conv.frameworks.torch.generated import instance_of

    module = instance_of(conversion.source.replace(str(7**0.5), str(7**0.5 * (1 + 1e-6))))
    module.load_state_dict(conversion.model.state_dict())
    report = k3c.validate(module, model, inputs=np.ones((2, 5, 7), "float32"), plan=conversion.plan)
    assert report.section("float64").status == "failed"
