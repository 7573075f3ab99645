"""Errors of layers and modules of the user, whose message prints a rule to register or another way out."""

import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.support.registered import keep_rules
from tests.torch_backend.fixes.plans import NAMES


class Values(layers.Layer):
    """A call that cannot be traced because it reads values."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(shape[-1],), name="table")

    def call(self, inputs: Any) -> Any:
        if isinstance(self.table, keras.KerasTensor):
            np.asarray(self.table)
        return inputs * self.table


class MyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table


@case("keras3conv/frameworks/keras/tracing/problems.py:cannot_follow#2", "k3c.convert(model, validate=False)")
def a_layer_that_cannot_be_traced(_: Path) -> Scope:
    return NAMES | {
        "model": keras.Sequential([keras.Input((3,)), Values(name="own")]),
        "undo": in_package(MyLayer=MyLayer),
    }


def in_package(**classes: Any) -> Any:
    """Put classes into the package of the user; return a function that takes this and all new rules back."""
    package = ModuleType("my_package")
    for name, cls in classes.items():
        cls.__module__, cls.__qualname__ = "my_package", name
        setattr(package, name, cls)
    sys.modules["my_package"] = package
    take_back = keep_rules()

    def undo() -> None:
        del sys.modules["my_package"]
        take_back()

    return undo


class Leaky(layers.Layer):
    """What `nn.RReLU` computes in evaluation mode."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.leaky_relu(inputs, (1 / 8 + 1 / 3) / 2)


@case("keras3conv/rules/obstacle.py:obstacle", "k3c.convert(module, inputs=inputs)")
def an_operator_without_a_counterpart_in_a_module(_: Path) -> Scope:
    module = nn.Sequential(nn.Linear(3, 4), nn.RReLU())
    return NAMES | {"module": module, "inputs": torch.randn(2, 3), "undo": in_package(MyLayer=Leaky)}


class Leaks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.rrelu(x)


class OwnCode(nn.Module):
    """Calls an operator without a counterpart, in its own code or in a module."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.linear, self.inner = nn.Linear(3, 4), inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.linear(x)
        return self.inner(made) if self.inner else nn.functional.rrelu(made)


@case(
    "keras3conv/rules/obstacle.py:obstacle",
    "k3c.convert(module, inputs=inputs)",
    then="k3c.convert(moved, inputs=inputs)",
)
def an_operator_without_a_counterpart_in_the_code_of_the_model(_: Path) -> Scope:
    undo = in_package(MyLayer=Leaky, MyModule=Leaks)
    return NAMES | {"module": OwnCode(), "moved": OwnCode(Leaks()), "inputs": torch.randn(2, 3), "undo": undo}


class Branching(nn.Module):
    """Computes something else where the sum is not positive."""

    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.lin(x)
        return made if x.sum() > 0 else made + self.shift


class Chosen(layers.Layer):
    """The same, without a branch."""

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(4, 4), name="lin_weight")
        self.bias = self.add_weight(shape=(4,), name="lin_bias")
        self.shift = self.add_weight(shape=(4,), name="shift", trainable=False)

    def call(self, inputs: Any) -> Any:
        made = inputs @ keras.ops.transpose(self.weight) + self.bias
        return keras.ops.where(keras.ops.sum(inputs) > 0, made, made + self.shift)


@case("keras3conv/rules/obstacle.py:obstacle", "k3c.convert(module, inputs=inputs)")
def modules_that_cannot_be_captured(_: Path) -> Scope:
    module = nn.Sequential(nn.Linear(3, 4), Branching(), Branching())
    undo = in_package(MyLayer=Chosen)
    return NAMES | {"module": module, "inputs": torch.randn(2, 3), "undo": undo}


class ByLength(layers.Layer):
    """Calls another function for long inputs."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.tanh(inputs) if inputs.shape[1] and inputs.shape[1] > 12 else keras.ops.sin(inputs)


@case("keras3conv/frameworks/keras/tracing/merging.py:merged", "k3c.convert(model)")
def operations_that_depend_on_a_free_size(_: Path) -> Scope:
    model = keras.Sequential([keras.Input((None, 4)), ByLength()])
    return NAMES | {"model": model, "example_input": np.zeros((2, 6, 4), "float32")}


class ByPower(layers.Layer):
    def call(self, inputs: Any) -> Any:
        return keras.ops.power(inputs, inputs.shape[1] ** 3 if inputs.shape[1] else 1)


@case("keras3conv/frameworks/keras/tracing/merging.py:_node.merge", "k3c.convert(model, validate=False)")
def an_argument_that_depends_on_a_free_size(_: Path) -> Scope:
    model = keras.Sequential([keras.Input((None, 4)), ByPower()])
    return NAMES | {"model": model, "example_input": np.ones((2, 2, 4), "float32")}


