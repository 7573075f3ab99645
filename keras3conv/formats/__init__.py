"""Read and write weight files. Each file format has a module; `read` and `write` choose the module for a file.

`read` checks the structure of a file before its data, never runs code from the file, and loads one tensor at a time.
`write` writes a temporary file in the same folder, which replaces the destination only when it is complete.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from keras3conv.errors import FileError, MalformedCheckpoint, listed
from keras3conv.formats.keras import archive, legacy_h5, weights_h5
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.atomic import digest, replacing
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import Source, dtype_named
from keras3conv.formats.safetensors import file as safetensors_file
from keras3conv.formats.safetensors import index as safetensors_index
from keras3conv.formats.torch import checkpoint, parts
from keras3conv.formats.torch import index as torch_index
from keras3conv.formats.torch import writer as torch_writer
from keras3conv.model.views import ModelView, Reader, Side, TensorRef
from keras3conv.report.values import WrittenFile
from keras3conv.transforms import Array

__all__ = ["WrittenFile", "digest", "read", "replacing", "side_of", "write"]

SUFFIXES = {
    ".safetensors.index.json": "safetensors index",
    ".bin.index.json": "torch index",
    ".safetensors": "safetensors",
    ".weights.h5": "weights h5",
    ".keras": "keras",
    ".hdf5": "legacy h5",
    ".h5": "legacy h5",
    ".pth": "torch",
    ".pt": "torch",
    ".pth.tar": "torch",
    ".ckpt": "torch",
    ".bin": "torch",
}
"""The format by suffix. A `.h5` file may have either of Keras' HDF5 formats, which `_hdf5_format` tells apart."""

_CONTENTS = {
    "safetensors index": "JSON",
    "torch index": "JSON",
    "safetensors": "safetensors",
    "weights h5": "HDF5",
    "legacy h5": "HDF5",
    "keras": "a Keras archive",
    "torch": "a torch checkpoint",
}
_READERS = {
    "safetensors index": safetensors_index.read,
    "torch index": torch_index.read,
    "safetensors": safetensors_file.read,
    "weights h5": weights_h5.read,
    "legacy h5": legacy_h5.read,
    "keras": archive.read,
}
_WRITERS = {
    "safetensors": safetensors_file.write,
    "weights h5": weights_h5.write,
    "legacy h5": legacy_h5.write,
    "torch": torch_writer.write,
}


def side_of(path: str | os.PathLike[str]) -> Side:
    """Return the framework of a file: "torch" or "keras". A folder counts as the weight file in it.

    Raises:
        FileError: Neither the suffix nor the content of the file tells.
    """
    return "torch" if _expected(_file_of(path)).startswith(("torch", "safetensors")) else "keras"


def read(path: str | os.PathLike[str], *, entry: str = "") -> ModelView:
    """Return a view of the model in a weight file; `ModelView.read` loads the tensors, one at a time.

    Args:
        path: The file, or a folder that contains one model. The suffix and the content determine the format.
        entry: The name of the state dict to read, if a torch checkpoint contains several.

    Raises:
        FileError: The file cannot be read; see the subclasses for the reasons.
    """
    path = _file_of(path)
    source = Source.pin(path)
    found = _identify(_expected(path), source)
    if entry and found != "torch":
        raise FileError(f"{path}: an entry can be chosen only in a torch checkpoint, and the format is {found}")
    view = checkpoint.read(source, entry) if found == "torch" else _READERS[found](source)
    return parts.joined(view) if view.side == "torch" else view


