"""`transfer(..., memory=...)`: the memory order of kernels, and models that share memory."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError
from keras3conv.frameworks.shared.backup import Backup
from keras3conv.frameworks.torch.tensors import overwrite
from keras3conv.transforms import Array
from tests.support.models import randomize


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.depthwise(self.conv(x))).mean((2, 3)))


def twin(data_format: str = "channels_last") -> keras.Model:
    axis = 1 if data_format == "channels_first" else -1
    return keras.Sequential(
        [
            keras.Input((3, 9, 10) if axis == 1 else (9, 10, 3)),
            keras.layers.Conv2D(8, 3, data_format=data_format, name="conv"),
            keras.layers.DepthwiseConv2D(3, data_format=data_format, name="depthwise"),
            keras.layers.BatchNormalization(axis=axis, epsilon=1e-5, name="norm"),
            keras.layers.GlobalAveragePooling2D(data_format=data_format, name="mean"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 9, 10)).astype(np.float32))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_kernels_get_the_memory_order_of_the_convolution_and_keep_it_in_a_file(
    data_format: str, tmp_path: Path
) -> None:
    module, model = randomize(Net()), twin(data_format)
    parameters = [id(variable.value) for variable in model.variables]
    plan = k3c.align(module, model, inputs=image())
    k3c.transfer(module, model, plan)
    kernel = model.get_layer("conv").kernel.value
    convolved = kernel.permute(3, 2, 0, 1)
    order = torch.channels_last if data_format == "channels_last" else torch.contiguous_format
    assert convolved.is_contiguous(memory_format=order)
    assert torch.equal(convolved, module.conv.weight)
    assert model.get_layer("depthwise").kernel.value.permute(2, 3, 0, 1).is_contiguous()
    assert [id(variable.value) for variable in model.variables] == parameters
    model.save_weights(tmp_path / "model.weights.h5")
    other = Net()
    k3c.transfer(tmp_path / "model.weights.h5", other, plan)
    assert torch.equal(other.conv.weight, module.conv.weight)
    model.load_weights(tmp_path / "model.weights.h5")
    assert model.get_layer("conv").kernel.value.stride() == kernel.stride()
    k3c.validate(module, model, inputs=image(), alignment=plan).raise_if_failed()


def test_models_that_share_memory_change_together_and_agree() -> None:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model, inputs=image())
    report = k3c.transfer(module, model, plan, memory="share")
    assert report.sections[0].facts["shared memory"].startswith("10 of 10 tensors")
    with torch.no_grad():
        module.conv.weight[1, 2, 0, 1] = 7.0
        model.get_layer("head").bias.value[1] = 5.0
    assert (model.get_layer("conv").kernel.value[0, 1, 2, 1]).item() == 7.0
    assert (module.head.bias[1]).item() == 5.0
    k3c.validate(module, model, inputs=image(), alignment=plan).raise_if_failed()


def test_a_module_can_share_the_memory_of_a_keras_model_and_stop_sharing() -> None:
    module, model = Net(), twin()
    plan = k3c.align(module, model, inputs=image())
    k3c.transfer(model, module, plan, memory="share")
    assert module.conv.weight.data_ptr() == model.get_layer("conv").kernel.value.data_ptr()
    k3c.transfer(model, module, plan)
    assert module.conv.weight.data_ptr() != model.get_layer("conv").kernel.value.data_ptr()
    before = model.get_layer("head").bias.numpy().copy()
    with torch.no_grad():
        module.head.bias.add_(1.0)
    np.testing.assert_array_equal(model.get_layer("head").bias.numpy(), before)


def test_a_value_computed_from_several_tensors_is_copied_and_reported() -> None:
    module, model = nn.LSTM(3, 4, batch_first=True), keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
    plan = k3c.align(module, model, probe=False)
    report = k3c.transfer(module, model, plan, memory="share")
    copied = report.sections[0].facts["copied"]
    assert "bias" in copied
    assert "recurrent_kernel" not in report.sections[0].facts["shared memory"]
    k3c.validate(module, model, alignment=plan, proofs=["roundtrip"]).raise_if_failed()


def test_an_interrupt_leaves_both_models_with_their_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model, inputs=image())
    before = [(variable.value.data_ptr(), variable.numpy().copy()) for variable in model.variables]
    as_strided, calls = torch.as_strided, iter(range(100))

    def failing(*arguments: Any) -> torch.Tensor:
        if next(calls) == 6:
            raise KeyboardInterrupt
        return as_strided(*arguments)

    monkeypatch.setattr(torch, "as_strided", failing)
    with pytest.raises(KeyboardInterrupt):
        k3c.transfer(module, model, plan, memory="share")
    for variable, (place, value) in zip(model.variables, before, strict=True):
        assert variable.value.data_ptr() == place
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("options", [{"memory": "borrow"}, {"memory": "share", "out": "model.weights.h5"}])
def test_contradictory_options_are_refused(options: dict[str, str]) -> None:
    module, model = Net(), twin()
    plan = k3c.align(module, model, probe=False)
    with pytest.raises(InputError, match="memory"):
        k3c.transfer(module, model, plan, **options)  # type: ignore[arg-type]


def test_memory_cannot_be_shared_with_a_file(tmp_path: Path) -> None:
    module, model = Net(), twin()
    plan = k3c.align(module, model, probe=False)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="two live models"):
        k3c.transfer(tmp_path / "weights.pt", model, plan, memory="share")


def test_old_values_beyond_the_limit_come_back_from_the_temporary_file() -> None:
    values: dict[str, Array] = {
        "in memory": np.arange(4.0, dtype=np.float32).reshape(2, 2).T,
        "in the file": np.arange(12, dtype=np.int16).reshape(3, 4).T,
        "a scalar": np.float64(3.0) * np.ones(()),
        "no elements": np.ones((0, 2)),
    }
    backup = Backup(limit=16)
    for path, value in values.items():
        backup.keep(path, value)
        backup.keep(path, np.zeros_like(value))
    kept = dict(backup.items())
    for path, value in values.items():
        np.testing.assert_array_equal(kept[path], value)
        assert kept[path].dtype == value.dtype
    backup.close()


def test_a_numpy_scalar_is_written_into_a_variable() -> None:
    variable = keras.Variable(np.array(3, np.int32), trainable=False)
    overwrite(variable.value, np.int32(3) + np.int32(4))  # type: ignore[arg-type]
    assert variable.numpy() == 7
