import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from keras3conv import formats
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.transforms import Array

Values = dict[str, Array]


@pytest.fixture(autouse=True)
def _fresh_names() -> None:
    keras.utils.clear_session(free_memory=False)  # collecting garbage takes longer than the tests


def functional() -> keras.Model:
    inner_input = keras.Input((8,))
    inner = keras.Model(inner_input, layers.Dense(4, name="d1")(layers.Dense(5)(inner_input)), name="inner")
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem")(inputs)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Dropout(0.2)(x)
    x = layers.PReLU()(x)
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    shared = layers.Dense(8, name="twice")
    x = shared(shared(layers.Dense(8)(layers.Flatten()(x))))
    return keras.Model(inputs, inner(x), name="top")


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 5)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(4, return_sequences=True, dropout=0.1),
            layers.TimeDistributed(layers.Dense(3)),
            keras.Sequential([layers.LayerNormalization(), layers.Dense(4)], name="mlp"),
            layers.SimpleRNN(2),
        ],
        name="net",
    )


class Block(layers.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self._private = layers.Dense(5)

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(5,), name="scale")
        self.offset = self.add_weight(shape=(5,), name="offset", trainable=False)
        self.attention.build(shape, shape)
        for layer in (*self.norms, self._private):
            layer.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return self._private(self.norms[1](self.norms[0](self.attention(x, x) * self.scale + self.offset)))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="mine")
        self.stem = layers.Dense(5)
        self.blocks = [Block(), Block(name="second")]
        self.drop = layers.Dropout(0.1)

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(6, 5), name="table")
        for layer in (self.stem, *self.blocks):
            layer.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        x = self.stem(x) + self.table
        for block in self.blocks:
            x = block(x)
        return self.drop(x)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 6, 5), np.float32))
    return model


