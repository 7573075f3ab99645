"""Errors and failed proofs whose message prints a line to paste."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.torch_backend.fixes.commands import files
from tests.torch_backend.fixes.plans import NAMES, pair

VALIDATE = "k3c.validate(module, model, inputs=inputs)"


def moved() -> Scope:
    """Two models with the same weights."""
    names = pair()
    k3c.transfer(names["module"], names["model"], names["plan"])
    return names | {"inputs": torch.randn(2, 3), "outputs": names["module"](torch.zeros(2, 3)).detach().numpy()}


@case("keras3conv/workflows/validate.py:validate", "k3c.validate(module, model, expected=outputs)")
def golden_outputs_without_inputs(_: Path) -> Scope:
    names = moved()
    return names | {"outputs": names["module"](names["inputs"]).detach().numpy()}


class Masked(nn.Module):
    """A module with two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(ids * mask)
        return found


@case(
    "keras3conv/frameworks/shared/inputs_named.py:require_arguments",
    'k3c.align(module, model, inputs={"ids": a, "maks": b})',
)
def a_misspelt_input(_: Path) -> Scope:
    given = [keras.Input((3,), name=name) for name in ("ids", "mask")]
    model = keras.Model(given, keras.layers.Dense(2)(given[0] * given[1]))
    ids, mask = torch.randn(2, 3), torch.ones(2, 3)
    return NAMES | {"module": Masked(), "model": model, "a": ids, "b": mask, "ids": ids, "mask": mask}


@case(
    "validators/running/options.py:_require_new_folder",
    'k3c.validate(module, model, inputs=inputs, onnx="kept", proofs=["structure"])',
)
def a_folder_of_onnx_files_that_exists(folder: Path) -> Scope:
    (folder / "kept").mkdir()
    (folder / "kept" / "torch.onnx").touch()
    (folder / "kept_2").mkdir()
    return moved()


@case("validators/judges.py:judges", 'k3c.validate(module, model, inputs=inputs, proofs=["output"])')
def a_proof_that_is_misspelt(_: Path) -> Scope:
    return moved()


@case("validators/judges.py:judges#2", 'k3c.validate(module, model, inputs=inputs, proofs=["expected"])')
def a_proof_without_golden_outputs(folder: Path) -> Scope:
    names = moved()
    np.savez("outputs.npz", names["module"](names["inputs"]).detach().numpy())
    return names


@case("validators/judges.py:judges#2", 'k3c.validate(module, model, inputs=inputs, proofs=["accuracy"])')
def a_proof_without_labels(_: Path) -> Scope:
    return moved() | {"labels": np.array([0, 1])}


@case("validators/running/options.py:_in_file", "k3c.validate(module, model, inputs=inputs, expected=path)")
def a_file_without_golden_outputs(folder: Path) -> Scope:
    (folder / "outputs.npz").write_text("no arrays")
    names = moved()
    return names | {
        "path": folder / "outputs.npz",
        "outputs": names["module"](names["inputs"]).detach().numpy(),
    }


@case("validators/running/options.py:_require_tolerance", "k3c.validate(module, model, inputs=inputs, tolerance=1e-5)")
def a_tolerance_that_is_a_number(_: Path) -> Scope:
    return moved()


@case("keras3conv/workflows/local.py:local_subject", "k3c.validate(path, model, local=True)")
def a_local_proof_of_a_file(folder: Path) -> Scope:
    names = moved()
    torch.save(names["module"].state_dict(), folder / "net.pt")
    return names | {"path": folder / "net.pt"}


def labelled(labels: Any) -> Scope:
    return moved() | {"labels": labels, "class_names": ["cat", "dog"]}


LABELS = "k3c.validate(module, model, inputs=inputs, labels=labels)"


@case("validators/running/options.py:_labels", LABELS)
def labels_as_rows_of_probabilities(_: Path) -> Scope:
    return labelled(np.array([[0.0, 1.0], [1.0, 0.0]]))


@case("validators/running/options.py:_labels", LABELS)
def labels_in_a_column(_: Path) -> Scope:
    return labelled(np.array([[1], [0]]))


@case("validators/running/options.py:_labels", LABELS)
def labels_as_names(_: Path) -> Scope:
    return labelled(np.array(["dog", "cat"]))


@case("validators/running/options.py:_labels", LABELS)
def labels_as_whole_floats(_: Path) -> Scope:
    return labelled(np.array([1.0, 0.0]))


@case(
    "validators/running/options.py:_backends",
    'k3c.validate(module, model, inputs=inputs, backends=True, proofs=["outputs"])',
)
def backends_that_are_true(_: Path) -> Scope:
    return moved()


@case("validators/roundtrip.py:check", f"{VALIDATE}.raise_if_failed()")
def weights_that_were_not_moved(_: Path) -> Scope:
    return pair() | {"inputs": torch.randn(2, 3)}


@case(
    "validators/roundtrip.py:_without_file",
    "keras3conv validate net.py:make model.keras --proof roundtrip",
    edit=lambda line, names: line.replace("FILE", "net.safetensors"),
)
def a_torch_factory_without_its_weights(folder: Path) -> Scope:
    return transferred(folder)


@case(
    "validators/roundtrip.py:_without_file",
    "keras3conv validate net.safetensors net.py:make_keras --proof roundtrip",
    edit=lambda line, names: line.replace("FILE", "model.keras"),
)
def a_keras_factory_without_its_weights(folder: Path) -> Scope:
    return transferred(folder)


