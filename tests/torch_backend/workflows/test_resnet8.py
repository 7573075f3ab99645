"""Transfer and validate a trained ResNet with real images, in both directions."""

import copy
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from keras3conv.numerics.judgement import judge
from tests.support.models import NaiveBlock, ResNet8

pytestmark = pytest.mark.slow

RIGHT = 742


@pytest.fixture(scope="module")
def h5(shared: Path) -> Path:
    return shared / "mlperf_tiny_resnet8.h5"


@pytest.fixture(scope="module")
def images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(shared / "cifar10_test_846.npz") as file:
        return file["images"].astype(np.float32), file["labels"]


@pytest.fixture(scope="module")
def plan(h5: Path) -> Alignment:
    return k3c.align(ResNet8(), h5).check()


@pytest.fixture(scope="module")
def converted(h5: Path, plan: Alignment) -> ResNet8:
    module = ResNet8().eval()
    assert k3c.transfer(h5, module, plan).ok
    return module


@pytest.fixture(scope="module")
def keras_model(h5: Path) -> keras.Model:
    return keras.saving.load_model(h5, compile=False)


def original(h5: Path) -> dict[str, np.ndarray]:
    """Return the weights as h5py reads them, by path: "conv2d/kernel"."""
    found = {}
    with h5py.File(h5) as file:

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found["/".join(name.split("/")[1:]).removesuffix(":0")] = item[()]

        file["model_weights"].visititems(visit)
    return found


def test_every_pair_is_found_without_hints(plan: Alignment) -> None:
    assert plan.problems() == ()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {
        "entry": "conv2d",
        "entry_norm": "batch_normalization",
        "stages.0.head.0": "conv2d_1",
        "stages.0.head.1": "batch_normalization_1",
        "stages.0.conv_b": "conv2d_2",
        "stages.0.norm_b": "batch_normalization_2",
        "stages.1.head.0": "conv2d_3",
        "stages.1.head.1": "batch_normalization_3",
        "stages.1.conv_b": "conv2d_4",
        "stages.1.shortcut": "conv2d_5",
        "stages.1.norm_b": "batch_normalization_4",
        "stages.2.head.0": "conv2d_6",
        "stages.2.head.1": "batch_normalization_5",
        "stages.2.conv_b": "conv2d_7",
        "stages.2.shortcut": "conv2d_8",
        "stages.2.norm_b": "batch_normalization_6",
        "classifier": "dense",
    }


def test_the_torch_model_has_the_same_accuracy_as_the_keras_model(
    converted: ResNet8, keras_model: keras.Model, images: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, labels = images
    with torch.no_grad():
        ours = converted(torch.from_numpy(pixels)).numpy()
        truth = copy.deepcopy(converted).double()(torch.from_numpy(pixels).double()).numpy()
    theirs = keras_model.predict(np.moveaxis(pixels, 1, -1), verbose=0)
    assert judge(theirs, ours, truth).passed
    assert int((ours.argmax(1) == labels).sum()) == int((theirs.argmax(1) == labels).sum()) == RIGHT


def test_the_certificate_passes_on_real_images(
    converted: ResNet8, keras_model: keras.Model, images: tuple[np.ndarray, np.ndarray]
) -> None:
    report = k3c.validate(converted, keras_model, inputs=images[0][:100])
    report.raise_if_failed()
    assert [section.status for section in report.sections] == ["passed"] * 7
    assert len(report.section("activations").tables[0].rows) == 17


def test_a_symmetric_padding_fails_and_is_named_as_the_cause(
    keras_model: keras.Model, images: tuple[np.ndarray, np.ndarray]
) -> None:
    naive = ResNet8(NaiveBlock)
    k3c.transfer(keras_model, naive, k3c.align(naive, keras_model), accept_difference=True)
    report = k3c.validate(naive, keras_model, inputs=images[0][:16])
    assert not report.ok
    for name in ("float64", "activations"):
        problem = report.section(name).problems[0]
        assert (problem.torch, problem.keras) == ("stages.1.head.0", "conv2d_3")
        assert "Keras pads (0, 1), (0, 1)" in problem.fact
        assert problem.fixes[0].startswith("nn.ZeroPad2d((0, 1, 0, 1))  # torch: before stages.1.head.0")


def test_a_round_trip_to_keras_returns_the_same_bits(h5: Path, converted: ResNet8, tmp_path: Path) -> None:
    fresh = keras.models.clone_model(keras.saving.load_model(h5, compile=False))
    files = [tmp_path / "resnet8.keras", tmp_path / "resnet8.weights.h5", tmp_path / "resnet8.h5"]
    report = k3c.transfer(converted, fresh, k3c.align(converted, fresh), out=files)
    wanted = original(h5)
    assert [Path(file.path).name for file in report.files] == ["resnet8.keras", "resnet8.weights.h5", "resnet8.h5"]
    assert all(len(file.sha256) == 64 and len(file.md5) == 32 for file in report.files)
    empty = keras.models.clone_model(fresh)
    empty.load_weights(files[1])
    for model in (fresh, keras.saving.load_model(files[0]), empty, keras.saving.load_model(files[2], compile=False)):
        found = {variable.path: variable.value.detach().numpy().tobytes() for variable in model.variables}
        assert found == {path: array.tobytes() for path, array in wanted.items()}


def test_a_file_is_transferred_without_keras(h5: Path, plan: Alignment, converted: ResNet8, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plan.to_json())
    script = f"""
import sys
from pathlib import Path
import keras3conv as k3c
plan = k3c.Alignment.from_json(Path("plan.json").read_text())
report = k3c.transfer({str(h5)!r}, "resnet8.pth", plan)
assert report.ok and report.files[0].path.endswith("resnet8.pth")
k3c.transfer({str(h5)!r}, "resnet8.safetensors", plan)
assert not {{"keras", "tensorflow", "jax"}} & set(sys.modules), "a framework was imported"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True, env=_environment())
    module = ResNet8()
    module.load_state_dict(torch.load(tmp_path / "resnet8.pth", weights_only=True))
    for (name, ours), (_, theirs) in zip(module.named_parameters(), converted.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(k3c.__file__).parents[1])}


@pytest.mark.parametrize("name", ["weights_only.h5", "resnet8.weights.h5"])
def test_a_file_without_architecture_fills_the_torch_module(
    h5: Path, keras_model: keras.Model, converted: ResNet8, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name.endswith(".weights.h5"):
        keras_model.save_weights(path)
    else:
        with h5py.File(h5) as full, h5py.File(path, "w") as bare:
            for key in full["model_weights"]:
                full.copy(f"model_weights/{key}", bare, name=key)
            bare.attrs.update(full["model_weights"].attrs)
    module = ResNet8().eval()
    plan = k3c.align(module, path, inputs=np.zeros((2, 3, 32, 32), np.float32)).check()
    k3c.transfer(path, module, plan)
    for (key, ours), (_, theirs) in zip(module.state_dict().items(), converted.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), key
