"""Errors of conversions and of reading models whose message prints a line to paste."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from benchmarks._torchvision import torchvision_models
from tests.support.fixes import Scope, case
from tests.torch_backend.fixes.plans import NAMES, Net, network, pair

OLD = Path(__file__).resolve().parents[2] / "world" / "files" / "tensorflow-2.15.1"


@case("keras3conv/workflows/convert.py:_to_keras#2", "k3c.convert(path)")
def weights_of_torch_alone(folder: Path) -> Scope:
    module = Net()
    torch.save(module.state_dict(), folder / "net.pt")
    return NAMES | {"path": folder / "net.pt", "module": module, "example_input": torch.zeros(1, 3)}


@case("keras3conv/workflows/convert.py:_to_keras#3", "k3c.convert(module)")
def a_module_without_inputs(_: Path) -> Scope:
    return NAMES | {"module": nn.Sequential(nn.Conv2d(3, 2, 32, stride=32), nn.ReLU())}


class Two(nn.Module):
    """A module with two inputs."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return first + second


@case("keras3conv/frameworks/torch/exporting.py:_shapes", "k3c.convert(module, inputs=first)")
def a_module_with_two_inputs(_: Path) -> Scope:
    return NAMES | {"module": Two(), "first": torch.rand(2, 3), "second": torch.rand(2, 3)}


@case("keras3conv/workflows/opening.py:_loaded", "k3c.convert(path)", then="module")
def weights_of_keras_alone(folder: Path) -> Scope:
    names = pair()
    names["model"].save_weights(folder / "net.weights.h5")
    return names | {"path": folder / "net.weights.h5"}


@case(
    "keras3conv/workflows/sources.py:require_weights",
    "k3c.convert(path)",
    edit=lambda line, names: line.replace("model.weights.h5", str(names["weights"])),
)
@case(
    "keras3conv/workflows/sources.py:require_weights",
    "k3c.validate(module, path)",
    edit=lambda line, names: line.replace("model.weights.h5", str(names["weights"])),
)
@case(
    "keras3conv/workflows/sources.py:require_weights",
    "k3c.transfer(path, module, plan)",
    edit=lambda line, names: line.replace("model.weights.h5", str(names["weights"])),
)
def an_architecture_alone(folder: Path) -> Scope:
    names = pair()
    names["model"].save_weights(folder / "net.weights.h5")
    (folder / "net.json").write_text(names["model"].to_json())
    return names | {"path": folder / "net.json", "weights": folder / "net.weights.h5"}


@case(
    "keras3conv/workflows/sources.py:ends_of_transfer",
    "k3c.transfer(module, path, plan)",
    edit=lambda line, names: line.replace("model.weights.h5", str(names["out"])),
)
def an_architecture_to_write(folder: Path) -> Scope:
    return an_architecture_alone(folder) | {"out": folder / "new.weights.h5"}


@case("keras3conv/frameworks/sides.py:require_architecture", "k3c.align(module, model, keras_weights=weights)")
def weights_of_a_model_that_has_them(folder: Path) -> Scope:
    return an_architecture_alone(folder)


@case("keras3conv/workflows/align.py:align", "k3c.align(module, model, inputs=inputs)")
def a_module_that_raises(_: Path) -> Scope:
    class Broken(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("not written yet")

    return pair() | {"module": Broken(), "inputs": torch.zeros(2, 3)}


class Unknown(layers.Dense):
    """A class that nobody registered."""

    def __init__(self, **options: Any) -> None:
        super().__init__(4, **options)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


def forget(*names: str) -> Any:
    def undo() -> None:
        for name in names:
            keras.saving.get_custom_objects().pop(name, None)

    return undo


@case("keras3conv/frameworks/keras/files.py:unloadable#2", "k3c.convert(path)")
def a_class_that_is_not_registered(folder: Path) -> Scope:
    def make() -> keras.Model:
        return keras.Sequential([keras.Input((3,)), Unknown(name="own")])

    make().save(folder / "net.keras")
    undo = forget("Unknown")
    return NAMES | {"path": folder / "net.keras", "Unknown": Unknown, "make_model": make, "undo": undo}


@case("keras3conv/frameworks/keras/files.py:unloadable", "k3c.convert(path)")
def a_lambda_in_a_file(folder: Path) -> Scope:
    def make() -> keras.Model:
        return keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Activation("relu")])

    given = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Lambda(lambda x: x * 2)])
    given.save(folder / "net.keras")
    return NAMES | {"path": folder / "net.keras", "make_model": make}