class ByConstant(layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs + np.linspace(0, 1, inputs.shape[1] or 1, dtype="float32")[:, None]


@case("keras3conv/frameworks/keras/tracing/merging.py:_constants", "k3c.convert(model)")
def a_constant_that_depends_on_a_free_size(_: Path) -> Scope:
    model = keras.Sequential([keras.Input((None, 4)), ByConstant()])
    return NAMES | {"model": model, "example_input": np.ones((2, 6, 4), "float32")}


class Shifting(nn.Module):
    def __init__(self, size: int, affine: bool = True) -> None:
        super().__init__()
        self.size, self.affine = size, affine
        self.shift = nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift


def _rule_of_shifts(names: Scope, **changes: Any) -> None:
    """Register a rule for `Shifting`, with other arguments of the rule or of its example."""
    by_default: dict[str, Any] = {"config": {"size": 3}, "keras": None, "fields": {"size": "units"}}
    given = by_default | names["given"] | changes
    example = k3c.Example(config=given["config"], keras=given["keras"], inputs=((2, 3),))
    kind = "my_package.KerasShifting"
    rule = k3c.Rule(
        torch="my_package.Shifting",
        keras=kind,
        fields=given["fields"],
        weights=given["weights"],
        to_keras=lambda config: (k3c.LayerSpec(kind=kind, config={"units": config["size"]}),),
        to_torch=lambda specs: (
            k3c.LayerSpec(kind="my_package.Shifting", config={"size": specs[0].config["units"], "affine": True}),
        ),
        examples=(example,),
    )
    names["undo"]()
    names["undo"] = in_package(Shifting=Shifting, KerasShifting=KerasShifting)
    k3c.register(rule)
    if "module" in names:
        k3c.align(names["module"], names["model"])


def _of_shifts(**given: Any) -> Scope:
    names = NAMES | {"given": given, "undo": in_package(Shifting=Shifting, KerasShifting=KerasShifting)}
    names["registered"] = partial(_rule_of_shifts, names)
    return names


def _one_shift(config: Any) -> tuple[k3c.WeightMapping, ...]:
    return (k3c.WeightMapping(torch=("shift",), keras=("shift",), transform=k3c.transforms.Same()),)


@case("keras3conv/rules/own_code.py:_left_out", "registered()", edit=lambda line, _: line.replace("NAME", "shift"))
def an_example_without_the_keras_layer(_: Path) -> Scope:
    return _of_shifts(weights=lambda config: _one_shift(config["keras"].shapes["shift"]))


@case("keras3conv/rules/own_code.py:_left_out#2", "registered()")
def an_example_that_leaves_out_a_default(_: Path) -> Scope:
    return _of_shifts(weights=lambda config: _one_shift(config) if config["affine"] else ())


@case("keras3conv/rules/own_code.py:_unnamed", "registered()")
def an_attribute_that_fields_does_not_name(_: Path) -> Scope:
    names = _of_shifts(
        weights=lambda config: _one_shift(config) if config["affine"] else (), config={"size": 3, "affine": True}
    )
    model = keras.Sequential([keras.Input((3,)), KerasShifting(3)])
    names |= {"module": nn.Sequential(Shifting(3)), "model": model}
    return names


class KerasShifting(layers.Layer):
    def __init__(self, units: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.shift = self.add_weight(shape=(units,), name="shift")

    def call(self, inputs: Any) -> Any:
        return inputs + self.shift


class Blurring(layers.Layer):
    """Blurs images with a kernel of any size, also of one that a trace does not support."""

    def __init__(self, kernel_size: tuple[int, int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.kernel_size = kernel_size

    def call(self, inputs: Any) -> Any:
        return keras.ops.image.gaussian_blur(inputs, kernel_size=self.kernel_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}


class TorchBlurring(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 3, 1, 1)


@case("keras3conv/frameworks/keras/tracing/problems.py:cannot_follow", "k3c.convert(model, validate=False)")
def an_argument_that_is_not_supported(_: Path) -> Scope:
    def rebuilt(names: Scope, layer: str, arguments: Any) -> None:
        names["model"] = keras.Sequential([keras.Input((8, 8, 3)), Blurring(**arguments, name=layer)])

    return NAMES | {
        "model": keras.Sequential([keras.Input((8, 8, 3)), Blurring((4, 4), name="own")]),
        "rebuilt": rebuilt,
        "undo": in_package(MyLayer=TorchBlurring),
    }