def write(
    path: str | os.PathLike[str],
    tensors: Sequence[TensorRef],
    read: Reader,
    *,
    template: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> WrittenFile:
    """Write a weight file, one tensor at a time, and replace the destination when it is complete.

    The same tensors always give the same bytes. In a torch checkpoint tied weights stay tied. In safetensors each of
    them is stored as a copy. In the Keras formats every tensor has only one name.

    Args:
        path: The destination; its suffix determines the format.
        tensors: All tensors of the file, in the order of the model.
        read: A function that returns the values of the tensor with a path.
        template: A Keras file of the same format, from which everything except the weights is copied.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The file cannot be written; an existing file is unchanged.
    """
    destination, expected = Path(path), _by_suffix(path)
    _check_names(tensors, destination)
    checked = _checked(tensors, read)
    if template is None and expected not in _WRITERS:
        raise FileError(f"{path}: writing {_CONTENTS[expected]} needs a template\nFix:  template=an existing file")
    try:
        with replacing(destination, overwrite=overwrite) as temporary:
            if template is None:
                _WRITERS[expected](temporary, tensors, checked)
            else:
                _fill_template(temporary, Path(template), expected, tensors, checked)
    except OSError as error:
        raise FileError(f"{path} could not be written, and is unchanged: {error}") from error
    return digest(destination)


def _fill_template(path: Path, template: Path, expected: str, tensors: Sequence[TensorRef], read: Reader) -> None:
    source = Source.pin(template)
    found = _identify(_by_suffix(template), source)
    if found not in ("keras", "weights h5", "legacy h5") or _CONTENTS[found] != _CONTENTS[expected]:
        raise FileError(f"{template} is {_CONTENTS[found]}, which is not a template for {_CONTENTS[expected]}")
    places = archive.check_inventory(tensors, _READERS[found](source))
    if found == "keras":
        archive.rewrite(path, source, places, read)
        return
    with source.unchanged() as name:
        shutil.copyfile(name, path)
    with hdf5.opened(path, str(template), "r+") as file:
        hdf5.overwrite_datasets(file, places, read, str(template))


def _check_names(tensors: Sequence[TensorRef], destination: Path) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.path in seen:
            raise FileError(f"{destination}: two tensors have the name {tensor.path!r}")
        seen.add(tensor.path)
        try:
            tensor.path.encode()
        except UnicodeEncodeError:
            raise FileError(
                f"{destination}: the name {tensor.path!r} is not valid Unicode, so it cannot be written to a file"
            ) from None


def _checked(tensors: Sequence[TensorRef], read: Reader) -> Reader:
    """Return a reader that raises `FileError` if an array differs in shape or dtype from its `TensorRef`.

    The header of a file is written before the data, so it would be wrong for such an array.
    """
    inventory = {tensor.path: tensor for tensor in tensors}

    def checked(path: str) -> Array:
        array, tensor = read(path), inventory[path]
        if array.shape != tensor.shape or array.dtype.name != tensor.dtype:
            raise FileError(f"{path} is declared {tensor.dtype} {tensor.shape}, but is {array.dtype} {array.shape}")
        return array.astype(dtype_named(tensor.dtype), copy=False)  # converts big-endian arrays to little-endian

    return checked


def _by_suffix(path: str | os.PathLike[str]) -> str:
    name = Path(path).name.lower()
    for suffix, expected in SUFFIXES.items():
        if name.endswith(suffix):
            return expected
    if name.endswith(".onnx"):
        raise FileError(
            f"{os.fspath(path)} is an ONNX file, which is not a checkpoint: compare it with another ONNX file\n"
            "Fix:  k3c.compare_onnx(first, second)"
        )
    raise FileError(f"{os.fspath(path)}: unknown suffix; the known ones are {', '.join(SUFFIXES)}")


def _expected(path: Path) -> str:
    """Return the format of a file by its suffix; if the suffix is unknown, by its content."""
    try:
        return _by_suffix(path)
    except FileError:
        if not os.path.isfile(path) or path.suffix == ".onnx":  # noqa: PTH113  # as above
            raise
        with Source.pin(path).open() as file:
            head = file.read(1 << 12)
        for expected, is_format in _SIGNATURES.items():
            if is_format(head):
                return expected
        raise


_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "legacy h5": lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"),
    "keras": lambda head: head.startswith(b"PK\3\4") and (b"config.json" in head or b"model.weights.h5" in head),
    "torch": lambda head: head.startswith((b"PK\3\4", checkpoint.LEGACY_MAGIC)),
    "safetensors": lambda head: head[8:9] == b"{",
}
"""For each format, a test of the first bytes of a file, for files with an unknown suffix."""


_IN_FOLDER = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "pytorch_model.bin",
)


def _file_of(path: str | os.PathLike[str]) -> Path:
    """Return the weight file of a folder, or the file itself."""
    found = Path(path)
    if not os.path.isdir(found):  # noqa: PTH112  # unlike `Path.is_dir`, false for a name that is too long
        return found
    try:
        files = [file for file in sorted(found.iterdir()) if file.name.lower().endswith(tuple(SUFFIXES))]
    except OSError as error:
        raise FileError(f"{found} cannot be listed: {error.strerror}") from error
    usual = [file for name in _IN_FOLDER for file in files if file.name == name]
    if usual or len(files) == 1:
        return (usual or files)[0]
    held = listed(file.name for file in files) or "none"
    raise FileError(f"{found} is a folder; weight files in it: {held}\nFix:  pass the path of one of the files")


def _identify(expected: str, source: Source) -> str:
    """Return the format of a file; raise `MalformedCheckpoint` if its content does not have the expected format."""
    with source.open() as file:
        start = file.read(16)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        content = "HDF5"
    elif start.startswith(b"PK\3\4"):
        content = _zip_content(expected, source)
    elif expected == "torch" and start[:1] == b"\x80":  # a pickle, the format before torch 1.6
        content = "a torch checkpoint"
    elif expected in ("safetensors index", "torch index"):
        content = "JSON"
    elif expected == "safetensors" or start[8:9] == b"{":
        content = "safetensors"
    else:
        raise MalformedCheckpoint(f"{source.path} is not {_CONTENTS[expected]}, nor any other weight file")
    if expected == "torch" and content == "safetensors":
        return content
    if expected == "keras" and content == "HDF5":  # what TensorFlow up to 2.11 wrote under this suffix
        return _hdf5_format(source)
    if content != _CONTENTS[expected]:
        raise MalformedCheckpoint(f"{source.path} contains {content}, but its suffix is that of {_CONTENTS[expected]}")
    return _hdf5_format(source) if content == "HDF5" else expected


def _zip_content(expected: str, source: Source) -> str:
    """Return the kind of a zip file: a Keras archive or a torch checkpoint; if unclear, what the suffix stands for."""
    if expected not in ("keras", "torch"):
        return "a zip archive"
    with source.open() as file:
        head = file.read(1 << 12)
    if expected == "keras" and b"data.pkl" in head:
        return "a torch checkpoint"
    if expected == "torch" and (b"config.json" in head or b"model.weights.h5" in head):
        return "a Keras archive"
    return _CONTENTS[expected]


def _hdf5_format(source: Source) -> str:
    """Return which of Keras' two HDF5 formats a file has: "legacy h5", which has a list of layers, or "weights h5"."""
    return "legacy h5" if Hdf5File(source).survey().is_legacy else "weights h5"