@case("keras3conv/frameworks/keras/files.py:load", "k3c.convert(path)")
def a_file_of_which_keras_makes_no_model(folder: Path) -> Scope:
    path = folder / "net.keras"
    model = network()
    model.save(path)
    rewritten(path, lambda config: config["config"]["layers"][1]["config"].update(units=-1))
    return NAMES | {"path": path, "make_model": network}


def rewritten(path: Path, change: Any) -> None:
    """Change the architecture in an archive."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def old_dense(folder: Path, old: str, new: str) -> Path:
    """A file of Keras 2 with another text in its architecture."""
    path = folder / "net.h5"
    path.write_bytes((OLD / "dense_first.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        assert old in config
        file.attrs["model_config"] = config.replace(old, new)
    return path


def make_dense_first() -> keras.Model:
    """The network `dense_first`, made by code."""
    model = k3c.convert(OLD / "dense_first.h5", validate=False)
    del model
    from keras3conv.formats.keras2.file import saved_model
    from keras3conv.frameworks.keras.keras2.reading import read_model

    saved = saved_model(OLD / "dense_first.h5")
    assert saved is not None
    return read_model(saved)


@case("keras3conv/frameworks/keras/keras2/problems.py:_layer_problems", "k3c.convert(path)")
def an_old_class_that_is_not_registered(folder: Path) -> Scope:
    class Own(layers.Dense):
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return cls(config["units"], activation=config["activation"], name=config["name"])

    path = old_dense(folder, '"class_name": "Dense"', '"class_name": "Own"')
    return NAMES | {"path": path, "Own": Own, "make_model": make_dense_first, "undo": forget("Own")}


@case("keras3conv/frameworks/keras/keras2/problems.py:_layer_problems#2", "k3c.convert(path)")
def an_old_activation_that_keras_3_lacks(folder: Path) -> Scope:
    path = old_dense(folder, '"activation": "', '"activation": "no_such_')
    return NAMES | {"path": path, "make_model": make_dense_first}


@case("keras3conv/frameworks/keras/keras2/problems.py:_problems", "k3c.convert(path)")
def an_old_layer_that_keras_3_lacks(folder: Path) -> Scope:
    path = old_dense(folder, '"class_name": "Dense"', '"class_name": "LocallyConnected1D"')
    return NAMES | {"path": path, "make_model": make_dense_first}


@case("keras3conv/frameworks/keras/tracing/endings.py:mixed", "k3c.convert(model)")
def a_model_of_mixed_precision(_: Path) -> Scope:
    return NAMES | {"model": network(dtype="mixed_float16")}


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.a = layers.Dense(2, name="a")

    def call(self, inputs: Any) -> Any:
        return self.a(inputs)


class TwoArguments(Subclassed):
    def call(self, inputs: Any, other: Any = None) -> Any:
        return self.a(inputs) + other


@case("keras3conv/frameworks/keras/tracing/sizes.py:Sizes.of", "k3c.convert(model)")
def a_model_without_an_input_specification(_: Path) -> Scope:
    model = TwoArguments()
    example_input = np.zeros((2, 3), "float32"), np.zeros((2, 2), "float32")
    model(*example_input)
    return NAMES | {"model": model, "example_input": example_input}


@case("keras3conv/frameworks/keras/tree.py:require_built", "k3c.align(module, model)")
def a_model_that_was_never_built(_: Path) -> Scope:
    module = nn.Sequential()
    module.add_module("a", nn.Linear(3, 2))
    example_input = np.zeros((2, 3), "float32")
    return NAMES | {"model": Subclassed(), "module": module, "example_input": example_input}


@case("keras3conv/frameworks/keras/keras2/loading.py:_in_order_of", "k3c.convert(model, weights=path, validate=False)")
def frozen_layers_whose_order_is_not_known(_: Path) -> Scope:
    from tests.world.test_messages import tower

    model, path = tower(("one", "two", "three")), OLD / "frozen_inside_weights.h5"
    return NAMES | {"model": model, "path": path}


@case(
    "keras3conv/frameworks/torch/modes.py:_require_hooks",
    "k3c.align(scripted, model, inputs=inputs)",
    then="k3c.align(module, model, inputs=inputs)",
)
def a_scripted_module(_: Path) -> Scope:
    return pair() | {"scripted": torch.jit.trace(Net(), torch.zeros(2, 3)), "inputs": torch.zeros(2, 3)}


class Gradients(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.a(x.requires_grad_())
        return made + torch.autograd.grad(made.sum(), x)[0].sum()


@case(
    "keras3conv/frameworks/torch/module.py:call_error",
    "k3c.align(module, model, inputs=inputs)",
)
def a_forward_pass_with_gradients(_: Path) -> Scope:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a")])
    return NAMES | {"module": Gradients(), "model": model, "inputs": torch.zeros(2, 3)}


@case(
    "keras3conv/frameworks/torch/derived.py:_refused",
    "k3c.transfer(model, module, plan)",
    then="k3c.transfer(model, module, k3c.align(module, model, probe=False))",
)
def a_parametrization_without_an_inverse(_: Path) -> Scope:
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    names = pair()
    torch.nn.utils.parametrize.register_parametrization(names["module"].a, "weight", Doubled())
    return names | {"plan": k3c.align(names["module"], names["model"], probe=False)}


class Standardized(nn.Conv2d):
    """A convolution with a kernel of mean 0 and deviation 1 in every output, as in BiT."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        return nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@case(
    "keras3conv/frameworks/torch/derived.py:_assign_kernel",
    "k3c.transfer(model, module, plan)",
    then="k3c.transfer(model, module, k3c.align(module, model, probe=False))",
)
def a_kernel_that_a_standardized_convolution_cannot_compute(_: Path) -> Scope:
    module = nn.Sequential()
    module.add_module("a", Standardized(3, 4, 3))
    given = keras.Input((6, 6, 3))
    model = keras.Model(given, layers.Conv2D(4, 3, name="a")(given))
    return NAMES | {"module": module, "model": model, "plan": k3c.align(module, model, inputs=torch.randn(2, 3, 6, 6))}


