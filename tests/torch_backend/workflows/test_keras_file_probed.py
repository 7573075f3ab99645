"""A Keras file with its architecture is run by `align`, as a live model is; a plan says why a file was not."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.located import named_for
from keras3conv.errors import InputError, TransferError
from keras3conv.frameworks.sides import view
from tests.support.models import randomize


def module() -> nn.Module:
    parts = [nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 6)]
    return randomize(nn.Sequential(*parts))


def model() -> keras.Model:
    """Return the same network; only a run tells its layers apart, because names and shapes do not."""
    x = given = keras.Input((6,))
    for name, activation in (("c", "tanh"), ("a", "sigmoid"), ("b", None)):
        x = layers.Dense(6, activation=activation, name=name)(x)
    return keras.Model(given, x, name="same")


PAIRS = [("0", "c"), ("2", "a"), ("4", "b")]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_with_an_architecture_is_probed(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    model().save(path)
    plan = k3c.align(module(), path)
    assert [(pair.torch, pair.keras) for pair in plan.pairs] == PAIRS
    assert not plan.unconfirmed
    assert not any("not probed" in note for note in plan.notes)
    assert plan.keras.title == "model" + suffix + " (keras)"


@pytest.mark.slow
def test_a_transfer_by_such_a_plan_reads_and_writes_the_file(tmp_path: Path) -> None:
    source, path = module(), tmp_path / "model.keras"
    model().save(path)
    plan = k3c.Alignment.from_json(k3c.align(source, path).to_json())
    assert k3c.transfer(source, path, plan, out=tmp_path / "filled.keras").ok
    k3c.validate(source, tmp_path / "filled.keras").raise_if_failed()
    target = module()
    assert k3c.transfer(tmp_path / "filled.keras", target, plan).ok
    k3c.validate(target, tmp_path / "filled.keras").raise_if_failed()
    assert k3c.transfer(source, tmp_path / "new.weights.h5", plan).ok


def test_a_plan_says_why_a_file_was_not_run(tmp_path: Path) -> None:
    made = model()
    made.save_weights(tmp_path / "m.weights.h5")
    plan = k3c.align(module(), tmp_path / "m.weights.h5")
    assert plan.notes[0] == "not probed: the Keras side is a file of weights, without an architecture"

    class Unregistered(layers.Layer):
        """A class that Keras does not know when it loads the file."""

        def call(self, x: object) -> object:
            return x

    keras.Sequential([keras.Input((6,)), layers.Dense(6), Unregistered()]).save(tmp_path / "own.keras")
    plan = k3c.align(nn.Sequential(nn.Linear(6, 6)), tmp_path / "own.keras")
    assert plan.notes[0].startswith(
        "not probed: the Keras side is a file that Keras cannot load: unregistered: the class"
    )
    assert "Unregistered is not part of Keras" in plan.notes[0]
    assert len(plan.pairs) == 1


@keras.saving.register_keras_serializable(package="probed_files")
class Gate(layers.Layer):
    """A layer of the user, of whose variables a file has numbers and a live model names."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], shape[-1]))
        self.scale = self.add_weight(name="scale", shape=(shape[-1],))

    def call(self, x: object) -> object:
        return keras.ops.tanh(x @ self.kernel) * self.scale


class TorchGate(nn.Module):
    """The same layer in torch, with the kernel transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 6))
        self.scale = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.kernel.T) * self.scale


def test_a_plan_of_a_file_with_a_layer_of_the_user_fits_the_file_and_the_live_model(tmp_path: Path) -> None:
    source, path = randomize(nn.Sequential(nn.Linear(6, 6), TorchGate())), tmp_path / "own.keras"
    live = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="dense"), Gate(name="gate")])
    live.save(path)
    plan = k3c.Alignment.from_json(k3c.align(source, path).to_json())
    assert not plan.unconfirmed
    assert "not probed" not in plan.notes[0]
    assert [mapping.keras[0] for mapping in plan.mappings][2:] == ["gate/0", "gate/1"]
    assert plan.keras.fingerprint == view(path).fingerprint
    assert k3c.transfer(source, path, plan, out=tmp_path / "filled.keras").ok
    k3c.validate(source, tmp_path / "filled.keras", plan=plan).raise_if_failed()
    assert k3c.transfer(source, live, plan).ok
    assert np.array_equal(live.get_layer("gate").kernel.numpy(), source.state_dict()["1.kernel"].numpy().T)
    named = named_for(plan, view(live))
    assert [mapping.keras[0] for mapping in named.mappings][2:] == ["gate/kernel", "gate/scale"]
    assert named.keras.fingerprint == view(live).fingerprint != plan.keras.fingerprint
    assert named_for(named, view(path)).mappings == plan.mappings
    assert k3c.transfer(source, path, named, out=tmp_path / "again.keras").ok
    assert k3c.transfer(tmp_path / "again.keras", source, named).ok


def test_a_plan_for_other_shapes_is_not_renamed(tmp_path: Path) -> None:
    wide = keras.Sequential([keras.Input((7,)), layers.Dense(7, name="dense"), Gate(name="gate")])
    wide.save(tmp_path / "wide.keras")
    live = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="dense"), Gate(name="gate")])
    source = randomize(nn.Sequential(nn.Linear(6, 6), TorchGate()))
    plan = k3c.align(source, live)
    assert named_for(plan, view(tmp_path / "wide.keras")) is plan
    with pytest.raises(TransferError, match="the plan was made for"):
        k3c.transfer(source, tmp_path / "wide.keras", plan, out=tmp_path / "new.keras")


def test_a_file_is_not_loaded_if_nothing_is_to_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.keras"
    model().save(path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the file was loaded")

    monkeypatch.setattr(keras.saving, "load_model", refuse)
    assert k3c.align(module(), path, probe=False).notes == ("not probed: the Keras side is a file",)


def test_a_probe_that_is_asked_for_needs_an_architecture(tmp_path: Path) -> None:
    model().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(InputError, match="a file of weights, without an architecture"):
        k3c.align(module(), tmp_path / "m.weights.h5", probe=True)
