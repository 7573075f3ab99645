"""A live transfer on every backend: the target gets its own copy of the values, and writes are all or nothing."""

import sys
from collections.abc import Iterable
from typing import Any, cast

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.staging import stage
from keras3conv.errors import InputError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras import values as keras_memory
from keras3conv.frameworks.keras import writing
from keras3conv.frameworks.keras.tree import variables_by_path
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.frameworks.shared import backup
from keras3conv.frameworks.shared.backup import anonymous_memory
from keras3conv.frameworks.sides import view


def models() -> tuple[nn.Module, keras.Model]:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(4 * 4 * 5, 2))
    layers = [
        keras.layers.Conv2D(4, 3),
        keras.layers.DepthwiseConv2D(3),
        keras.layers.Permute((3, 1, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ]
    return module, keras.Sequential([keras.Input((8, 9, 3)), *layers])


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras_side.to_numpy(variable)) for variable in model.variables]


def test_a_change_of_the_source_after_a_transfer_does_not_change_the_target() -> None:
    module, model = models()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    before = values(model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("width", [4, 512])
def test_values_that_need_no_transposition_are_copied_at_every_size(width: int) -> None:
    table = nn.Embedding(300, width)
    module = nn.Sequential(table)
    model = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(300, width)])
    k3c.transfer(module, model, k3c.align(module, model, probe=False))
    before = values(model)
    np.testing.assert_array_equal(before[0], table.weight.detach().numpy())
    with torch.no_grad():
        table.weight.add_(1.0)
    np.testing.assert_array_equal(values(model)[0], before[0])


@pytest.mark.parametrize("limit", [0, backup.LIMIT])
def test_a_failure_while_values_are_written_is_undone_from_memory_and_from_the_file(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    module, model = models()
    plan, before = k3c.align(module, model), values(model)

    def failing(given: Iterable[Any], finite: set[int]) -> None:
        for number, one in enumerate(given):
            if number == 4:
                raise MemoryError
            keras_memory.assign(*one)

    monkeypatch.setattr(writing, "assign_all", failing)
    monkeypatch.setattr(writing, "Backup", lambda: backup.Backup(limit))
    with pytest.raises(MemoryError):
        k3c.transfer(module, model, plan)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_small_and_large_values_are_written_and_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model = models()
    plan = k3c.align(module, model)
    monkeypatch.setattr(keras_memory, "_TOGETHER", 100)
    monkeypatch.setattr(keras_memory, "_LARGE", 100)
    k3c.transfer(module, model, plan)
    expected = dict(stage(plan, view(module), view(model)).values())
    for path, variable in variables_by_path(model).items():
        np.testing.assert_array_equal(to_numpy(variable), expected[path])


@pytest.mark.parametrize("width", [8, 600])
def test_values_that_are_not_finite_are_found_while_they_are_copied(width: int) -> None:
    layers = [nn.Linear(width, width) for _ in range(3)]
    module = nn.Sequential(*layers)
    model = keras.Sequential([keras.Input((width,)), *(keras.layers.Dense(width) for _ in range(3))])
    with torch.no_grad():
        layers[0].weight[-1, -1] = torch.nan
        layers[1].bias[0] = torch.inf
        layers[2].weight[2, 3] = 1e30  # finite, but its square is not
    report = k3c.transfer(module, model, k3c.align(module, model, probe=False))
    assert "2 values NaN or infinite, moved as they are: 0.weight (1), 1.bias (1)" in report.notes
    assert np.isnan(to_numpy(model.layers[0].kernel)[-1, -1])


@pytest.mark.parametrize("channels", [8, 160])
def test_the_kernel_of_a_convolution_is_copied_and_searched(channels: int) -> None:
    module = nn.Sequential(nn.Conv2d(channels, channels, 3))
    kernel = cast("nn.Conv2d", module[0]).weight
    with torch.no_grad():
        kernel[-1, -1, -1, -1] = torch.nan
    model = keras.Sequential([keras.Input((8, 8, channels)), keras.layers.Conv2D(channels, 3)])
    report = k3c.transfer(module, model, k3c.align(module, model, probe=False))
    expected = kernel.detach().permute(2, 3, 1, 0).numpy().copy()
    with torch.no_grad():
        kernel.zero_()
    np.testing.assert_array_equal(values(model)[0], expected)
    assert "1 value NaN or infinite, moved as they are: 0.weight (1)" in report.notes


@pytest.mark.parametrize("place", range(4))
def test_an_interrupt_between_any_two_values_restores_all(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    module, model = models()
    plan, before = k3c.align(module, model), values(model)
    monkeypatch.setattr(keras_memory, "_TOGETHER", 100)  # some values are assigned at once, others wait
    name = "keep" if keras.backend.backend() == "torch" else "refer"
    keep, calls = getattr(backup.Backup, name), iter(range(100))

    def interrupted(self: backup.Backup, *arguments: Any, **keywords: Any) -> None:
        if next(calls) == place:
            raise KeyboardInterrupt
        keep(self, *arguments, **keywords)

    monkeypatch.setattr(backup.Backup, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        k3c.transfer(module, model, plan)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.skipif(sys.platform != "linux", reason="the size of the process is read from /proc")
def test_the_old_values_of_a_large_model_do_not_stay_in_memory() -> None:
    module = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(24)))
    model = keras.Sequential([keras.Input((1024,)), *(keras.layers.Dense(1024) for _ in range(24))])
    plan = k3c.align(module, model, probe=False)
    before = anonymous_memory()
    k3c.transfer(module, model, plan)
    matrix, model_size = 4 << 20, 96 << 20
    assert anonymous_memory() - before < 2 * matrix + (64 << 20) < model_size


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="on the torch backend models can share memory")
def test_memory_is_not_shared_with_another_backend() -> None:
    module, model = models()
    plan = k3c.align(module, model)
    with pytest.raises(InputError, match=r'needs Keras on the torch backend(.|\n)*Fix:.*memory="copy"'):
        k3c.transfer(module, model, plan, memory="share")
