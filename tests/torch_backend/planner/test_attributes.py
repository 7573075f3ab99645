"""Layers without names of their own are paired by the attributes of the user's layer that holds them."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers
from safetensors.torch import save_file

import keras3conv as k3c
from keras3conv.model.views import LayerView
from keras3conv.planner.evidence import names

WIDTH = 8


@keras.saving.register_keras_serializable("test_attributes")
class Block(layers.Layer):
    """An attention block that does not create its layers in the order of the checkpoint."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.v, self.o, self.k, self.q = (layers.Dense(WIDTH) for _ in range(4))
        self.ln_2, self.ln_1 = layers.LayerNormalization(), layers.LayerNormalization()

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        hidden = self.ln_1(x)
        query, key = self.q(hidden), keras.ops.transpose(self.k(hidden), (0, 2, 1))
        weights = keras.ops.softmax(keras.ops.matmul(query, key) / WIDTH**0.5)
        return self.ln_2(x + self.o(keras.ops.matmul(weights, self.v(hidden))))


def network() -> keras.Model:
    given = x = keras.Input((5, WIDTH))
    for number in range(2):
        x = Block(f"h_{number}")(x)
    return keras.Model(given, x)


def checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Write the weights of GPT-2's attention, whose packed kernel has the shape (inputs, outputs)."""
    torch.manual_seed(0)
    found = {}
    for number in range(2):
        shapes = {"attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH), "ln_1": (WIDTH,), "ln_2": (WIDTH,)}
        for name, shape in shapes.items():
            found[f"h.{number}.{name}.weight"] = torch.randn(shape)
            found[f"h.{number}.{name}.bias"] = torch.randn(shape[-1])
    save_file(found, path)
    return found


@pytest.mark.parametrize("form", ["live", "weights"])
def test_a_packed_kernel_of_gpt2_is_divided_among_the_attributes(form: str, tmp_path: Path) -> None:
    model, file = network(), tmp_path / "net.weights.h5"
    model.save_weights(file)
    tensors = checkpoint(tmp_path / "gpt.safetensors")
    target = model if form == "live" else file
    plan = k3c.align(tmp_path / "gpt.safetensors", target).check()
    assert any(pair.unconfirmed for pair in plan.pairs)  # the rows may go head by head: no file shows that
    k3c.transfer(tmp_path / "gpt.safetensors", target, plan, overwrite=True)
    if form == "weights":
        model.load_weights(file)
    for number in range(2):
        block = model.get_layer(f"h_{number}")
        packed = tensors[f"h.{number}.attn.c_attn.weight"].numpy(), tensors[f"h.{number}.attn.c_attn.bias"].numpy()
        for place, layer in enumerate((block.q, block.k, block.v)):
            rows = slice(place * WIDTH, (place + 1) * WIDTH)
            np.testing.assert_array_equal(layer.kernel.numpy(), packed[0][:, rows])
            np.testing.assert_array_equal(layer.bias.numpy(), packed[1][rows])
        for name in ("ln_1", "ln_2"):
            np.testing.assert_array_equal(
                getattr(block, name).gamma.numpy(), tensors[f"h.{number}.{name}.weight"].numpy()
            )


def test_the_transfer_back_gives_the_same_checkpoint(tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path / "gpt.safetensors")
    model = network()
    plan = k3c.align(tmp_path / "gpt.safetensors", model).check()
    k3c.transfer(tmp_path / "gpt.safetensors", model, plan)
    k3c.transfer(model, tmp_path / "back.safetensors", plan)
    back = k3c.view(tmp_path / "back.safetensors")
    assert {path: back.read(path).tolist() for path in tensors} == {
        path: tensor.tolist() for path, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    ("path", "kind", "attribute", "expected"),
    [
        ("block_1/dense_7", "keras.layers.Dense", "query", "block_1/query"),
        ("block_1/my_query", "keras.layers.Dense", "query", "block_1/my_query"),
        ("block_1/my_norm_2", "custom.MyNorm", "norm", "block_1/norm"),
        ("dense", "keras.layers.Dense", "", "dense"),
        ("layer_0/output/dense", "keras.layers.Dense", "layer_0/output/dense", "layer_0/output/dense"),
        ("layer_0/gru/gru_cell", "keras.layers.GRUCell", "gru/cell", "layer_0/gru/cell"),
        ("layer1.0.conv1", "torch.nn.Conv2d", "conv1", "layer1.0.conv1"),
    ],
)
def test_the_attribute_stands_for_an_automatic_name(path: str, kind: str, attribute: str, expected: str) -> None:
    assert names.name_of(LayerView(path=path, kinds=(kind,), attribute=attribute)) == expected


@keras.saving.register_keras_serializable("test_attributes")
class Tables(keras.Model):
    """Two tables of the same shape, created in the other order than in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.wpe = layers.Embedding(6, WIDTH)
        self.wte = layers.Embedding(6, WIDTH)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.wte(x) + self.wpe(x)


def test_the_attributes_of_the_model_itself_are_names(tmp_path: Path) -> None:
    model, file = Tables(), tmp_path / "tables.weights.h5"
    model(np.zeros((1, 3), "int32"))
    model.save_weights(file)
    save_file({"wte.weight": torch.zeros(6, WIDTH), "wpe.weight": torch.ones(6, WIDTH)}, tmp_path / "t.safetensors")
    k3c.transfer(tmp_path / "t.safetensors", file, k3c.align(tmp_path / "t.safetensors", file).check(), overwrite=True)
    model.load_weights(file)
    assert [float(table.get_weights()[0].mean()) for table in (model.wte, model.wpe)] == [0.0, 1.0]
