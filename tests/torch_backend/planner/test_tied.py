"""One tied torch tensor is two variables in Keras: an embedding that is the last layer's kernel too."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import TransferError

WORDS, WIDTH = 11, 6


class Tied(nn.Module):
    """A word embedding, a layer, and the embedding again as the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.middle = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.middle(self.table(x))))


def untied() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Dense(WIDTH, activation="relu", name="middle")(layers.Embedding(WORDS, WIDTH, name="table")(inputs))
    return keras.Model(inputs, layers.Dense(WORDS, use_bias=False, name="head")(x))


def words() -> torch.Tensor:
    return torch.randint(0, WORDS, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("probe", [True, False])
def test_both_variables_of_a_tied_tensor_are_paired_and_filled(probe: bool) -> None:
    module, model = Tied(), untied()
    plan = k3c.align(module, model, inputs=words(), probe=probe)
    assert {(pair.torch, pair.keras) for pair in plan.pairs} == {(name, name) for name in ("table", "middle", "head")}
    k3c.transfer(module, model, plan)
    table, kernel = (np.asarray(model.get_layer(name).weights[0].numpy()) for name in ("table", "head"))
    assert np.array_equal(table, module.table.weight.detach())
    assert np.array_equal(kernel, table.T)


def test_the_certificate_of_tied_weights_passes_with_the_gradients_of_both_uses() -> None:
    module, model = Tied(), untied()
    plan = k3c.align(module, model, inputs=words())
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=words(), alignment=plan)
    assert report.ok, str(report)
    assert not report.with_status("skipped")


def test_the_transfer_back_refuses_different_values_of_a_tied_tensor() -> None:
    module, model = Tied(), untied()
    plan = k3c.align(module, model, inputs=words())
    before = module.table.weight.detach().clone()
    with pytest.raises(TransferError, match=r"is tied to head\.weight, but their sources .* differ, by up to"):
        k3c.transfer(model, module, plan)
    assert torch.equal(module.table.weight, before)
    model.get_layer("head").kernel.assign(np.asarray(model.get_layer("table").embeddings.numpy()).T)
    k3c.transfer(model, module, plan)
    assert np.array_equal(module.head.weight.detach(), np.asarray(model.get_layer("table").embeddings.numpy()))


def _with_a_norm_of_two_names() -> nn.Module:
    class TwoNames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.norm = nn.BatchNorm1d(4)
            self.again = self.norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.again(torch.relu(self.norm(self.first(x))))
            return result

    return TwoNames()


def test_a_module_with_two_paths_keeps_its_tensors_in_every_proof() -> None:
    module = _with_a_norm_of_two_names()
    norm = keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, norm(keras.ops.relu(norm(keras.layers.Dense(4)(inputs)))))
    own = {name: (tensor, tensor.clone()) for name, tensor in module.state_dict(keep_vars=True).items()}
    batch = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    plan = k3c.align(module, model, inputs=batch)
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=batch, alignment=plan)
    assert report.ok, str(report)
    for name, tensor in module.state_dict(keep_vars=True).items():
        assert tensor is own[name][0], name
        assert torch.equal(tensor, own[name][1]), name
