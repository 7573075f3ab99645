"""Two models in one flat checkpoint: the plan names those that fit, and `entry` takes one."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers
from safetensors.torch import save_file
from torch import nn

import keras3conv as k3c
from keras3conv.errors import FileError
from tests.support.models import randomize


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
        self.other = nn.Linear(9, 9)


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="relu"), layers.Dense(3)])


@pytest.mark.parametrize("name", ["both.pt", "nested.pt", "both.safetensors"])
def test_one_of_two_models_in_a_file_is_found_by_its_prefix(name: str, tmp_path: Path) -> None:
    both, model = randomize(Both()), dense()
    path = tmp_path / name
    if name == "both.safetensors":
        save_file(both.state_dict(), path)
    else:
        torch.save({"state_dict": both.state_dict(), "epoch": 1} if name == "nested.pt" else both.state_dict(), path)
    plan = k3c.align(path, model)
    assert plan.problems()
    assert [note for note in plan.notes if "alone fit" in note] == [
        f'the tensors under "{one}." alone fit the Keras model: entry="{one}" takes them'
        for one in ("student", "teacher")
    ]
    k3c.transfer(path, model, k3c.align(path, model, entry="teacher").check(), entry="teacher")
    x = np.ones((2, 6), np.float32)
    made = keras.ops.convert_to_numpy(model(x))
    assert np.abs(made - both.teacher(torch.tensor(x)).detach().numpy()).max() < 1e-5
    with pytest.raises(FileError, match=r"begin with: .*teacher"):
        k3c.align(path, model, entry="nobody")
