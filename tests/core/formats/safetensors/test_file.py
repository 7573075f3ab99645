import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, FileError, IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint
from keras3conv.model.views import TensorRef

DTYPES = ["bool", "uint8", "int64", "uint16", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64"]


def stored(path: Path, header: Any, body: bytes = b"", length: int | None = None, raw: bytes | None = None) -> Path:
    raw = json.dumps(header).encode() if raw is None else raw
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + body)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def ref(name: str, array: np.ndarray[Any, Any]) -> TensorRef:
    return TensorRef(path=name, role=name.rpartition(".")[2], shape=array.shape, dtype=array.dtype.name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5)])
def test_every_dtype_and_shape_is_written_and_read_bit_for_bit(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    array = np.random.default_rng(7).integers(0, 2, (*shape, kind.itemsize), np.uint8).view(kind).reshape(shape)
    path = tmp_path / "x.safetensors"
    formats.write(path, [ref("a.weight", array)], lambda _: array)
    view = formats.read(path)
    assert [tensor.dtype for tensor in view.tensors()] == [dtype]
    assert view.read("a.weight").tobytes() == array.tobytes()
    assert view.read("a.weight").shape == shape


def test_layers_are_the_prefixes_of_the_keys(tmp_path: Path) -> None:
    array = np.zeros(2, np.float32)
    names = ["stem.weight", "stem.bias", "scale", "bn.running_mean"]
    formats.write(tmp_path / "x.safetensors", [ref(name, array) for name in names], lambda _: array)
    view = formats.read(tmp_path / "x.safetensors")
    assert [(layer.path, tuple(layer.shapes)) for layer in view.layers] == [
        ("stem", ("weight", "bias")),
        ("", ("scale",)),
        ("bn", ("running_mean",)),
    ]
    assert [tensor.trainable for tensor in view.tensors()] == [True, True, True, False]


def test_files_are_exchanged_with_the_safetensors_library(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays: dict[str, np.ndarray[Any, Any]] = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.é": np.array(3, np.int64),
    }
    formats.write(tmp_path / "ours.safetensors", [ref(k, v) for k, v in arrays.items()], arrays.__getitem__)
    save_file(arrays, tmp_path / "theirs.safetensors", {"format": "np"})
    theirs, view = load_file(tmp_path / "ours.safetensors"), formats.read(tmp_path / "theirs.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(view.read(name), array)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({"a": entry()}, bytes(9)),
        ({"a": entry()}, bytes(7)),
        ({"a": entry(shape=[3])}, bytes(8)),
        ({"a": entry(), "b": entry()}, bytes(8)),
        ({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)),
        ({"a": entry(data_offsets=[-8, 0])}, bytes(8)),
        ({"a": entry(data_offsets=[0.0, 8])}, bytes(8)),
        ({"a": entry(data_offsets=["0", "8"])}, bytes(8)),
        ({"a": entry(data_offsets=[0, 4, 8])}, bytes(8)),
        ({"a": entry(shape=[True, 2])}, bytes(8)),
        ({"a": entry(shape=[2.0])}, bytes(8)),
        ({"a": entry(shape=[4194305, 4194305, 211106198978564], data_offsets=[0, 16])}, bytes(16)),
        ({"a": entry(shape=[2**33, 2**33])}, bytes(8)),
        ({"a": entry(shape=[0, 2**62], data_offsets=[0, 0])}, b""),
        ({"a": entry(shape=[1] * 33, dtype="U8", data_offsets=[0, 1])}, bytes(1)),
        ({"a": entry(dtype="F4")}, bytes(8)),
        ({"a": entry(more=1)}, bytes(8)),
        ({"a": [1]}, bytes(8)),
        ({"__metadata__": {"format": 1}, "a": entry()}, bytes(8)),
        ({"é": entry(), "e\u0301": entry(data_offsets=[8, 16])}, bytes(16)),
    ],
)
def test_a_header_that_does_not_describe_the_file_is_malformed(tmp_path: Path, header: Any, body: bytes) -> None:
    with pytest.raises(MalformedCheckpoint, match=r"x\.safetensors"):
        formats.read(stored(tmp_path / "x.safetensors", header, body))


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b" {}",
        b'{"a":NaN}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":1e999}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"\xff":1}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_a_header_that_is_not_plain_json_is_malformed(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(MalformedCheckpoint):
        formats.read(stored(tmp_path / "x.safetensors", None, bytes(8), raw=raw))


