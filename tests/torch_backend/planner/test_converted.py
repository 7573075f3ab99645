"""A model that `convert` made is aligned again without the plan of its conversion, and its weights go both ways."""

import copy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn
from torch.nn.utils import parametrize

import keras3conv as k3c
from keras3conv.frameworks.keras.values import to_numpy
from tests.support.computed_weights import NORMS, SPECTRAL
from tests.support.models import randomize


class Stack(nn.Module):
    """Three convolutions of one shape, in each of which the kernel is computed."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.a, self.b, self.c = (wrap(nn.Conv1d(5, 5, 3, padding=1)) for _ in range(3))
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.b(torch.relu(self.a(x))))
        made: torch.Tensor = self.head((x + torch.tanh(self.c(x))).mean(-1))
        return made


class Cubed(nn.Module):
    """A parametrization of a user: w becomes 2 w + w ** 3."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight + weight**3


def cubed(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Cubed())


class Standardized(nn.Conv2d):
    """A convolution that computes its kernel from its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = (self.weight.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return nn.functional.conv2d(x, (self.weight - mean) / spread, self.bias)


class Bare(nn.Module):
    """Parameters of the module itself, two of which have one shape; the second is used first."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.rand(5)), nn.Parameter(torch.rand(5))
        self.table, self.scale = nn.Parameter(torch.rand(1, 4, 5)), nn.Parameter(torch.rand(()))
        self.inner = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.alpha * torch.tanh(self.inner(x * self.beta) + self.table) * self.scale


class Functional(nn.Module):
    """The weights of a layer that is never called, and a packed projection beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.given, self.used = nn.Linear(6, 6), nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(nn.functional.linear(torch.relu(self.given(x)), self.used.weight, self.used.bias))
        made: torch.Tensor = self.attention(x, x, x, need_weights=False)[0]
        return made


class Needless(nn.Module):
    """A parameter and a layer that no output needs, and a buffer that is a constant of the Keras model."""

    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.never, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.mask_token = nn.Parameter(torch.rand(4))
        self.register_buffer("shift", torch.rand(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.b(torch.relu(self.a(x)) + self.shift)
        return made


MODULES: dict[str, tuple[Any, tuple[int, ...]]] = {
    **{f"weight norm, {name}": (lambda wrap=wrap: Stack(wrap), (2, 5, 7)) for name, wrap in NORMS.items()},
    **{f"spectral norm, {name}": (lambda wrap=wrap: Stack(wrap), (2, 5, 7)) for name, wrap in SPECTRAL.items()},
    "own parametrization": (lambda: Stack(cubed), (2, 5, 7)),
    "names that start with a number": (lambda: nn.Sequential(NORMS["new"](nn.Linear(4, 4)), nn.Tanh()), (3, 4)),
    "standardized kernels": (
        lambda: nn.Sequential(Standardized(3, 5, 3), nn.GELU(), Standardized(5, 5, 3)),
        (2, 3, 8, 8),
    ),
    "bare parameters": (Bare, (2, 4, 5)),
    "layers that are not called": (Functional, (2, 4, 6)),
    "tensors that nothing needs": (Needless, (3, 4)),
}


UNUSED = {"tensors that nothing needs": ("mask_token", "never")}
"""The tensors that stay problems: other inputs may need them, so a user must leave them out."""


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a new instance of a module, always with the same weights, and its inputs."""
    torch.manual_seed(3)
    build, shape = MODULES[name]
    return build().eval(), torch.rand(shape)


def trained(module: nn.Module) -> nn.Module:
    """Return the module after a change of all its parameters."""
    with torch.no_grad():
        for place, tensor in enumerate(module.parameters()):
            tensor.mul_(1.1 + 0.01 * place).add_(0.05)
    return module


def reloaded(conversion: Any, folder: Path) -> keras.Model:
    """Return the Keras model of a conversion as another process would load it: from its file, without the plan."""
    conversion.model.save(folder / "model.keras")
    keras.backend.clear_session()
    return keras.saving.load_model(folder / "model.keras")


def values(model: Any) -> dict[str, np.ndarray]:
    if isinstance(model, nn.Module):
        return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}
    return {one.path: np.array(to_numpy(one.value)) for one in model.variables if one.dtype == "float32"}


