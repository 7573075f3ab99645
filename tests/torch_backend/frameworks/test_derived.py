"""Weights that torch computes from others (weight norm and spectral norm, old and new) against plain layers."""

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import keras3conv as k3c
from keras3conv.errors import MalformedCheckpoint, ModelError, TransferError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.sides import view
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch import writing
from keras3conv.frameworks.torch.tensors import overwrite

Wrap = Callable[[nn.Module], nn.Module]


def old(function: Wrap) -> Wrap:
    """Apply the older, deprecated function without its warning."""

    def wrapped(layer: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(layer)

    return wrapped


WRAPS: dict[str, Wrap] = {
    "weight norm": parametrizations.weight_norm,
    "old weight norm": old(nn.utils.weight_norm),
    "weight norm of the whole": lambda layer: parametrizations.weight_norm(layer, dim=None),  # type: ignore[arg-type]
    "spectral norm": parametrizations.spectral_norm,
    "old spectral norm": old(nn.utils.spectral_norm),
}
EVERY = pytest.mark.parametrize("name", WRAPS)


class Net(nn.Module):
    """Two layers with computed weights, and one with a plain weight."""

    def __init__(self, wrap: Wrap) -> None:
        super().__init__()
        self.stem = wrap(nn.Conv2d(3, 6, (3, 2)))
        self.up = wrap(nn.ConvTranspose2d(6, 6, 2))
        self.head = nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.up(torch.relu(self.stem(images)))).mean((2, 3)))


def made(name: str, seed: int = 0) -> Net:
    """Return a net with random lengths, directions and vectors."""
    torch.manual_seed(seed)
    module = Net(WRAPS[name])
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn_like(tensor) * 0.6)
    with torch.no_grad():
        module(torch.from_numpy(IMAGES))  # the vectors of spectral norm follow
    return module.eval()


def twin() -> keras.Model:
    inputs = keras.Input((8, 9, 3))
    x = keras.layers.Conv2D(6, (3, 2), activation="relu", name="stem")(inputs)
    x = keras.layers.Conv2DTranspose(6, 2, activation="relu", name="up")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(keras.ops.mean(x, (1, 2))), name="twin")


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)


def output(module: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return module(torch.from_numpy(IMAGES))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@EVERY
def test_a_computed_weight_is_one_tensor_of_its_layer(name: str) -> None:
    module = made(name)
    found = torch_side.view(module)
    assert {tensor.path: tensor.shape for tensor in found.tensors()} == {
        "stem.weight": (6, 3, 3, 2),
        "stem.bias": (6,),
        "up.weight": (6, 6, 2, 2),
        "up.bias": (6,),
        "head.weight": (4, 6),
        "head.bias": (4,),
    }
    assert [layer.path for layer in found.layers] == ["stem", "up", "head"]
    assert found.fingerprint == torch_side.view(Net(lambda layer: layer)).fingerprint


@EVERY
def test_a_view_changes_nothing_even_in_training_mode(name: str) -> None:
    module = made(name).train()
    before = state(module)
    found = torch_side.view(module)
    for tensor in found.tensors():
        found.read(tensor.path)
    torch_side.run(module, IMAGES, float64=True)
    assert same(state(module), before)
    assert module.training


@EVERY
def test_a_transfer_passes_validation(name: str) -> None:
    module, model = made(name), twin()
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    before = state(module)
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    report.raise_if_failed()
    assert report.tally == "7 passed"
    assert same(state(module), before)
    assert output(module).dtype == torch.float32


@EVERY
def test_a_plain_weight_in_keras_is_said_to_train_otherwise(name: str) -> None:
    module, model = made(name), twin()
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    (said,) = k3c.validate(module, model, inputs=IMAGES, plan=plan, proofs=["gradients"]).with_status("passed")[1:]
    assert "2 weights that torch computes from others" in said.summary
    (failed,) = k3c.validate(module, model, inputs=IMAGES, plan=plan, training=True).with_status("failed")
    assert failed.name == "gradients"
    assert [problem.torch for problem in failed.problems] == ["stem.weight", "up.weight"]


def normalized() -> keras.Model:
    """Return the Keras model with spectral norm."""
    inputs = keras.Input((8, 9, 3))
    x = keras.layers.SpectralNormalization(keras.layers.Conv2D(6, (3, 2), name="stem"), name="normal_stem")(inputs)
    x = keras.layers.Conv2DTranspose(6, 2, activation="relu", name="up")(keras.ops.relu(x))
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(keras.ops.mean(x, (1, 2))), name="normalized")