@case(
    "validators/roundtrip.py:_without_file#2",
    "keras3conv validate net.py:make_seeded net.py:make_keras --proof roundtrip",
    then="keras3conv validate net.py:make_seeded net.py:make_keras --proof roundtrip --keras-weights keras.weights.h5",
)
def two_factories_without_weights(folder: Path) -> Scope:
    return transferred(folder)


def transferred(folder: Path) -> Scope:
    """The files of two models with the same weights, and factories that draw new ones."""
    names = files(folder)
    k3c.transfer(folder / "net.safetensors", names["model"], k3c.align(folder / "net.safetensors", names["model"]))
    names["model"].save(folder / "model.keras")
    return names


@case("validators/hyperparameters.py:_problem", f"{VALIDATE}.raise_if_failed()", only="# Keras: norm")
def another_epsilon(_: Path) -> Scope:
    module = nn.Sequential()
    module.add_module("norm", nn.LayerNorm(4, eps=1e-5))
    given = keras.Input((4,))
    model = keras.Model(given, layers.LayerNormalization(epsilon=1e-3, name="norm")(given))
    return NAMES | {"module": module.eval(), "model": model, "inputs": torch.randn(2, 4), "rebuilt": rebuilt}


def rebuilt(names: Scope, layer: str, arguments: dict[str, Any]) -> None:
    """Make the layer of one side again with other arguments, as the user changes the code of the model."""
    if layer in {path for path, _ in names["module"].named_modules()} and set(arguments) & {"eps"}:
        old = names["module"].get_submodule(layer)
        names["module"].set_submodule(layer, type(old)(old.normalized_shape, **arguments))
        return

    def made(old: Any) -> Any:
        return type(old).from_config(old.get_config() | (arguments if old.name == layer else {}))

    names["model"] = keras.models.clone_model(names["model"], clone_function=made)


class Noisy(nn.Module):
    """A module that drops values in inference mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropped(self.a(x))

    def dropped(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5)


@case(
    "validators/running/determinism.py:nondeterminism",
    f"{VALIDATE}.raise_if_failed()",
    only="F.dropout",
    edit=lambda line, names: f"p = 0.5; type(module).dropped = lambda self, x: {line}",
)
def a_module_that_draws_random_numbers(_: Path) -> Scope:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a")])

    class Own(Noisy):
        pass

    module = Own().eval()
    k3c.transfer(module, model, k3c.align(module, model, probe=False))
    # With so many values, two runs never drop the same ones.
    return NAMES | {"module": module, "model": model, "F": F, "p": 0.5, "inputs": torch.randn(64, 3)}


class Drops(layers.Layer):
    """A layer that drops values in inference mode too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dropout, self.seeds = layers.Dropout(0.5), keras.random.SeedGenerator(3)

    def call(self, x: Any, training: Any = None) -> Any:
        return keras.random.dropout(x, 0.5, seed=self.seeds)


@case(
    "validators/running/determinism.py:draws",
    f"{VALIDATE}.raise_if_failed()",
    only="self.dropout",
    edit=lambda line, names: f'type(model.get_layer("drops")).call = lambda self, x, training=None: {line}',
)
def a_model_that_draws_random_numbers(_: Path) -> Scope:
    class Own(Drops):
        pass

    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), Own(name="drops")])
    module = nn.Sequential()
    module.add_module("a", nn.Linear(3, 4))
    k3c.transfer(module, model, k3c.align(module, model, probe=False))
    return NAMES | {"module": module.eval(), "model": model, "inputs": torch.randn(64, 3)}


class Counts(layers.Layer):
    """A layer that keeps state outside of its variables."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dropout = layers.Dropout(0.5)
        self.calls = 0

    def call(self, x: Any, training: Any = None) -> Any:
        self.calls += 1
        return x * (1.0 + 0.1 * self.calls)


@case(
    "validators/running/determinism.py:nondeterminism#2",
    f"{VALIDATE}.raise_if_failed()",
    only="self.dropout",
    edit=lambda line, names: f'type(model.get_layer("counts")).call = lambda self, x, training=None: {line}',
)
def a_model_with_state_outside_of_its_variables(_: Path) -> Scope:
    class Own(Counts):
        pass

    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), Own(name="counts")])
    module = nn.Sequential()
    module.add_module("a", nn.Linear(3, 4))
    k3c.transfer(module, model, k3c.align(module, model, probe=False))
    return NAMES | {"module": module.eval(), "model": model, "inputs": torch.randn(2, 3)}


class FrozenStatistics(nn.Sequential):
    """Keeps its batch normalisation in evaluation mode."""

    def train(self, mode: bool = True) -> "FrozenStatistics":
        return super().train(False)


@case(
    "validators/running/training_facts.py:unlike",
    'k3c.validate(module, model, inputs=inputs, proofs=["gradients"], training=True).raise_if_failed()',
)
def statistics_that_only_torch_keeps_in_training(_: Path) -> Scope:
    module = FrozenStatistics()
    module.add_module("norm", nn.BatchNorm1d(4))
    given = keras.Input((4,))
    model = keras.Model(given, layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm")(given))
    return NAMES | {"module": module.eval(), "model": model, "inputs": torch.randn(5, 4), "rebuilt": rebuilt}
