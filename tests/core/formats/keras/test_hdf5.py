import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras3conv import formats
from keras3conv.errors import FileError, IncompleteCheckpoint, MalformedCheckpoint
from keras3conv.formats.keras import architecture as keras_config
from keras3conv.formats.keras import names as keras_names
from keras3conv.model.views import TensorRef
from tests.support.hdf5_files import KERNEL, archive, dense, legacy, paths, weights


def test_a_weight_file_has_names_classes_and_roles(tmp_path: Path) -> None:
    view = formats.read(weights(tmp_path))
    assert [(layer.path, layer.kinds, list(layer.shapes)) for layer in view.layers] == [
        ("head", ("keras.layers.Dense",), ["kernel", "bias"])
    ]
    assert view.read("head/kernel").tolist() == np.arange(12).reshape(4, 3).tolist()
    assert [tensor.location for tensor in view.tensors()] == [KERNEL, "layers/dense/vars/1"]


def test_layers_of_a_file_without_names_have_the_names_of_their_groups(tmp_path: Path) -> None:
    def nameless(file: h5py.File) -> None:
        file["layers/dense/vars/0"] = np.ones((4, 3), np.float32)
        del file["layers/dense/vars"].attrs["name"]
        file["layers/bidirectional/forward_layer/cell/vars/0"] = np.ones(2, np.float32)
        file["layers/bidirectional/vars/0"] = np.ones(2, np.float32)

    view = formats.read(weights(tmp_path, nameless))
    assert paths(view) == ["bidirectional/0", "bidirectional/cell/0", "dense/kernel", "dense/bias"]


def test_all_layers_of_a_block_are_before_those_of_the_next_block(tmp_path: Path) -> None:
    names = [f"{block}/{part}" for block in ("block", "block_1", "block_2", "block_10") for part in ("a", "b_1")]

    def blocks(file: h5py.File) -> None:
        file["layers/dense/vars/0"] = np.ones((4, 3), np.float32)
        for name in names:
            file[f"layers/{name}/vars/0"] = np.ones((4, 3), np.float32)

    view = formats.read(weights(tmp_path, blocks))
    found = [tensor.location for tensor in view.tensors() if "block" in tensor.location]
    assert found == [f"layers/{name}/vars/0" for name in names]


def test_layers_that_share_a_name_have_the_names_of_their_groups(tmp_path: Path) -> None:
    def twins(file: h5py.File) -> None:
        for group in (KERNEL, "layers/dense_1/vars/0", "layers/dense_10/vars/0", "layers/dense_2/vars/0"):
            file[group] = np.ones((4, 3), np.float32)
            file[group].parent.attrs["name"] = "head" if group != "layers/dense_10/vars/0" else "last"

    view = formats.read(weights(tmp_path, twins))
    assert [layer.path for layer in view.layers] == ["layers/dense", "layers/dense_1", "layers/dense_2", "last"]


def test_variables_with_unknown_roles_have_numbers(tmp_path: Path) -> None:
    def unknown(file: h5py.File) -> None:
        dense(file) if KERNEL not in file and "layers" not in file else file.create_dataset(
            KERNEL, data=np.ones((2, 3))
        )
        for number in range(3):
            file[f"layers/batch_normalization/vars/{number}"] = np.ones(3)
            file[f"layers/my_block/vars/{number}"] = np.ones(3)

    by_path = {layer.path: layer for layer in formats.read(weights(tmp_path, unknown)).layers}
    assert list(by_path["batch_normalization"].shapes) == ["0", "1", "2"]
    assert by_path["my_block"].kinds == ()


@pytest.mark.parametrize(
    ("name", "config", "count", "expected"),
    [
        ("Conv2D", None, 1, ("kernel",)),
        ("Conv2D", None, 3, ("0", "1", "2")),
        ("BatchNormalization", None, 2, ("moving_mean", "moving_variance")),
        ("BatchNormalization", {"scale": False}, 3, ("beta", "moving_mean", "moving_variance")),
        ("BatchNormalization", {"center": False}, 3, ("gamma", "moving_mean", "moving_variance")),
        ("LayerNormalization", None, 1, ("0",)),
        ("LayerNormalization", {"center": False}, 1, ("gamma",)),
        ("SeparableConv2D", {"use_bias": False}, 2, ("depthwise_kernel", "pointwise_kernel")),
        ("RMSNormalization", {}, 1, ("scale",)),
        ("MyLayer", {}, 1, ("0",)),
    ],
)
def test_roles_follow_the_class_the_count_and_the_configuration(
    name: str, config: dict[str, Any] | None, count: int, expected: tuple[str, ...]
) -> None:
    assert keras_names.roles(name, [(3,)] * count, config) == expected


