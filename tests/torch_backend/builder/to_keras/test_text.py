"""The source code of a converted Keras model: functions for layers, loops for repetitions, names of the user's code."""

import ast
import builtins
import keyword
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from tests.support.to_keras import Function, converted


class Unit(nn.Module):
    """A convolution with a normalization."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(given, made, 3, padding=1, bias=False), nn.BatchNorm2d(made)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = self.norm(self.conv(image))
        return torch.relu(image)


class Residual(nn.Module):
    """Two units and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Unit(channels, 2 * channels), Unit(2 * channels, channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        shortcut = image
        hidden = self.first(image)
        hidden = self.second(hidden)
        return hidden + shortcut


class Net(nn.Module):
    """A network of stages of residual units with different numbers of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Unit(3, 4)
        self.wide = nn.ModuleList([Residual(4) for _ in range(4)])
        self.narrow, self.widen = nn.ModuleList([Residual(6) for _ in range(3)]), Unit(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        features = self.stem(picture)
        for block in self.wide:
            features = block(features)
        features = self.widen(features)
        for block in self.narrow:
            features = block(features)
        pooled = features.mean((2, 3))
        logits = self.head(pooled)
        return torch.relu(logits)


@pytest.mark.slow
def test_a_function_for_each_class_calls_the_functions_of_the_layers_in_it() -> None:
    source = converted(Net(), torch.randn(2, 3, 8, 8)).source
    functions = {node.name: ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert [*functions] == ["unit", "residual", "build_model"]
    assert functions["residual"].count("unit(") == 2
    assert "2 * filters" in functions["residual"] or "filters // 2" in functions["residual"]


@pytest.mark.slow
def test_repeated_calls_are_a_loop() -> None:
    source = converted(Net(), torch.randn(2, 3, 8, 8)).source
    assert 'for number in range(4):\n        features = residual(features, f"wide_{number}"' in source


@pytest.mark.slow
def test_variables_have_the_names_of_the_users_code() -> None:
    source = converted(Net(), torch.randn(2, 3, 8, 8)).source
    for line in ("def unit(", "hidden = unit(", "features = unit(", "pooled = ops.mean(", "logits = layers.Dense("):
        assert line in source


def test_no_variable_hides_a_name_of_python() -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
            layers = self.first(input)
            keras = torch.tanh(layers) + input
            type = self.second(keras) + layers  # noqa: A001
            return type * keras + layers

    source = converted(Hiding(), torch.randn(2, 4)).source
    stored = {
        node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and type(node.ctx) is ast.Store
    }
    assert not {name for name in stored if hasattr(builtins, name) or keyword.iskeyword(name)}
    assert not stored & {"layers", "keras", "ops", "np"}


@pytest.mark.slow
def test_without_the_users_file_variables_have_the_names_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linecache.getlines", lambda *_: [])
    from keras3conv.frameworks.torch import variables

    for cached in (variables._tree, variables._statements, variables._assignments):
        cached.cache_clear()
    source = converted(Net(), torch.randn(2, 3, 8, 8)).source
    for cached in (variables._tree, variables._statements, variables._assignments):
        cached.cache_clear()
    assert "hidden" not in source
    assert "norm = layers.BatchNormalization(" in source


class Chain(nn.Module):
    """Layers of growing widths; a value from before the loop is needed after it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])
        self.last = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = y = torch.tanh(x)
        for layer in self.layers:
            y = torch.relu(layer(y))
        return self.last(y) * kept + x


class Crossed(nn.Module):
    """Two values that are swapped in every iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = x, torch.tanh(x)
        for layer in self.layers:
            one, other = other, torch.relu(layer(one)) + other
        return one - other


class Anchored(nn.Module):
    """The first value is needed in every iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = first = torch.tanh(x)
        for layer in self.layers:
            y = torch.relu(layer(y)) + first
        return y


class Collected(nn.Module):
    """The value of every iteration is used after the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            found.append(x)
        return torch.cat(found, 1)


class Tied(nn.Module):
    """The same layer runs in every iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.same = nn.ModuleList([nn.Linear(4, 4) for _ in range(5)]), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = self.same(torch.relu(layer(x)))
        return x


@pytest.mark.parametrize("build", [Chain, Crossed, Anchored, Collected, Tied])
def test_a_loop_computes_what_the_statements_compute(build: type[nn.Module]) -> None:
    converted(build(), torch.randn(2, 4))  # compares both models in float64


def test_a_value_that_is_needed_after_the_loop_is_kept() -> None:
    source = converted(Chain(), torch.randn(2, 4)).source
    assert "for number in range(6):" in source