@pytest.mark.parametrize("name", ["spectral norm", "old spectral norm", "weight norm"])
def test_a_transfer_to_spectral_norm_in_keras_and_back_passes_validation(name: str) -> None:
    module, model, other = made(name), normalized(), made(name, seed=1)
    plan = k3c.align(module, model, inputs=IMAGES).check()
    assert {entry.path for entry in plan.ignored} == {"normal_stem/vector_u"}
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    report.raise_if_failed()
    assert report.tally == "7 passed"
    k3c.transfer(model, other, plan)
    assert torch.equal(output(other), output(module))


@pytest.mark.parametrize(
    ("layer", "inner", "shape"),
    [
        (nn.Linear(4, 5), keras.layers.Dense(5), (4,)),
        (nn.Conv1d(4, 5, 3), keras.layers.Conv1D(5, 3), (7, 4)),
        (nn.ConvTranspose2d(4, 5, 3), keras.layers.Conv2DTranspose(5, 3), (7, 6, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_layer_with_spectral_norm_transfers_both_ways(
    layer: nn.Module, inner: keras.layers.Layer, shape: tuple[int, ...]
) -> None:
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.SpectralNormalization(inner)(inputs))
    module = nn.Sequential(parametrizations.spectral_norm(layer)).eval()
    array = np.random.default_rng(0).standard_normal((2, shape[-1], *shape[:-1])).astype("float32")
    plan = k3c.align(module, model, inputs=array).check()
    for source, target in ((module, model), (model, module)):
        k3c.transfer(source, target, plan)
        report = k3c.validate(module, model, inputs=array, alignment=plan)
        assert report.tally == "7 passed"


@pytest.mark.slow
def test_a_weight_that_is_not_divided_by_its_norm_fails_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model = made("spectral norm"), normalized()
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    original = module.stem.get_parameter("parametrizations.weight.original")
    stem = model.get_layer("normal_stem").layer
    stem.kernel.assign(original.detach().numpy().transpose(2, 3, 1, 0))
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    assert {section.name for section in report.sections if section.status == "failed"} >= {"roundtrip", "outputs"}


@EVERY
def test_the_computed_weight_has_the_bits_of_the_written_value(name: str) -> None:
    module, model, other = made(name), twin(), made(name, seed=1)
    plan = k3c.align(module, model, inputs=IMAGES)
    k3c.transfer(model, other, plan)
    stored = np.moveaxis(np.array(keras_side.to_numpy(model.get_layer("stem").kernel)), (3, 2), (0, 1))
    assert np.array_equal(torch_side.view(other).read("stem.weight"), stored)
    k3c.validate(other, model, inputs=IMAGES, alignment=plan).raise_if_failed()
    k3c.transfer(module, model, plan)
    k3c.transfer(model, other, plan)
    expected = output(module)
    # The order of additions in a norm depends on the alignment of the memory: a copy of a module may differ in a bit.
    module.load_state_dict(other.state_dict())
    assert torch.equal(output(module), expected)


@EVERY
def test_a_written_weight_has_gradients(name: str) -> None:
    module = made(name)
    k3c.transfer(twin(), module, k3c.align(module, twin(), inputs=IMAGES))
    module.train()
    module(torch.from_numpy(IMAGES)).square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in module.parameters())


@EVERY
def test_a_failed_transfer_leaves_the_parts_of_computed_weights_unchanged(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = made(name)
    plan, before = k3c.align(module, twin(), inputs=IMAGES), state(module)
    expected = output(module)

    failures = iter([OSError("no more")])

    def failing(target: torch.Tensor, value: np.ndarray) -> None:
        if target is module.head.bias and (failure := next(failures, None)):
            raise failure
        overwrite(target, value)

    monkeypatch.setattr(writing, "overwrite", failing)
    with pytest.raises(OSError, match="no more"):
        k3c.transfer(twin(), module, plan)
    assert same(state(module), before)
    assert torch.equal(output(module), expected)


@EVERY
def test_a_written_file_loads_into_the_same_module(name: str, tmp_path: Path) -> None:
    module, model = made(name), twin()
    plan = k3c.align(module, model, inputs=IMAGES)
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"model{suffix}"
        k3c.transfer(model, module, plan, out=path)
        fresh = made(name, seed=2)
        if suffix == ".pt":
            fresh.load_state_dict(torch.load(path, weights_only=True))
        else:
            safetensors = pytest.importorskip("safetensors.torch")
            fresh.load_state_dict(safetensors.load_file(path))
        assert torch.equal(output(fresh), output(module))


@EVERY
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_with_stored_parts_has_the_same_view_as_the_module(name: str, suffix: str, tmp_path: Path) -> None:
    module, path = made(name), tmp_path / f"model{suffix}"
    if suffix == ".pt":
        torch.save(module.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(module.state_dict(), path)
    found, live = view(path), torch_side.view(module)
    assert found.fingerprint == live.fingerprint
    assert all(tensor.dtype == "float32" and tensor.trainable for tensor in found.tensors())
    for tensor in live.tensors():
        assert np.allclose(found.read(tensor.path), live.read(tensor.path), rtol=3e-7, atol=1e-9), tensor.path
    model = twin()
    plan = k3c.align(module, model, inputs=IMAGES)
    k3c.transfer(path, model, k3c.Alignment.from_json(plan.to_json()))
    expected = output(module).numpy()
    assert np.allclose(keras_side.run(model, np.moveaxis(IMAGES, 1, -1)).outputs[""], expected, atol=1e-5)


@EVERY
def test_a_file_with_stored_parts_can_be_written_only_through_its_module(name: str, tmp_path: Path) -> None:
    module, path = made(name), tmp_path / "model.pt"
    torch.save(module.state_dict(), path)
    before = path.read_bytes()
    plan = k3c.align(module, twin(), inputs=IMAGES)
    for target in (path, tmp_path / "new.pt"):
        with pytest.raises(TransferError, match=r"stem\.weight .* is computed from other tensors"):
            k3c.transfer(twin(), target, plan, overwrite=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.pt"]


def test_tensors_with_the_names_of_parts_but_other_shapes_are_not_joined(tmp_path: Path) -> None:
    state = {
        "a.weight_g": torch.ones(3, 4),
        "a.weight_v": torch.ones(3, 4),
        "b.weight_g": torch.ones(3, 1),
        "b.weight_v": torch.ones(3, 4),
        "b.weight": torch.ones(3, 4),
        "c.weight_orig": torch.ones(3, 4),
        "c.weight_u": torch.ones(5),
        "c.weight_v": torch.ones(4),
        "d.parametrizations.weight.original": torch.ones(3, 3),
    }
    torch.save(state, tmp_path / "model.pt")
    assert {tensor.path for tensor in view(tmp_path / "model.pt").tensors()} == set(state)


def test_a_weight_norm_direction_of_length_zero_in_a_file_is_refused(tmp_path: Path) -> None:
    torch.save({"a.weight_g": torch.ones(3, 1), "a.weight_v": torch.zeros(3, 4)}, tmp_path / "model.pt")
    found = view(tmp_path / "model.pt")
    with pytest.raises(
        MalformedCheckpoint, match=r"a\.weight, computed from a\.weight_g, a\.weight_v, has values that are NaN"
    ):
        found.read("a.weight")


def test_weight_norm_can_represent_a_zero_weight_and_spectral_norm_cannot() -> None:
    model = twin()
    model.get_layer("stem").kernel.assign(np.zeros((3, 2, 3, 6)))
    module = made("weight norm")
    k3c.transfer(model, module, k3c.align(module, model, inputs=IMAGES))
    assert not torch_side.view(module).read("stem.weight").any()
    module = made("spectral norm")
    before = state(module)
    with pytest.raises(ModelError, match="cannot represent a weight that is all zeros"):
        k3c.transfer(model, module, k3c.align(module, model, inputs=IMAGES))
    assert same(state(module), before)


class Symmetric(nn.Module):
    """A custom parametrization with an inverse for symmetric matrices."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.triu() + given.triu(1).T

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu()


class OneWay(nn.Module):
    """A custom parametrization without an inverse."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.square()


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(5, name="dense")])


def parametrized(step: nn.Module) -> nn.Sequential:
    layer = nn.Linear(5, 5)
    parametrize.register_parametrization(layer, "weight", step)
    return nn.Sequential(layer)


def test_any_parametrization_is_read_and_is_written_if_its_inverse_is_exact() -> None:
    module, model = parametrized(Symmetric()), dense()
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, alignment=plan).raise_if_failed()
    other = parametrized(Symmetric())
    k3c.transfer(model, other, plan)
    assert np.array_equal(torch_side.view(other).read("0.weight"), torch_side.view(module).read("0.weight"))


@pytest.mark.parametrize(
    ("step", "fact"),
    [(Symmetric(), "the weight that Symmetric computes differs from the written value"), (OneWay(), "OneWay")],
    ids=["not symmetric", "without an inverse"],
)
def test_a_value_that_a_parametrization_cannot_represent_is_refused(step: nn.Module, fact: str) -> None:
    module, model = parametrized(step), dense()
    before = state(module)
    with pytest.raises(ModelError, match=fact):
        k3c.transfer(model, module, k3c.align(module, model))
    assert same(state(module), before)
