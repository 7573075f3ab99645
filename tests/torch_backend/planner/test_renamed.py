"""Files of TensorFlow's classes in transformers: equal paths and shapes pair, whatever a variable is called."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import keras3conv as k3c
from keras3conv.errors import AlignmentError


class Net(nn.Module):
    """A table, a square layer of GPT-2 and a layer that is not square."""

    def __init__(self, square: nn.Module) -> None:
        super().__init__()
        self.words, self.square, self.head = nn.Embedding(7, 4), square, nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.square(self.words(tokens)))
        return made


def saved(path: Path) -> dict[str, np.ndarray]:
    """Write a file of weights as TensorFlow does, and return its arrays."""
    random = np.random.default_rng(0)
    shapes = {"words/weight": (7, 4), "square/weight": (4, 4), "square/bias": (1, 4)}
    shapes |= {"head/weight": (4, 3), "head/bias": (1, 3)}
    arrays = {f"model/{name}": random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["model"]
        group = file.create_group("model")
        group.attrs["weight_names"] = [f"{name}:0" for name in arrays]
        for name, array in arrays.items():
            group.create_dataset(f"{name}:0", data=array)
    return arrays


def test_variables_called_weight_are_paired_by_path_and_shape(tmp_path: Path) -> None:
    arrays = saved(tmp_path / "tf_model.h5")
    module = Net(Conv1D(4, 4)).eval()
    k3c.transfer(tmp_path / "tf_model.h5", module, k3c.align(module, tmp_path / "tf_model.h5"))
    tokens = np.array([[1, 6, 0]])
    expected = arrays["model/words/weight"][tokens] @ arrays["model/square/weight"] + arrays["model/square/bias"]
    expected = expected @ arrays["model/head/weight"] + arrays["model/head/bias"]
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(tokens)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_is_paired_by_hand_whatever_its_variables_are_called(tmp_path: Path) -> None:
    arrays = saved(tmp_path / "tf_model.h5")
    module = Net(Conv1D(4, 4)).eval()
    plan = k3c.align(module, tmp_path / "tf_model.h5").unpair("words.weight").pair("words", "model/words")
    k3c.transfer(tmp_path / "tf_model.h5", module, plan)
    assert np.array_equal(module.words.weight.detach().numpy(), arrays["model/words/weight"])


def test_variables_of_one_shape_are_not_guessed(tmp_path: Path) -> None:
    saved(tmp_path / "tf_model.h5")
    with h5py.File(tmp_path / "tf_model.h5", "r+") as file:
        names = [*file["model"].attrs["weight_names"], "model/words/other:0"]
        file["model"].attrs["weight_names"] = names
        file["model"].create_dataset("model/words/other:0", data=np.zeros((7, 4), "float32"))
    plan = k3c.align(Net(Conv1D(4, 4)), tmp_path / "tf_model.h5")
    with pytest.raises(AlignmentError, match="words"):
        plan.check()