def require_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_run_finds_every_pair_again(name: str, tmp_path: Path) -> None:
    module, inputs = made(name)
    conversion = k3c.convert(module, inputs=inputs, validate=False)
    model = reloaded(conversion, tmp_path)
    plan = k3c.align(made(name)[0], model, inputs=inputs)
    for path in UNUSED.get(name, ()):
        plan = plan.ignore(path, "no output depends on it")
    assert not plan.check().unconfirmed
    found = []
    for used in (plan, conversion.plan):
        k3c.transfer(trained(made(name)[0]), model, used)
        back = made(name)[0]
        k3c.transfer(model, back, used)
        found.append((values(model), values(back)))
    require_equal(found[0][0], found[1][0])
    require_equal(found[0][1], found[1][1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weight norm, new", "spectral norm, old", "standardized kernels", "bare parameters"])
def test_the_certificate_passes_without_the_plan_of_the_conversion(name: str, tmp_path: Path) -> None:
    module, inputs = made(name)
    model = reloaded(k3c.convert(module, inputs=inputs, validate=False), tmp_path)
    k3c.validate(made(name)[0], model, inputs=inputs).raise_if_failed()


@pytest.mark.slow
def test_the_certificate_of_a_conversion_compares_the_gradients_of_standardized_kernels() -> None:
    module, inputs = made("standardized kernels")
    report = k3c.convert(module, inputs=inputs).report
    assert report is not None
    report.raise_if_failed()
    assert "gradients" in [section.name for section in report.with_status("passed")]


def test_names_pair_parameters_without_a_run(tmp_path: Path) -> None:
    module, inputs = made("bare parameters")
    conversion = k3c.convert(module, inputs=inputs, validate=False)
    model = reloaded(conversion, tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    for torch_side, keras_side in ((module, model), (tmp_path / "net.pt", tmp_path / "model.keras")):
        plan = k3c.align(torch_side, keras_side, probe=False).check()
        assert {one.torch: one.keras for one in plan.mappings} == {
            one.torch: one.keras for one in conversion.plan.mappings
        }
        assert not plan.unconfirmed


@pytest.mark.slow
def test_axes_of_equal_size_stay_in_doubt_without_a_run(tmp_path: Path) -> None:
    module, inputs = made("weight norm, new")
    model = reloaded(k3c.convert(module, inputs=inputs, validate=False), tmp_path)
    plan = k3c.align(module, model, probe=False).check()
    doubtful = [f"{name}.parametrizations.weight.original1" for name in "abc"]
    assert [pair.torch for pair in plan.unconfirmed] == doubtful


def test_a_constant_is_ignored_and_what_no_output_needs_is_named(tmp_path: Path) -> None:
    module, inputs = made("tensors that nothing needs")
    model = reloaded(k3c.convert(module, inputs=inputs, validate=False), tmp_path)
    plan = k3c.align(module, model, inputs=inputs)
    assert {entry.path: entry.reason for entry in plan.ignored} == {
        "shift": "the outputs agree, so Keras has it as a constant"
    }
    assert [problem.torch for problem in plan.problems()] == ["mask_token", "never"]
    names = "mask_token, never.weight, never.bias"
    assert plan.notes[1] == f"with these inputs no output of the module depends on {names}"


def test_a_buffer_with_other_values_than_in_keras_is_no_constant(tmp_path: Path) -> None:
    module, inputs = made("tensors that nothing needs")
    model = reloaded(k3c.convert(module, inputs=inputs, validate=False), tmp_path)
    module.get_buffer("shift").add_(1.0)
    plan = k3c.align(module, model, inputs=inputs)
    assert "shift" not in [entry.path for entry in plan.ignored]
    assert "shift" in [problem.torch for problem in plan.problems()]


def held(name: str, given: Any) -> Any:
    ones = keras.ops.ones_like(given[:, 0, :1])
    return keras.ops.expand_dims(layers.EinsumDense("ab,bc->ac", (5,), name=name)(ones), 1)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_run_decides_where_names_mislead(swapped: bool) -> None:
    first, second = ("alpha", "beta") if swapped else ("beta", "alpha")

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha, self.beta, self.inner = (
                nn.Parameter(torch.rand(5)),
                nn.Parameter(torch.rand(5)),
                nn.Linear(5, 5),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.alpha + torch.tanh(self.inner(x * self.beta))

    given = keras.Input((4, 5))
    x = keras.ops.tanh(layers.Dense(5, name="inner")(given * held(first, given)))
    model = keras.Model(given, held(second, given) + x)
    plan = k3c.align(randomize(Two()), model, inputs=torch.rand(2, 4, 5)).check()
    pairs = {pair.torch: pair.keras.partition("/")[0] for pair in plan.pairs}
    assert pairs == {"beta": first, "alpha": second, "inner": "inner"}
    assert not plan.unconfirmed


def test_a_tensor_that_an_output_needs_stays_a_problem(tmp_path: Path) -> None:
    module, inputs = made("bare parameters")
    model = reloaded(k3c.convert(module, inputs=inputs, validate=False), tmp_path)

    class More(Bare):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.Parameter(torch.rand(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.late

    more = More().eval()
    more.load_state_dict(copy.deepcopy(module.state_dict()), strict=False)
    assert [problem.torch for problem in k3c.align(more, model, inputs=inputs).problems()] == ["late"]