@pytest.mark.parametrize("length", [0, 1, 10**6, 10**8 + 1, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_never_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(MalformedCheckpoint, match="does not fit"):
        formats.read(stored(tmp_path / "x.safetensors", {"a": entry()}, bytes(8), length=length))


def test_too_many_tensors_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    raw = b"{" + b",".join(b'"%d":{"data_offsets":0}' % number for number in range(200_001)) + b"}"
    with pytest.raises(BudgetExceeded, match="200,001 tensors"):
        formats.read(stored(tmp_path / "x.safetensors", None, raw=raw))


def test_a_file_truncated_at_any_byte_is_malformed(tmp_path: Path) -> None:
    whole = stored(tmp_path / "whole.safetensors", {"a": entry()}, bytes(8)).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x.safetensors").write_bytes(whole[:length])
        with pytest.raises(MalformedCheckpoint):
            formats.read(tmp_path / "x.safetensors")


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "x.safetensors", {"a": entry()}, bytes(8))
    view = formats.read(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises(MalformedCheckpoint, match="changed while it was in use"):
        view.read("a")


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    view = formats.read(stored(tmp_path / "x.safetensors", {"a": entry()}, bytes(8)))
    with pytest.raises(FileError, match="no tensor 'b'"):
        view.read("b")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4, unique=True))
def test_names_never_touch_the_file_system(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    array = np.ones(2, np.float32)
    try:
        formats.write(folder / "x.safetensors", [ref(name, array) for name in names], lambda _: array)
        view = formats.read(folder / "x.safetensors")
        assert sorted(tensor.path for tensor in view.tensors()) == sorted(names)
    except FileError:
        pass
    assert {path.name for path in folder.iterdir()} <= {"x.safetensors"}


def sharded(folder: Path, weight_map: Any) -> Path:
    stored(folder / "1.safetensors", {"a": entry()}, np.array([1, 2], np.float32).tobytes())
    stored(folder / "2.safetensors", {"b": entry()}, np.array([3, 4], np.float32).tobytes())
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map}))
    return path


def test_a_model_in_shards_is_one_model(tmp_path: Path) -> None:
    view = formats.read(sharded(tmp_path, {"b": "2.safetensors", "a": "1.safetensors"}))
    assert [tensor.path for tensor in view.tensors()] == ["b", "a"]
    assert view.read("b").tolist() == [3, 4]
    assert "warning" not in view.facts


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "C:\\x", "a\\..\\b", "\0", "", 5, None, ["x"]])
def test_a_shard_in_another_folder_is_unsafe(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"'a' is in"):
        formats.read(sharded(tmp_path, {"a": name}))


def test_a_shard_that_is_a_link_out_of_the_folder_is_unsafe(tmp_path: Path) -> None:
    path = sharded(tmp_path, {"a": "3.safetensors"})
    (tmp_path / "3.safetensors").symlink_to(tmp_path / "1.safetensors")
    with pytest.raises(UnsafeCheckpoint, match="is a link"):
        formats.read(path)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "3.safetensors"}, "is missing"),
        ({"a": "2.safetensors"}, "the shards lack tensors that the index lists: a"),
    ],
)
def test_a_missing_shard_or_tensor_is_incomplete(tmp_path: Path, weight_map: Any, message: str) -> None:
    with pytest.raises(IncompleteCheckpoint, match=message):
        formats.read(sharded(tmp_path, weight_map))


def test_a_tensor_that_the_index_does_not_list_is_malformed(tmp_path: Path) -> None:
    path = sharded(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    stored(tmp_path / "1.safetensors", {"a": entry(), "c": entry(data_offsets=[8, 16])}, bytes(16))
    with pytest.raises(MalformedCheckpoint, match="also contains c"):
        formats.read(path)