def test_the_names_of_keras_2_become_the_names_of_keras_3(tmp_path: Path) -> None:
    path = legacy(
        tmp_path,
        conv2d=["conv2d/kernel:0", "conv2d/bias:0"],
        bidirectional=["bidirectional/forward_lstm/lstm_cell/kernel:0"],
        last=["net/last/gamma:0"],
        empty=[],
    )
    with h5py.File(path, "r+") as file:
        file["top_level_model_weights/scale:0"] = np.ones(1)
        file["top_level_model_weights"].attrs["weight_names"] = ["scale:0"]
    view = formats.read(path)
    assert paths(view) == [
        "conv2d/kernel",
        "conv2d/bias",
        "bidirectional/forward_lstm/lstm_cell/kernel",
        "last/gamma",
        "scale",
    ]
    assert view.read("conv2d/bias").tolist() == [1, 1]
    assert view.layers[0].kinds == ("keras.layers.Conv2D",)


def test_a_weight_that_is_listed_but_missing_is_incomplete(tmp_path: Path) -> None:
    path = legacy(tmp_path, conv2d=["conv2d/kernel:0"])
    with h5py.File(path, "r+") as file:
        file["conv2d"].attrs["weight_names"] = ["conv2d/kernel:0", "conv2d/bias:0"]
    with pytest.raises(IncompleteCheckpoint, match=r"lists .*conv2d/bias:0', but has no dataset"):
        formats.read(path)
    with h5py.File(path, "r+") as file:
        file["conv2d"].attrs["weight_names"] = ["conv2d/kernel:0"]
        file.attrs["layer_names"] = ["conv2d", "dense"]
    with pytest.raises(IncompleteCheckpoint, match="lists the layer 'dense', but has no group"):
        formats.read(path)


@pytest.mark.parametrize("names", [np.zeros(3), np.zeros((2, 2), "S3"), 3])
def test_a_list_of_layers_of_another_type_is_malformed(tmp_path: Path, names: Any) -> None:
    path = legacy(tmp_path, conv2d=["conv2d/kernel:0"])
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = names
    with pytest.raises(MalformedCheckpoint, match="neither text nor a list of names"):
        formats.read(path)


