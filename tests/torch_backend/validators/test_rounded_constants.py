"""Constants that one side stores as float32 pass the certificate; a slightly larger change of a constant fails."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
INPUTS = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))


class Buffers(nn.Module):
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION, dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head((x - self.mean) / self.deviation)
        return made


class Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head((x - 0.485) / 0.229)
        return made


def model(preprocess: Callable[[Any], Any]) -> keras.Model:
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(4)(preprocess(x)))


def certificate(module: nn.Module, other: keras.Model, **options: Any) -> k3c.Report:
    plan = k3c.align(module, other, inputs=INPUTS)
    for path in ("mean", "deviation"):
        if any(tensor.path == path for tensor in plan.torch.tensors()):
            plan = plan.ignore(path, "a constant of the preprocessing")
    k3c.transfer(module, other, plan, **options)
    return k3c.validate(module, other, inputs=INPUTS, alignment=plan)


@pytest.mark.parametrize(
    ("module", "preprocess"),
    [
        (Buffers(), lambda x: (x - MEAN) / DEVIATION),
        (Buffers(), layers.Normalization(mean=MEAN, variance=DEVIATION**2)),
        (Buffers(), layers.Rescaling(1 / DEVIATION, offset=-MEAN / DEVIATION)),
        (Numbers(), lambda x: (x - np.float32(0.485)) / np.float32(0.229)),
        (Numbers(), lambda x: (x - 0.485) / 0.229),
    ],
)
def test_constants_in_float32_on_one_side_pass_the_certificate(
    module: nn.Module, preprocess: Callable[[Any], Any]
) -> None:
    certificate(module, model(preprocess)).raise_if_failed()


@pytest.mark.parametrize("factor", [1 + 2e-6, 1 - 2e-6])
def test_a_constant_that_differs_by_more_than_its_rounding_fails(factor: float) -> None:
    other = model(lambda x: (x - np.float32(0.485)) / np.float32(0.229 * factor))
    report = certificate(Numbers(), other, accept_difference=True)
    assert "float64" in {section.name for section in report.with_status("failed")}
    fixes = [fix for section in report.sections for problem in section.problems for fix in problem.fixes]
    assert not any("0.99999" in fix or "1.00000" in fix for fix in fixes)


class Scaled(nn.Module):
    """Scales a projection by a buffer in float32; the next projection merges groups, heads and their features."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 24), nn.Linear(24, 4)
        self.register_buffer("scale", torch.tensor(MEAN, dtype=torch.float32).repeat(8), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.outer(self.inner(x) * self.scale)
        return made


@pytest.mark.parametrize("wrong", [False, True])
def test_a_layer_that_merges_axes_is_judged_on_the_inputs_of_torch(wrong: bool) -> None:
    given, grouped = keras.Input((6, 5)), (6, 2, 4, 3)
    x = layers.EinsumDense("btd,dkgh->btkgh", grouped, bias_axes="kgh")(given) * MEAN
    x = x * 1.01 if wrong else x
    other = keras.Model(given, layers.EinsumDense("btkgh,kghd->btd", (6, 4), bias_axes="d")(x))
    inputs = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0))
    module = Scaled()
    plan = k3c.align(module, other, inputs=inputs)
    plan = plan.ignore("scale", "a constant") if plan.problems() else plan
    k3c.transfer(module, other, plan, accept_difference=True)
    report = k3c.validate(module, other, inputs=inputs, plan=plan)
    assert report.ok is not wrong
    assert report.section("hyperparameters").status == "passed"


class Normalized(nn.Module):
    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(3, 8), nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 4)
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.tanh(self.outer(self.norm(self.inner(x - self.mean))))
        return made


@pytest.mark.parametrize(
    ("epsilon", "last", "layer", "cause"),
    [
        (1e-3, ops.tanh, "norm", "epsilon is 1e-06 in torch and 0.001 in Keras"),
        (1e-6, ops.sigmoid, "output 0", "torch applies tanh at the end, Keras sigmoid"),
    ],
)
def test_a_mistake_is_named_before_the_rounding_of_constants(
    epsilon: float, last: Callable[[Any], Any], layer: str, cause: str
) -> None:
    x = keras.Input((3,))
    inner = layers.LayerNormalization(epsilon=epsilon)(layers.Dense(8)(x - MEAN))
    report = certificate(Normalized(), keras.Model(x, last(layers.Dense(4)(inner))), accept_difference=True)
    problem = report.section("float64").problems[0]
    assert problem.torch == layer
    assert cause in problem.fact


ANGLES = np.outer(np.arange(6), 1 / 10000 ** (np.arange(0, 8, 2) / 8)).repeat(2, 1)


class Rotated(nn.Module):
    """Attends with scores that grow with the square of the values, after a table of cosines in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = torch.cos(torch.arange(6, dtype=x.dtype)[:, None] * torch.tensor(ANGLES[1].tolist(), dtype=x.dtype))
        scores = (self.query(x) * table) @ (self.key(x) * table).transpose(1, 2)
        made: torch.Tensor = self.out(torch.softmax(scores, -1) @ x)
        return made


@keras.saving.register_keras_serializable("rounded constants")
class Attend(layers.Layer):
    def __init__(self, factor: float, **options: Any) -> None:
        super().__init__(**options)
        self.query, self.key, self.out = layers.Dense(8), layers.Dense(8), layers.Dense(4)
        self.table = (np.cos(ANGLES) * factor).astype(np.float32)

    def build(self, shape: tuple[int, ...]) -> None:
        for layer in (self.query, self.key, self.out):
            layer.build(shape)

    def call(self, x: Any) -> Any:
        query, key = (ops.multiply(layer(x), self.table) for layer in (self.query, self.key))
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        return self.out(ops.matmul(ops.softmax(scores), x))


@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize("factor", [1.0, 1 + 2e-6, 0.99])
def test_large_scores_amplify_a_rounded_table_but_excuse_no_wrong_one(factor: float) -> None:
    given = keras.Input((6, 4))
    module, other = Rotated(), keras.Model(given, Attend(factor)(given))
    inputs = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    k3c.transfer(module, other, plan := k3c.align(module, other, inputs=inputs), accept_difference=True)
    report = k3c.validate(module, other, inputs=inputs, plan=plan, proofs=("float64",))
    section = report.section("float64")
    assert section.status == ("passed" if factor == 1 else "failed"), str(report)