class Joined(nn.Module):
    """Takes two inputs of unlike shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.a(x) + y
        return made


def _joined() -> Scope:
    x, y = keras.Input((3,), name="x"), keras.Input((2,), name="y")
    model = keras.Model({"x": x, "y": y}, layers.Add()([layers.Dense(2, name="a")(x), y]))
    arrays = {"x": np.ones((2, 3), "float32"), "y": np.ones((2, 2), "float32")}
    return NAMES | {"module": Joined(), "model": model, **arrays}


@case("keras3conv/frameworks/shared/inputs_given.py:_from_torch", "k3c.align(module, model, inputs=(x, y, y))")
def more_arrays_than_inputs_of_both_models(_: Path) -> Scope:
    return _joined()


@case("keras3conv/frameworks/shared/inputs_of_keras.py:fitted", "k3c.align(module, model, keras_inputs=(x, y, y))")
def more_arrays_than_inputs_of_the_keras_model(_: Path) -> Scope:
    return _joined()


@case("keras3conv/frameworks/shared/inputs_of_keras.py:fitted", "k3c.convert(model, inputs=x)")
def one_array_for_two_inputs_of_the_keras_model(_: Path) -> Scope:
    return _joined()


@case("keras3conv/frameworks/shared/inputs_of_keras.py:_by_name", 'k3c.convert(model, inputs={"x": x, "z": y})')
def a_wrong_name_among_the_inputs_of_the_keras_model(_: Path) -> Scope:
    return _joined()


@case("keras3conv/frameworks/torch/pretrained.py:load#2", "k3c.convert(path, inputs=example_input)")
def a_folder_of_an_unknown_architecture(folder: Path) -> Scope:
    (folder / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"]}))
    (folder / "model.safetensors").write_bytes(b"")
    return NAMES | {"path": folder, "module": Net(), "example_input": torch.zeros(2, 3)}


@case("keras3conv/frameworks/torch/pretrained.py:load#3", "k3c.convert(path, inputs=example_input)")
def a_folder_without_the_weights_of_its_architecture(folder: Path) -> Scope:
    torchvision_models()  # which transformers imports where it is installed
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    return NAMES | {"path": folder, "module": Net(), "example_input": torch.zeros(2, 3)}


@case(
    "keras3conv/frameworks/torch/saved_program.py:load",
    "k3c.convert('net.pt2', inputs=args[0])",
    then="k3c.convert('net.pt2', inputs=args[0])",
)
def a_saved_program_that_torch_cannot_load(folder: Path) -> Scope:
    module, args = Net().eval(), (torch.zeros(2, 3),)
    torch.export.save(torch.export.export(module, args), folder / "good.pt2")
    with zipfile.ZipFile(folder / "good.pt2") as good, zipfile.ZipFile(folder / "net.pt2", "w") as bad:
        for name in good.namelist():
            is_program = "/models/" in name and name.endswith(".json")
            bad.writestr(name, b"{}" if is_program else good.read(name))
    return NAMES | {"module": module, "args": args}