def test_hdf5_without_a_keras_model_is_malformed(tmp_path: Path) -> None:
    for name in ("x.h5", "x.weights.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["table"] = np.ones(3)
        with pytest.raises(MalformedCheckpoint, match="contains no weights of a Keras model"):
            formats.read(tmp_path / name)


@pytest.mark.slow
def test_long_lists_of_names_are_split_and_joined(tmp_path: Path) -> None:
    tensors = [TensorRef(path=f"{'x' * 120}{n}/kernel", role="kernel", shape=(1,)) for n in range(700)]
    formats.write(tmp_path / "x.h5", tensors, lambda _: np.ones(1, np.float32))
    assert paths(formats.read(tmp_path / "x.h5")) == [tensor.path for tensor in tensors]


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_bfloat16_and_scalars_come_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    import ml_dtypes

    arrays = {
        "a/kernel": np.array([[1.5, -0.0]], ml_dtypes.bfloat16),
        "a/count": np.array(3, np.int64),
        "a/empty": np.zeros((0, 2), np.float32),
    }
    tensors = [
        TensorRef(path=path, role=path[2:], shape=a.shape, dtype=a.dtype.name, location=f"layers/a/vars/{number}")
        for number, (path, a) in enumerate(arrays.items())
    ]
    formats.write(tmp_path / f"x{suffix}", tensors, arrays.__getitem__)
    view = formats.read(tmp_path / f"x{suffix}")
    for tensor, array in zip(view.tensors(), arrays.values(), strict=True):
        result = view.read(tensor.path)
        assert (result.dtype, result.shape, result.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_tensor_without_a_location_is_named(tmp_path: Path) -> None:
    tensor = TensorRef(path="dense/kernel", role="kernel", shape=(1,))
    with pytest.raises(FileError, match="dense/kernel needs a location"):
        formats.write(tmp_path / "x.weights.h5", [tensor], lambda _: np.ones(1, np.float32))


def test_a_template_keeps_everything_except_the_weights(tmp_path: Path) -> None:
    for path in (weights(tmp_path), archive(tmp_path)):
        with_suffix = tmp_path / f"new{''.join(path.suffixes)}"
        view = formats.read(path)
        doubled = formats.write(with_suffix, list(view.tensors()), lambda p, v=view: 2 * v.read(p), template=path)
        again = formats.read(with_suffix)
        assert again.layers == view.layers
        assert again.read("head/bias").tolist() == [0, 2, 4]
        assert doubled.size == path.stat().st_size or path.suffix == ".keras"
        assert view.read("head/bias").tolist() == [0, 1, 2]
        repeated = formats.write(
            with_suffix, list(view.tensors()), lambda p, v=view: 2 * v.read(p), template=path, overwrite=True
        )
        assert repeated.sha256 == doubled.sha256


def test_a_template_is_not_opened_by_the_hdf5_library_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (weights(tmp_path), archive(tmp_path)):
        view = formats.read(path)
        with monkeypatch.context() as patch:
            patch.setattr(h5py, "File", lambda *_: pytest.fail("h5py.File was called"))
            new = tmp_path / f"new{''.join(path.suffixes)}"
            formats.write(new, list(view.tensors()), lambda p, v=view: 3 * v.read(p), template=path)
        assert formats.read(new).read("head/bias").tolist() == [0, 3, 6]


def test_a_compressed_template_is_refused(tmp_path: Path) -> None:
    def plant(file: h5py.File) -> None:
        values = np.zeros((4, 3), np.float32)
        file["layers/dense/vars"].create_dataset("0", data=values, compression="gzip")

    path = weights(tmp_path, plant)
    view = formats.read(path)
    with pytest.raises(FileError, match=r"is compressed(.|\n)*Fix:  h5repack"):
        formats.write(tmp_path / "new.weights.h5", list(view.tensors()), view.read, template=path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_template_must_hold_exactly_the_tensors(tmp_path: Path) -> None:
    path = weights(tmp_path)
    kernel, bias = formats.read(path).tensors()
    wrong = TensorRef(path="head/bias", role="bias", shape=(4,))
    other = TensorRef(path="other/bias", role="bias", shape=(3,))
    for tensors, message in [
        ([kernel], "has tensors for which there are no new values: head/bias"),
        ([kernel, wrong], r"has a tensor of shape \(3,\) under this name"),
        ([kernel, bias, other], "has no such tensor"),
    ]:
        with pytest.raises(FileError, match=message):
            formats.write(tmp_path / "new.weights.h5", tensors, lambda _: np.ones(3), template=path)
    assert list(tmp_path.iterdir()) == [path]


def test_layers_run_in_the_order_of_the_graph_and_not_of_the_list() -> None:
    def layer(name: str, *sources: str, kind: str = "Dense") -> dict[str, Any]:
        nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
        return {"class_name": kind, "name": name, "config": {"name": name}, "inbound_nodes": nodes}

    layers = [layer("c", "b", "a"), layer("b", "a"), layer("a", "in"), layer("in", kind="InputLayer")]
    parsed = keras_config.parse({"class_name": "Model", "config": {"layers": layers}}, "x")
    assert sorted(parsed.places, key=parsed.places.__getitem__) == ["in", "a", "b", "c"]
    layers[3]["inbound_nodes"] = [[["c", 0, 0, {}]]]
    with pytest.raises(MalformedCheckpoint, match="depend on each other in a cycle"):
        keras_config.parse({"class_name": "Model", "config": {"layers": layers}}, "x")


def test_a_layer_that_is_called_twice_runs_twice() -> None:
    layers = [
        {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, 2]}, "inbound_nodes": []},
        {
            "class_name": "Dense",
            "config": {"name": "shared"},
            "inbound_nodes": [[["in", 0, 0, {}]], [["shared", 0, 0, {}]]],
        },
    ]
    parsed = keras_config.parse({"class_name": "Functional", "config": {"layers": layers}}, "x")
    assert parsed.places == {"in": (0,), "shared": (1, 2)}


@pytest.mark.slow
def test_reading_and_writing_import_no_framework(tmp_path: Path) -> None:
    paths_ = [weights(tmp_path), archive(tmp_path), legacy(tmp_path, conv2d=["conv2d/kernel:0"])]
    program = (
        "import sys; from keras3conv import formats\n"
        "for path in sys.argv[1:]:\n"
        "    view = formats.read(path)\n"
        "    tensors = list(view.tensors())\n"
        "    [view.read(tensor.path) for tensor in tensors]\n"
        "    formats.write(path + '.safetensors', tensors, view.read)\n"
        "    formats.read(path + '.safetensors')\n"
        "assert not {'torch', 'keras', 'tensorflow', 'jax'} & set(sys.modules)\n"
    )
    root = Path(formats.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, *map(str, paths_)], check=True, cwd=root)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3, unique=True))
def test_names_in_hdf5_never_touch_the_file_system(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    tensors = [TensorRef(path=f"{name}/kernel", role="kernel", shape=(1,)) for name in names]
    try:
        formats.write(folder / "x.h5", tensors, lambda _: np.ones(1, np.float32))
        formats.read(folder / "x.h5")
    except FileError:
        pass
    assert {path.name for path in folder.iterdir()} <= {"x.h5"}


def test_the_resnet_of_mlperf_tiny_is_read_completely(shared: Path) -> None:
    view = formats.read(shared / "mlperf_tiny_resnet8.h5")
    kinds = [layer.kind.rpartition(".")[2] for layer in view.layers]
    counts = {kind: kinds.count(kind) for kind in ("Conv2D", "BatchNormalization", "Add", "Flatten", "Dense")}
    assert counts == {"Conv2D": 9, "BatchNormalization": 7, "Add": 3, "Flatten": 1, "Dense": 1}
    assert view.input_specs[0].shape == (None, 32, 32, 3)
    assert view.facts["written by Keras"] == "2.4.0"
    assert [layer.path for layer in view.layers if layer.run.calls == (5,)] == ["batch_normalization_1"]
    with h5py.File(shared / "mlperf_tiny_resnet8.h5") as file:
        for tensor in view.tensors():
            np.testing.assert_array_equal(view.read(tensor.path), file[tensor.location][()])
    assert len(paths(view)) == 9 * 2 + 7 * 4 + 2
