"""The source code of a converted Keras model: functions for computations without layers, loops that call one layer."""

import ast
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import keras3conv as k3c
from tests.support.to_keras import Function, converted


def functions_of(source: str) -> dict[str, str]:
    """Return the source code of each function of a file, by its name."""
    return {node.name: ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


class GridSample(nn.Module):
    """Sample images at the positions that a layer computes; the class has the name of the function."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Conv2d(3, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grid = torch.tanh(self.places(images)).permute(0, 2, 3, 1)
        return functional.grid_sample(images, grid, align_corners=False)


@pytest.mark.slow
def test_the_function_that_samples_images_is_written_once() -> None:
    source = converted(nn.Sequential(*(GridSample() for _ in range(3))), torch.randn(2, 3, 6, 5)).source
    functions = functions_of(source)
    assert [*functions] == ["pixel_position", "weighted_pixels", "grid_sample", "grid_sample2", "build_model"]
    assert functions["grid_sample2"].count("grid_sample(") == 1
    assert "import itertools" in source
    assert "keras3conv" not in source


def test_only_the_functions_that_a_model_calls_are_written() -> None:
    source = converted(nn.Conv2d(3, 2, 1), torch.randn(2, 3, 6, 5)).source
    assert [*functions_of(source)] == ["build_model"]
    assert "KerasTensor" not in source


def test_the_function_for_the_padding_is_written_too() -> None:
    def sampled(images: torch.Tensor) -> torch.Tensor:
        grid = torch.tanh(images[:, :2]).permute(0, 2, 3, 1) * 2
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=True)

    source = converted(Function(sampled), torch.randn(2, 3, 6, 5)).source
    assert [*functions_of(source)] == ["pixel_position", "weighted_pixels", "grid_sample", "reflected", "build_model"]
    assert "padding=reflected" in source


def windows(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return the windows of images, scaled so that each row is as wide as the number of its pixels."""
    parts = x.reshape(-1, 3, x.shape[2] // size, size, x.shape[3] // size, size)
    parts = parts.permute(0, 2, 4, 1, 3, 5) * size
    parts = torch.softmax(parts.flatten(3) - 1, -1)
    return (parts * parts.amax(-1, keepdim=True)).sum((1, 2))


class Windows(nn.Module):
    """Compute the same of windows of several sizes, in the module itself and in layers."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = []
        for size, part in ((2, x), (4, torch.tanh(x)), (8, torch.relu(x))):
            scores = windows(part, size)
            found.append(scores)
        return tuple(found)


def test_a_computation_that_repeats_is_a_function_of_the_numbers_that_differ() -> None:
    source = converted(Windows(), torch.randn(2, 3, 16, 8)).source
    functions = functions_of(source)
    assert [*functions] == ["compute_scores", "build_model"]
    assert functions["build_model"].count("compute_scores(") == 3
    assert "ops.softmax(" not in functions["build_model"]
    assert ", name" not in functions["compute_scores"].splitlines()[0]


def test_computations_with_other_wiring_stay_apart() -> None:
    def crossed(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for first, second in ((x, y), (y, x), (x, x)):
            given = torch.sin(first) - torch.cos(second)
            given = torch.exp(given * 2) / (1 + second.abs())
            total = total + given * first
        return total

    converted(Function(crossed), (torch.randn(2, 3, 4), torch.randn(2, 3, 4)))  # compares both in float64


class Refined(nn.Module):
    """Refine a state in several turns with the same layers, and return what each turn predicts."""

    def __init__(self, *, with_all: bool) -> None:
        super().__init__()
        self.with_all = with_all
        self.first, self.gate, self.delta = nn.Linear(4, 4), nn.Linear(8, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor] | torch.Tensor:
        flow = state = torch.tanh(self.first(x))
        flows = []
        for _ in range(5):
            gate = torch.sigmoid(self.gate(torch.cat([state, x], 1)))
            state = gate * state + (1 - gate) * torch.tanh(self.delta(state))
            flow = self.delta(state) * 2
            flows.append(flow)
        return flows if self.with_all else flow


@pytest.mark.parametrize("with_all", [False, True])
def test_turns_that_call_the_same_layers_are_a_loop(with_all: bool) -> None:
    source = converted(Refined(with_all=with_all), torch.randn(2, 4)).source
    before, _, after = source.partition("for _ in range(5):")
    assert "gate_layer = layers.Dense(" in before
    assert "layers.Dense(" not in after
    assert after.count("gate_layer(") == 1
    assert (", flows, name=" in after) == with_all
    assert ("flows.append(flow)" in after) == with_all


class Kept(nn.Module):
    """Return some of the values that equal turns compute, not in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        states = []
        for _ in range(6):
            state = torch.tanh(self.same(x)) + x
            x = state * 2
            states.append(state)
        return {"third": states[2], "first": states[0], "last": x}


def test_a_result_may_be_one_value_of_a_list() -> None:
    source = converted(Kept(), torch.randn(2, 4)).source
    assert "'third': all_" in ast.unparse(ast.parse(source)) or "states[2]" in source


class Swapped(nn.Module):
    """Call two layers in turn, so that no statement of the turns calls one layer only."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in range(4):
            first, second = (self.one, self.other) if number % 2 else (self.other, self.one)
            x = torch.tanh(first(x)) + torch.sigmoid(second(x)) + 1
        return x


class Summed(nn.Module):
    """Use the values of all turns after the loop, in a statement."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = []
        for _ in range(4):
            x = torch.tanh(self.same(x)) + torch.sin(x)
            states.append(x)
        return (*states, torch.cat(states, 1))


@pytest.mark.parametrize("build", [Swapped, Summed])
def test_turns_that_no_loop_can_write_compute_the_same(build: type[nn.Module]) -> None:
    converted(build(), torch.randn(2, 4))  # compares both models in float64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "shape"),
    [(GridSample(), (2, 3, 6, 5)), (Windows(), (2, 3, 16, 8)), (Refined(with_all=True), (2, 4)), (Kept(), (2, 4))],
    ids=["sampling", "windows", "refined", "kept"],
)
def test_the_saved_text_builds_the_same_model(module: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    conversion = k3c.convert(module.eval(), inputs=torch.randn(shape), validate=False)
    conversion.save(tmp_path / "saved")
    namespace = ModuleType("model").__dict__
    exec(compile(conversion.source, "model.py", "exec"), namespace)  # noqa: S102 - our own text
    built = namespace["build_model"]()
    if built.weights:
        built.load_weights(tmp_path / "saved" / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "saved" / "model.keras")
    given = np.random.default_rng(0).normal(size=(2, *conversion.model.input_shape[1:])).astype("float32")
    expected, *found = (keras.tree.flatten(model(given)) for model in (conversion.model, built, loaded))
    for several in found:
        for one, other in zip(expected, several, strict=True):
            assert np.array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
