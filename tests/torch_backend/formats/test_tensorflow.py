"""The variables of a TensorFlow checkpoint go into a torch module, a Keras 3 model and another file, bit for bit."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv import formats
from keras3conv.errors import ModelError
from keras3conv.frameworks.keras.adapter import KerasModel
from keras3conv.frameworks.keras.tree import variables_by_path
from tests.support import tensorflow_files as files

SHAPES = {
    "stem/kernel": (3, 3, 2, 4),
    "stem/bias": (4,),
    "batch_normalization/gamma": (4,),
    "batch_normalization/beta": (4,),
    "batch_normalization/moving_mean": (4,),
    "batch_normalization/moving_variance": (4,),
    "head/kernel": (4, 5),
    "head/bias": (5,),
}
LAYERS = {"stem": "layer_with_weights-0", "batch_normalization": "layer_with_weights-1", "head": "layer_with_weights-2"}


def checkpoint(folder: Path, *, named: bool = True) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    """Write a checkpoint as Keras 2 does, with the states of an optimizer; return its index and the weights."""
    generator = np.random.default_rng(0)
    values = {name: generator.uniform(0.5, 2, shape).astype("float32") for name, shape in SHAPES.items()}
    attributes = {f"{LAYERS[name.partition('/')[0]]}/{name.partition('/')[2]}": name for name in values}
    variables = {path: values[name] for path, name in attributes.items()}
    variables |= {"optimizer/iter": np.array(3, "int64"), "optimizer/learning_rate": np.array(0.1, "float32")}
    names = {path: name if named else "variable" for path, name in attributes.items()}
    return files.checkpoint(folder, variables, names), values


def keras_model(*names: str) -> keras.Model:
    stem, head = names or ("stem", "head")
    layers = [
        keras.layers.Conv2D(4, 3, name=stem),
        keras.layers.BatchNormalization(name="batch_normalization"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5, name=head),
    ]
    return keras.Sequential([keras.Input((8, 8, 2)), *layers])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.stem(images)).mean((2, 3)))


def check_module(state: dict[str, Any], values: dict[str, np.ndarray[Any, Any]]) -> None:
    expected = {
        "stem.weight": values["stem/kernel"].transpose(3, 2, 0, 1),
        "stem.bias": values["stem/bias"],
        "norm.weight": values["batch_normalization/gamma"],
        "norm.bias": values["batch_normalization/beta"],
        "norm.running_mean": values["batch_normalization/moving_mean"],
        "norm.running_var": values["batch_normalization/moving_variance"],
        "head.weight": values["head/kernel"].T,
        "head.bias": values["head/bias"],
    }
    for name, array in expected.items():
        assert np.array_equal(np.asarray(state[name]), array), name


def test_the_variables_go_into_a_torch_module(tmp_path: Path) -> None:
    path, values = checkpoint(tmp_path)
    module = Net().eval()
    plan = k3c.align(module, path, probe=False).check()
    k3c.transfer(path, module, plan, accept_unconfirmed=True)
    check_module(module.state_dict(), values)


def test_the_variables_go_into_a_safetensors_file_without_a_model(tmp_path: Path) -> None:
    path, values = checkpoint(tmp_path)
    plan = k3c.align(Net(), path, probe=False).check()
    k3c.transfer(tmp_path / "x", tmp_path / "net.safetensors", plan, accept_unconfirmed=True)
    view = formats.read(tmp_path / "net.safetensors")
    check_module({tensor.path: view.read(tensor.path) for tensor in view.tensors()}, values)
    assert k3c.verify(tmp_path / "net.safetensors").status == "passed"


@pytest.mark.parametrize("named", [True, False])
def test_the_variables_are_loaded_into_a_model_of_keras_3(tmp_path: Path, named: bool) -> None:
    path, values = checkpoint(tmp_path, named=named)
    model = keras_model()
    KerasModel(model).load_weights(path)
    for path_in_model, variable in variables_by_path(model).items():
        assert np.array_equal(variable.numpy(), values[path_in_model]), path_in_model


def test_a_converted_module_has_the_weights_of_the_checkpoint(tmp_path: Path) -> None:
    path, values = checkpoint(tmp_path)
    module = k3c.convert(keras_model("first", "last"), weights=path, validate=False).model
    kernels = [value for value in module.state_dict().values() if value.ndim == 4]
    assert np.array_equal(kernels[0].numpy(), values["stem/kernel"].transpose(3, 2, 0, 1))


def test_variables_of_another_model_are_not_loaded(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path)
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(5)]
    model = keras.Sequential([keras.Input((9, 9, 2)), *layers])
    before = [np.array(variable.numpy()) for variable in model.variables]
    with pytest.raises(ModelError, match="not the weights of"):
        KerasModel(model).load_weights(path)
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, model.variables, strict=True))


def test_layers_in_no_order_are_not_loaded_by_their_order(tmp_path: Path) -> None:
    variables = {f"{name}/kernel": np.full((3, 3), place, "float32") for place, name in enumerate(("b", "a"))}
    path = files.checkpoint(tmp_path, variables)
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3, use_bias=False, name=name) for name in "cd")])
    with pytest.raises(ModelError, match="no layer order"):
        KerasModel(model).load_weights(path)
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3, use_bias=False, name=name) for name in "ba")])
    KerasModel(model).load_weights(path)
    assert [float(variable.numpy()[0, 0]) for variable in model.variables] == [0, 1]