class Stages(nn.Module):
    """Layers whose names hold the number of the stage twice: stages.stage1.stage1_0."""

    def __init__(self) -> None:
        super().__init__()
        stages = ((f"stage{number}", nn.Sequential()) for number in range(1, 6))
        self.stages = nn.Sequential(OrderedDict(stages))
        for name, stage in self.stages.named_children():
            stage.add_module(f"{name}_0", Residual(4))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.stages(image)


def test_a_name_of_a_layer_in_a_loop_may_hold_the_number_twice() -> None:
    conversion = converted(Stages(), torch.randn(2, 4, 8, 8))
    assert 'f"stages_stage{number}_stage{number}_0"' in conversion.source
    assert "stages_stage5_stage5_0_first_conv" in {layer.name for layer in conversion.model.layers}


@pytest.mark.slow
def test_the_saved_text_builds_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    conversion = k3c.convert(Net().eval(), inputs=torch.randn(2, 3, 8, 8), validate=False)
    conversion.save(tmp_path / "saved")
    namespace = ModuleType("model").__dict__
    exec(compile(conversion.source, "model.py", "exec"), namespace)  # noqa: S102 - our own text
    built = namespace["build_model"]()
    built.load_weights(tmp_path / "saved" / "model.weights.h5")
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    expected, found = (keras.ops.convert_to_numpy(model(image)) for model in (conversion.model, built))
    assert np.array_equal(expected, found)


class Bound(nn.Module):
    """A layer with a parameter of its own, which no layer of torch holds."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.dense = nn.Parameter(torch.randn(5, 4)), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.dense(x) @ self.table.t()) @ self.table


def test_a_bare_parameter_is_made_in_the_function_of_its_layer() -> None:
    source = converted(nn.Sequential(*(Bound() for _ in range(5))), torch.randn(2, 3, 4)).source
    functions = {node.name: ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert "EinsumDense(" in functions["bound"]
    assert "EinsumDense(" not in functions["build_model"]
    assert functions["bound"].startswith("def bound(input_, ones, name):")
    assert "ones = ops.reshape(ops.ones_like(" in functions["build_model"]


def test_statements_that_only_give_another_form_are_one() -> None:
    class Forms(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tiled = (x + 1).mean(2, keepdim=True).expand_as(x)
            part = (x / tiled)[:, 1:][:, :, :2]
            return part.reshape(-1, 6).reshape(-1, 2, 3).exp()

    source = converted(Forms(), torch.randn(3, 4, 3)).source
    assert "ops.tile(" not in source
    assert "[:, 1:, :2]" in source
    assert source.count("ops.reshape(") == 1


def test_two_slices_of_one_axis_stay_two() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + 1)[:, 1:][:, :2].exp()

    converted(Twice(), torch.randn(3, 4, 3))  # compares both models in float64


class Rotated(nn.Module):
    """Rotate two tensors by the same angles, as rotary positions do."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(5.0)[:, None] / 10 ** torch.arange(4.0)
        cosines, sines = angles.cos(), angles.sin()
        query, key = (one * cosines + one.flip(-1) * sines for one in (self.query(tokens), self.key(tokens)))
        return query @ key.transpose(1, 2)


def test_a_long_constant_is_defined_once_at_the_top() -> None:
    source = converted(Rotated(), torch.randn(2, 5, 4)).source
    tables = [line for line in source.splitlines() if line.endswith("= np.array(")]
    assert tables == ["COS = np.array(", "SIN = np.array("]
    assert source.count("np.array(") == 2
    assert source.count(" * COS") == source.count(" * SIN") == 2


class Named(nn.Module):
    """A normalization with torch's own epsilon, and results with names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(4), nn.BatchNorm1d(4, momentum=0.03)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"plain": self.first(x), "other": self.second(x)}


def test_a_constant_of_equal_elements_is_written_by_its_shape() -> None:
    def shifted(x: torch.Tensor) -> torch.Tensor:
        signs = torch.tensor([0.0, -0.0, 0.0, 0.0, 0.0, 0.0])
        return torch.cat([x + torch.ones(40), torch.full((2, 6), -2.5), torch.zeros(2, 6), signs.expand(2, 6)], 1)

    built = converted(Function(shifted), torch.randn(2, 40))
    assert "np.zeros((2, 6), " in built.source
    assert "np.full((2, 6), -2.5, " in built.source
    assert "[0.0, -0.0, 0.0" in built.source
    assert not built.constants


def test_each_result_has_the_expression_that_selects_it() -> None:
    source = converted(Named(), torch.rand(3, 4)).source
    assert 'returns["plain"]: (batch, 4), float32' in source
    assert 'returns["other"]: (batch, 4), float32' in source


def test_a_number_has_all_its_digits_unless_a_difference_was_rounded() -> None:
    source = converted(Named(), torch.rand(3, 4)).source
    assert f"epsilon={torch.finfo(torch.float32).eps}" in source
    assert "momentum=0.97" in source