def walk(layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the variables that each layer owns directly, by layer path."""
    for variable in layer._trainable_variables + layer._non_trainable_variables:
        yield f"{prefix}{variable.name}", variable
    for child in layer._layers:
        yield from walk(child, f"{prefix}{child.name}/")


def fill(model: keras.Model, seed: int) -> Values:
    random = np.random.default_rng(seed)
    variables = dict(walk(model))
    assert {id(variable) for variable in variables.values()} == {id(variable) for variable in model.weights}
    for variable in variables.values():
        variable.assign(random.normal(size=variable.shape).astype(variable.dtype))
    return values(model)


def values(model: keras.Model) -> Values:
    return {path: keras.ops.convert_to_numpy(variable) for path, variable in walk(model)}


def same(left: Values, right: Values) -> None:
    assert set(left) == set(right)
    for path, array in left.items():
        assert (array.dtype, array.shape, array.tobytes()) == (
            right[path].dtype,
            right[path].shape,
            right[path].tobytes(),
        )


def read(path: Path) -> Values:
    view = formats.read(path)
    return {tensor.path: view.read(tensor.path) for tensor in view.tensors()}


def padded() -> keras.Model:
    """Return a model with an infinity in its architecture, and with an EinsumDense with and without a bias."""
    given = keras.Input((6, 6, 3))
    x = keras.ops.pad(given, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-float("inf"))
    x = layers.Flatten()(layers.MaxPooling2D(3, 2)(x))
    x = layers.EinsumDense("ab,bc->ac", (5,), name="plain")(x)
    return keras.Model(given, layers.EinsumDense("ab,bc->ac", (4,), bias_axes="c", name="biased")(x), name="padded")


MODELS = [functional, sequential, subclassed, padded]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("make", MODELS)
def test_a_model_that_keras_saved_has_the_paths_and_values_of_the_live_one(
    tmp_path: Path, make: Callable[[], keras.Model], suffix: str
) -> None:
    model = make()
    expected = fill(model, 1)
    model.save(tmp_path / f"x{suffix}")
    found = read(tmp_path / f"x{suffix}")
    if make is subclassed and suffix == ".keras":  # the archive knows no names of variables that a class made up
        named = {path for path in expected if path.rpartition("/")[2] not in {"scale", "offset", "table"}}
        assert named < set(found)
        expected = {path: expected[path] for path in named}
        found = {path: found[path] for path in named}
    same(found, expected)


@pytest.mark.parametrize("make", MODELS)
def test_weights_that_keras_saved_have_the_values_of_the_live_model(
    tmp_path: Path, make: Callable[[], keras.Model]
) -> None:
    model = make()
    expected = fill(model, 2)
    model.save_weights(tmp_path / "x.weights.h5")
    found = read(tmp_path / "x.weights.h5")
    assert {array.tobytes() for array in found.values()} == {array.tobytes() for array in expected.values()}
    unnamed = {path for path in expected if path not in found}
    assert all(path.rpartition("/")[2] in {"scale", "offset", "table", "beta"} | MOVING for path in unnamed)
    same({path: found[path] for path in expected if path in found}, {p: v for p, v in expected.items() if p in found})


MOVING = {"moving_mean", "moving_variance"}


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("make", MODELS)
def test_keras_loads_written_files_bit_for_bit(tmp_path: Path, make: Callable[[], keras.Model], suffix: str) -> None:
    model, path = make(), tmp_path / f"new{suffix}"
    expected = fill(model, 3)
    model.save_weights(tmp_path / "old.weights.h5")
    template = None
    if suffix == ".keras":
        template = tmp_path / "old.keras"
        model.save(template)
    inventory = list(locate(model, formats.read(template or tmp_path / "old.weights.h5")))
    formats.write(path, inventory, expected.__getitem__, template=template)
    fill(model, 4)
    if suffix == ".keras":
        if make is subclassed:
            pytest.skip("a subclassed model is not made from its file")
        model = keras.models.load_model(path)
    else:
        model.load_weights(path)
    same(values(model), expected)


def locate(model: keras.Model, view: ModelView) -> Iterator[TensorRef]:
    """Return the tensors of a live model, with the locations in its saved file."""
    places = {view.read(tensor.path).tobytes(): tensor.location for tensor in view.tensors()}
    for path, variable in walk(model):
        array = keras.ops.convert_to_numpy(variable)
        yield TensorRef(
            path=path,
            role=variable.name,
            shape=array.shape,
            dtype=array.dtype.name,
            trainable=variable.trainable,
            location=places[array.tobytes()],
        )


@pytest.mark.parametrize("make", [functional, sequential])
def test_an_archive_gives_classes_and_call_order(tmp_path: Path, make: Callable[[], keras.Model]) -> None:
    model = make()
    model.save(tmp_path / "x.keras")
    view = formats.read(tmp_path / "x.keras")
    by_path = {layer.path: layer for layer in view.layers}
    for layer in model.layers:
        kind = type(layer).__name__
        assert by_path[layer.name].kinds == (f"keras.layers.{kind}" if hasattr(layers, kind) else f"keras.{kind}",)
        assert by_path[layer.name].run.calls
    assert view.input_specs[0].shape == model.input_shape
    if make is functional:
        assert len(by_path["twice"].run.calls or ()) == 2
        assert by_path["stem"].run.inputs == ((None, 8, 8, 3),)
    else:
        assert by_path["bidirectional/forward_lstm/lstm_cell"].kinds == ("keras.layers.LSTMCell",)
        assert by_path["time_distributed/dense"].kind == "keras.layers.Dense"


def test_bfloat16_weights_go_to_keras_and_back(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="bfloat16", name="d")])
    model.save_weights(tmp_path / "theirs.weights.h5")
    view = formats.read(tmp_path / "theirs.weights.h5")
    assert {tensor.dtype for tensor in view.tensors()} == {"bfloat16"}
    kernel = view.read("d/kernel")
    formats.write(tmp_path / "ours.weights.h5", list(view.tensors()), view.read)
    model.layers[0].kernel.assign(np.zeros((3, 2)))
    model.load_weights(tmp_path / "ours.weights.h5")
    assert keras.ops.convert_to_numpy(model.layers[0].kernel).tobytes() == kernel.tobytes()


def test_the_state_of_an_optimizer_is_ignored(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "old.keras")
    view = formats.read(tmp_path / "old.keras")
    assert [tensor.path for tensor in view.tensors()] == ["d/kernel", "d/bias"]
    assert view.facts["ignored"] == "the state of the optimizer"
    formats.write(tmp_path / "new.keras", list(view.tensors()), view.read, template=tmp_path / "old.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    for ours, theirs in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs))


def test_the_resnet_of_mlperf_tiny_is_loaded_into_keras_3(tmp_path: Path, shared: Path) -> None:
    view = formats.read(shared / "mlperf_tiny_resnet8.h5")
    model = keras.models.load_model(shared / "mlperf_tiny_resnet8.h5", compile=False)
    assert os.environ["KERAS_BACKEND"] == "torch"
    expected = values(model)
    same({tensor.path: view.read(tensor.path) for tensor in view.tensors()}, expected)
    formats.write(tmp_path / "x.h5", list(view.tensors()), view.read)
    fill(model, 5)
    model.load_weights(tmp_path / "x.h5")
    same(values(model), expected)


def test_weights_that_keras_saved_in_shards_are_one_model(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(64, name="a"), keras.layers.BatchNormalization(), keras.layers.Dense(40)]
    )
    model.save_weights(tmp_path / "model.weights.json", max_shard_size=1.1e-5)
    view = formats.read(tmp_path)
    assert len(list(tmp_path.glob("*.h5"))) > 1
    found = {tensor.path: view.read(tensor.path) for tensor in view.tensors()}
    expected = {
        f"{layer.name}/{variable.name}": variable.numpy() for layer in model.layers for variable in layer.weights
    }
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value)
