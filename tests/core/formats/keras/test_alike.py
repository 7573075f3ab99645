"""The layers of a simple `.weights.h5` are listed by their forms, which are those of the layers themselves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.cli.output import model_text
from keras3conv.errors import FileError
from keras3conv.model.listing import ManyLayers, forms_of
from keras3conv.model.views import LayerView, ModelView, TensorRef

Build = Callable[[h5py.File], object]


def layer(file: h5py.File, group: str, *shapes: tuple[int, ...], name: str = "", dtype: str = "f4") -> None:
    values = file.create_group(f"layers/{group}/vars")
    if name:
        values.attrs["name"] = name
    for number, shape in enumerate(shapes):
        values[str(number)] = np.zeros(shape, dtype)
        if dtype == "V2":
            values[str(number)].attrs["dtype"] = "bfloat16"


def several(file: h5py.File) -> None:
    for place in (10, 2, 1, 0):
        layer(file, f"dense_{place}" if place else "dense", (4, 3), (3,), name=f"fc{place}")
    layer(file, "dense_3", (4, 3), name="without bias")
    layer(file, "dense_4", (3,), (4, 3), name="swapped")
    layer(file, "dense1", (4, 3), (3,), name="no name of Keras")
    layer(file, "dense_", (4, 3), (3,), name="nor this")
    layer(file, "conv2d_transpose_7", (3, 3, 2, 2), name="up")
    layer(file, "batch_normalization", (3,), (3,), (3,), (3,), name="bn")
    layer(file, "batch_normalization_1", (3,), (3,), name="moments")
    layer(file, "dropout", name="dropout")
    layer(file, "mine", *[(place,) for place in range(10)], name="mine")
    layer(file, "dense_5", (4, 3), dtype="f8", name="double")
    layer(file, "dense_6", (4, 3), dtype="V2", name="half")
    layer(file, "dense_7", (0, 3), name="empty")


def without_names(file: h5py.File) -> None:
    for place in range(12):
        layer(file, f"dense_{place}", (4, 3), (3,), name="named" if place == 3 else "")
    file.create_group("vars")


def many(file: h5py.File) -> None:
    for place in range(300):
        layer(file, f"dense_{place}", (4, place % 3), name=f"block{place // 3}_{place % 3}")


SIMPLE: dict[str, Build] = {"several classes": several, "layers without names": without_names, "many layers": many}


def nested(file: h5py.File) -> None:
    layer(file, "gru/cell", (4, 3), (3, 3), name="gru_cell")


def tied(file: h5py.File) -> None:
    layer(file, "dense", (4, 3), name="a")
    file.create_group("layers/dense_1/vars")["0"] = file["layers/dense/vars/0"]


def equal_names(file: h5py.File) -> None:
    layer(file, "dense", (4, 3), name="fc")
    layer(file, "dense_1", (4, 3), name="fc")


def of_the_model(file: h5py.File) -> None:
    layer(file, "dense", (4, 3))
    file["vars/0"] = np.zeros(1)


OTHER: dict[str, Build] = {
    "a layer inside a layer": nested,
    "tied weights": tied,
    "a name with a slash": lambda file: layer(file, "dense", (4, 3), name="block/fc"),
    "two equal names": equal_names,
    "eleven variables": lambda file: layer(file, "mine", *[(2,)] * 11, name="mine"),
    "no list of layers": lambda file: layer(file, "../encoder", (4, 3), name="encoder"),
    "variables of the model": of_the_model,
}


def read(folder: Path, build: Build) -> ModelView:
    with h5py.File(folder / "x.weights.h5", "w") as file:
        build(file)
    return formats.read(folder / "x.weights.h5")


def described(one: LayerView) -> object:
    return one.kinds, [(tensor.role, tensor.shape, tensor.dtype, tensor.trainable) for tensor in one.tensors]


@pytest.mark.parametrize("name", SIMPLE)
def test_every_layer_has_its_form(tmp_path: Path, name: str) -> None:
    layers = read(tmp_path, SIMPLE[name]).layers
    assert isinstance(layers, ManyLayers)
    known, found = layers.known, forms_of(tuple(layers))
    assert known.paths == found.paths
    assert len(set(known.forms)) == len(known.examples) == len(found.examples)
    assert [described(known.examples[form]) for form in known.forms] == list(map(described, layers))
    assert not known.has_ties


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("every", [False, True])
def test_the_listing_is_that_of_the_layers(tmp_path: Path, name: str, every: bool) -> None:
    view = read(tmp_path, SIMPLE[name])
    text = model_text(view, every=every)
    assert isinstance(view.layers, ManyLayers)
    assert view.layers._made is None, "a listing makes no layers"
    assert text == model_text(replace(view, layers=tuple(view.layers)), every=every)


@pytest.mark.parametrize("name", OTHER)
def test_other_files_are_read_layer_by_layer(tmp_path: Path, name: str) -> None:
    layers = read(tmp_path, OTHER[name]).layers
    assert isinstance(layers, tuple)
    assert sum(len(one.tensors) for one in layers) > 0


@pytest.mark.parametrize("names", [("1",), ("0", "2"), ("0", "01")])
def test_variables_without_the_usual_numbers_are_refused_when_the_file_is_read(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    def build(file: h5py.File) -> None:
        layer(file, "dense", (4, 3))
        for name in names:
            file[f"layers/dense_1/vars/{name}"] = np.zeros(3)

    with pytest.raises(FileError, match="must be numbered"):
        read(tmp_path, build)


def test_layers_that_are_made_later_compare_as_a_tuple(tmp_path: Path) -> None:
    layers = read(tmp_path, several).layers
    made = tuple(layers)
    assert (layers, layers[0], layers[1:3], len(layers)) == (made, made[0], made[1:3], 16)
    assert layers != tuple(layers)[1:]
    assert repr(layers) == repr(tuple(layers))


def test_values_are_read_without_a_listing(tmp_path: Path) -> None:
    view = read(tmp_path, many)
    assert view.read("block7_1/kernel").shape == (4, 1)
    with pytest.raises(FileError, match="no tensor"):
        view.read("block7_1/bias")


def test_tied_tensors_are_counted_once() -> None:
    layers = tuple(
        LayerView(path=path, tensors=(TensorRef(path=f"{path}/w", role="w", shape=(5,), storage=storage),))
        for path, storage in (("a", ""), ("b", "one"), ("c", "one"), ("d", "two"))
    )
    text = model_text(ModelView(side="keras", name="x", layers=layers), every=False)
    assert "4 layers with tensors, 3 tensors, 15 numbers" in text
