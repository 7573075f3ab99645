"""Arguments of the public functions are resolved to adapters of live models and files."""

from pathlib import Path

import keras
import pytest
from torch import nn

from keras3conv import formats
from keras3conv.errors import FileError, InputError
from keras3conv.frameworks.adapter import KerasFile
from keras3conv.frameworks.keras.adapter import KerasModel
from keras3conv.frameworks.sides import Sides, resolve


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def test_live_models_and_paths_have_a_side() -> None:
    arguments = (nn.Linear(3, 2), dense(), "model.pt", Path("model.safetensors"), "model.keras", "model.weights.h5")
    resolved = [resolve(argument) for argument in arguments]
    assert [adapter.side for adapter in resolved] == ["torch", "keras", "torch", "torch", "keras", "keras"]
    assert [adapter.is_live for adapter in resolved] == [True, True, False, False, False, False]


def test_a_keras_layer_on_the_torch_backend_is_a_keras_model() -> None:
    layer = keras.layers.Dense(2)
    assert isinstance(layer, nn.Module)
    assert resolve(layer).side == "keras"


def test_anything_else_is_refused_with_the_name_of_the_argument() -> None:
    with pytest.raises(
        InputError, match=r"^source must be a torch module, a Keras model, or the path of a file, but is an int"
    ):
        resolve(3, "source")
    with pytest.raises(FileError):
        resolve("model.xyz")


def test_sides_need_a_torch_side_and_a_keras_side_in_this_order() -> None:
    assert [side.side for side in (Sides.of("a.pt", "b.keras").torch, Sides.of("a.pt", "b.keras").keras)] == [
        "torch",
        "keras",
    ]
    with pytest.raises(InputError, match="in the wrong order"):
        Sides.of(dense(), nn.Linear(3, 2))
    with pytest.raises(InputError, match="both arguments are torch models"):
        Sides.of(nn.Linear(3, 2), "model.pt")


def test_a_keras_file_is_loaded_only_with_an_architecture(tmp_path: Path) -> None:
    model = dense()
    for name in ("model.keras", "model.weights.h5"):
        formats.write_all([KerasModel(model).output(tmp_path / name)])
    assert KerasFile(tmp_path / "model.keras").loaded().is_live
    assert not KerasFile(tmp_path / "model.weights.h5").loaded().is_live
