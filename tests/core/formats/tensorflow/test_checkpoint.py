"""TensorFlow checkpoints are read without TensorFlow: names, order and values."""

from pathlib import Path

import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError, IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint
from keras3conv.formats.tensorflow.crc32c import crc32c, masked
from keras3conv.workflows.sources import files_of
from tests.support import tensorflow_files as files

KERNEL = np.arange(6, dtype="<f4").reshape(2, 3)
BIAS = np.ones(3, "<f4")


def paths(path: Path) -> list[str]:
    return [tensor.path for tensor in formats.read(path).tensors()]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 15, 16, 63, 64, 65, 1000, 5000])
def test_the_checksum_is_that_of_the_definition(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    assert masked(crc32c(data)) == files.checksum(data)


def test_a_checkpoint_of_keras_2_has_the_names_of_its_program_and_the_order_of_its_graph(tmp_path: Path) -> None:
    variables = {
        "layer_with_weights-10/kernel": KERNEL,
        "layer_with_weights-2/bias": BIAS,
        "layer_with_weights-2/kernel": KERNEL + 1,
    }
    names = dict(zip(variables, ("head/kernel", "stem/bias", "stem/kernel"), strict=True))
    view = formats.read(files.checkpoint(tmp_path, variables, names))
    assert [tensor.path for tensor in view.tensors()] == ["head/kernel", "stem/kernel", "stem/bias"]
    assert all(layer.is_ordered for layer in view.layers)
    assert np.array_equal(view.read("stem/kernel"), KERNEL + 1)


def test_variables_that_share_a_name_are_named_by_their_attributes(tmp_path: Path) -> None:
    variables = {"model/first/_kernel": KERNEL, "model/second/_kernel": KERNEL}
    assert paths(files.checkpoint(tmp_path, variables, dict.fromkeys(variables, "dense/kernel"))) == [
        "first/kernel",
        "second/kernel",
    ]


def test_the_variables_of_an_optimizer_are_named_as_left_out(tmp_path: Path) -> None:
    variables = {
        "dense/kernel": KERNEL,
        "opt/iter": np.array(3, "<i8"),
        "opt/learning_rate": np.array(0.5, "<f4"),
        "opt/m": KERNEL,
        "save_counter": np.array(1, "<i8"),
    }
    view = formats.read(files.checkpoint(tmp_path, variables, {}))
    assert [tensor.path for tensor in view.tensors()] == ["dense/kernel"]
    left = ("opt/iter", "opt/learning_rate", "opt/m", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH")
    assert all(name in view.facts["ignored"] for name in left)


def test_a_checkpoint_of_tensorflow_1_has_only_names(tmp_path: Path) -> None:
    variables = {
        "beta1_power": np.array(0.9, "<f4"),
        "conv1/biases": BIAS,
        "conv1/weights": KERNEL,
        "conv1/weights/Adam": KERNEL,
        "global_step": np.array(7, "<i8"),
    }
    view = formats.read(files.checkpoint(tmp_path, variables))
    assert [tensor.path for tensor in view.tensors()] == ["conv1/kernel", "conv1/bias"]
    assert not any(layer.is_ordered for layer in view.layers)


def test_layers_with_default_names_have_their_class(tmp_path: Path) -> None:
    view = formats.read(files.good(tmp_path))
    assert [layer.kind for layer in view.layers] == ["keras.layers.Dense"]


@pytest.mark.parametrize("dtype", [name for name in files.DTYPES if name != "bfloat16"])
def test_every_dtype_is_read_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1], [1, 0]]).astype(dtype)
    view = formats.read(files.checkpoint(tmp_path, {"a/kernel": values}))
    read = view.read("a/kernel")
    assert (read.dtype, read.tobytes()) == (values.dtype, values.tobytes())


def test_values_of_a_big_endian_machine_are_turned(tmp_path: Path) -> None:
    values = np.array([1, 2], ">f4").tobytes()
    entries = {"a/kernel": files.entry(checksum=files.checksum(values))}
    path = files.write(tmp_path, files.index(entries, files.header(order=1)), values)
    assert formats.read(path).read("a/kernel").tolist() == [1, 2]


@pytest.mark.parametrize("name", ["x", "x.index", "x.data-00000-of-00001", ""])
def test_a_checkpoint_is_named_by_its_prefix_its_files_or_its_folder(tmp_path: Path, name: str) -> None:
    files.good(tmp_path)
    assert paths(tmp_path / name) == ["dense/kernel", "dense/bias"]
    assert formats.side_of(tmp_path / name) == "keras"


def test_the_weights_of_a_saved_model_are_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"a graph that nobody runs")
    (tmp_path / "variables").mkdir()
    files.good(tmp_path / "variables").rename(tmp_path / "variables" / "variables.index")
    (tmp_path / "variables" / "x.data-00000-of-00001").rename(tmp_path / "variables" / "variables.data-00000-of-00001")
    assert paths(tmp_path) == ["dense/kernel", "dense/bias"]
    (tmp_path / "variables").rename(tmp_path / "elsewhere")
    (tmp_path / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeCheckpoint, match="is a link"):
        formats.read(tmp_path)


def test_the_source_in_a_manifest_has_all_files(tmp_path: Path) -> None:
    files.good(tmp_path)
    assert [path.name for path in files_of(tmp_path / "x")] == ["x.index", "x.data-00000-of-00001"]


def test_no_checkpoint_of_tensorflow_is_written(tmp_path: Path) -> None:
    view = formats.read(files.good(tmp_path))
    with pytest.raises(FileError, match="are read, and not written"):
        formats.write(tmp_path / "y.index", tuple(view.tensors()), view.read)


@pytest.mark.slow
def test_a_flip_of_any_byte_changes_no_value_unnoticed(tmp_path: Path) -> None:
    index = files.good(tmp_path)
    refused = 0
    for path in (index, index.with_name("x.data-00000-of-00001")):
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            try:
                view = formats.read(index)
                kernel, bias = view.read("dense/kernel"), view.read("dense/bias")
            except FileError:
                refused += 1
                continue
            assert np.array_equal(kernel, KERNEL)
            assert np.array_equal(bias, BIAS)
        path.write_bytes(content)
    assert refused > 500  # the rest is the counter, which is no weight, and what the index does not use


@pytest.mark.slow
def test_a_file_cut_off_at_any_byte_is_refused(tmp_path: Path) -> None:
    index = files.good(tmp_path)
    for path in (index, index.with_name("x.data-00000-of-00001")):
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises((MalformedCheckpoint, IncompleteCheckpoint)):
                formats.read(index)
        path.write_bytes(content)
