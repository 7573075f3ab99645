"""The file of factories that the tests of the command line write, and files with classes that Keras does not know."""

import runpy
from pathlib import Path

import keras


def save_and_forget(code: Path, path: Path) -> None:
    """Call the function `save` of a file of code with a path; Keras knows no class of the code afterwards."""
    known = {**keras.saving.get_custom_objects()}
    runpy.run_path(str(code), run_name=code.stem)["save"](str(path))
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(known)


MODELS = """
import keras
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.out = nn.Linear(7, 3)
        self.hidden = nn.Linear(5, 7)
        self.slope = slope

    def forward(self, x):
        return self.out(nn.functional.leaky_relu(self.hidden(x), self.slope))


def make():
    print("a note of the factory")
    return Net()


def wrong():
    return Net(slope=0.01)


def wide():
    net = Net()
    net.extra = nn.Linear(2, 2)
    return net


def make_keras():
    image = keras.Input((5,))
    hidden = keras.layers.Dense(7, activation="relu", name="first")(image)
    return keras.Model(image, keras.layers.Dense(3, name="second")(hidden), name="net")


def other_keras():
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])


def raises():
    size = 3
    raise ValueError("no such size")


def returns_a_dict():
    return {"weight": 1}


def stops():
    raise SystemExit(0)


def interrupted():
    raise KeyboardInterrupt


NUMBER = 3
module = Net()
"""
