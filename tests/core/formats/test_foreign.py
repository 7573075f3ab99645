"""Files and folders of other software are recognized by their content, and the error contains a fix."""

import zipfile
from pathlib import Path

import pytest

from keras3conv import formats
from keras3conv.errors import FileError

FILES = {
    "x.safetensors": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "pointer of Git LFS(.|\n)*git lfs pull",
    ),
    "x.pt": (b"<!DOCTYPE html><html>", "is a web page"),
    "x.gguf": (b"GGUF\3\0\0\0" + bytes(100), "is a GGUF file"),
    "y.bin": (b"GGUF\3\0\0\0" + bytes(100), "is a GGUF file"),
    "flax_model.msgpack": (b"\x81\xa6params\x82\xa5dense", "msgpack file of Flax(.|\n)*safetensors.flax"),
    "x.keras": (b"\x1f\x8b\x08" + bytes(50), "compressed by gzip"),
    "x.ckpt": (bytes(257) + b"ustar" + bytes(300), "is a tar archive"),
    "model.ckpt-100.index": (bytes(100), "is not a TensorFlow checkpoint"),
    "model.data-00000-of-00001": (bytes(100), "values of a checkpoint of TensorFlow, but not its index"),
}
FOLDERS = {
    "deepspeed": (["latest", "zero_to_fp32.py", "mp_rank_00_model_states.pt"], "DeepSpeed(.|\n)*zero_to_fp32.py"),
    "dcp": ([".metadata", "__0_0.distcp"], "torch.distributed.checkpoint(.|\n)*dcp_to_torch"),
    "saved_model": (["saved_model.pb", "keras_metadata.pb"], r"SavedModel of TensorFlow without its weights"),
    "orbax": (["_CHECKPOINT_METADATA", "manifest.ocdbt"], "checkpoint of Orbax"),
    "tensorflow": (["checkpoint", "ckpt.data-00000-of-00001"], "checkpoint of TensorFlow, but not its index"),
    "two of tensorflow": (["a.index", "a.data-00000-of-00001", "b.index"], r"weight files in it: a\.index, b\.index"),
    "two files": (["a.pt", "b.pt"], r"weight files in it: a\.pt, b\.pt"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_other_software_is_recognized(tmp_path: Path, name: str) -> None:
    content, says = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=says):
        formats.read(tmp_path / name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_other_software_is_recognized(tmp_path: Path, name: str) -> None:
    names, says = FOLDERS[name]
    for inside in names:
        (tmp_path / inside).write_bytes(b"x")
    with pytest.raises(FileError, match=says):
        formats.read(tmp_path)


ARCHIVES = {
    "scripted.pt": (
        ["net/data.pkl", "net/code/__torch__.py", "net/constants.pkl"],
        r"TorchScript(.|\n)*torch\.jit\.load",
    ),
    "arrays.npz": (["weight.npy", "bias.npy"], r"\.npz archive of numpy arrays(.|\n)*safetensors\.numpy\.save_file"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_of_other_software_is_recognized(tmp_path: Path, name: str) -> None:
    names, says = ARCHIVES[name]
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in names:
            archive.writestr(inside, b"x" * 100)
    with pytest.raises(FileError, match=says):
        formats.read(tmp_path / name)
