"""Files of weights as models, and models as files: one module a format, and the same two verbs for all of them.

Reading looks at the structure before any data, never runs anything in a file, and gives one tensor at a time. Writing
goes beside the destination, which is replaced only by a whole file.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from keras3conv.errors import FileError, MalformedCheckpoint
from keras3conv.formats.keras import archive as keras_zip
from keras3conv.formats.keras import legacy_h5, weights_h5
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.atomic import digest, replacing
from keras3conv.formats.safe.source import Source, dtype_named
from keras3conv.formats.safetensors import file as safetensors_file
from keras3conv.formats.safetensors import index as safetensors_index
from keras3conv.formats.torch import checkpoint as torch_zip
from keras3conv.formats.torch import parts as torch_derived
from keras3conv.formats.torch import writer as torch_writer
from keras3conv.model.views import ModelView, Reader, Side, TensorRef
from keras3conv.report.values import WrittenFile
from keras3conv.transforms import Array

__all__ = ["WrittenFile", "digest", "read", "replacing", "side_of", "write"]

SUFFIXES = {
    ".safetensors.index.json": "safetensors index",
    ".safetensors": "safetensors",
    ".weights.h5": "weights h5",
    ".keras": "keras",
    ".hdf5": "legacy h5",
    ".h5": "legacy h5",
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
}
"""The formats by suffix. A `.h5` may be either of Keras' two: its content decides."""

_CONTENTS = {
    "safetensors index": "JSON",
    "safetensors": "safetensors",
    "weights h5": "HDF5",
    "legacy h5": "HDF5",
    "keras": "a Keras archive",
    "torch": "a torch checkpoint",
}
_READERS = {
    "safetensors index": safetensors_index.read,
    "safetensors": safetensors_file.read,
    "weights h5": weights_h5.read,
    "legacy h5": legacy_h5.read,
    "keras": keras_zip.read,
}
_WRITERS = {
    "safetensors": safetensors_file.write,
    "weights h5": weights_h5.write,
    "legacy h5": legacy_h5.write,
    "torch": torch_writer.write,
}


def side_of(path: str | os.PathLike[str]) -> Side:
    """Whose format a file name says: "torch" or "keras"; raises `FileError` for an unknown suffix."""
    return "torch" if _by_suffix(path).startswith(("torch", "safetensors")) else "keras"


def read(path: str | os.PathLike[str], *, entry: str = "") -> ModelView:
    """Reads the structure of a file of weights; the tensors are read when they are asked for, one at a time.

    Args:
        path: The file; its format is recognised.
        entry: Which of several state dicts in a torch checkpoint is meant.

    Raises:
        FileError: The file was refused; the subclasses say why.
    """
    expected, source = _by_suffix(path), Source.pin(path)
    found = _identify(expected, source)
    if entry and found != "torch":
        raise FileError(f"{path}: only a torch checkpoint has entries to choose from, not {found}")
    view = torch_zip.read(source, entry) if found == "torch" else _READERS[found](source)
    return torch_derived.joined(view) if view.side == "torch" else view


def write(
    path: str | os.PathLike[str],
    tensors: Sequence[TensorRef],
    read: Reader,
    *,
    template: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> WrittenFile:
    """Writes a file of weights, one tensor at a time; the destination is replaced when all are written.

    The same tensors always give the same bytes. In a torch checkpoint tied tensors stay tied; in safetensors every
    name has its own copy; in Keras' formats every tensor has one name.

    Args:
        path: The destination; its suffix says the format.
        tensors: Everything that the file shall hold, in the order of the model.
        read: Gives the values of a tensor by its path.
        template: A Keras file of the same format, from which everything but the weights is taken.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The file cannot be written as asked; an existing one is as it was.
    """
    destination, expected = Path(path), _by_suffix(path)
    _check_names(tensors, destination)
    checked = _checked(tensors, read)
    if template is None and expected not in _WRITERS:
        raise FileError(f"{path}: {_CONTENTS[expected]} is written from a template\nFix:  template=an existing file")
    try:
        with replacing(destination, overwrite=overwrite) as temporary:
            if template is None:
                _WRITERS[expected](temporary, tensors, checked)
            else:
                _fill_template(temporary, Path(template), expected, tensors, checked)
    except OSError as error:
        raise FileError(f"{path} could not be written, and is as it was: {error}") from error
    return digest(destination)


def _fill_template(path: Path, template: Path, expected: str, tensors: Sequence[TensorRef], read: Reader) -> None:
    source = Source.pin(template)
    found = _identify(_by_suffix(template), source)
    same = _CONTENTS[found] == _CONTENTS[expected]
    if found not in ("keras", "weights h5", "legacy h5") or not same:
        raise FileError(f"{template} is {_CONTENTS[found]}: no template for {_CONTENTS[expected]}")
    places = keras_zip.check_inventory(tensors, _READERS[found](source))
    if found == "keras":
        keras_zip.rewrite(path, source, places, read)
        return
    with source.unchanged() as name:
        shutil.copyfile(name, path)
    with hdf5.opened(path, str(template), "r+") as file:
        hdf5.overwrite_datasets(file, places, read, str(template))


def _check_names(tensors: Sequence[TensorRef], destination: Path) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.path in seen:
            raise FileError(f"{destination}: two tensors are called {tensor.path!r}")
        seen.add(tensor.path)
        try:
            tensor.path.encode()
        except UnicodeEncodeError:
            raise FileError(f"{destination}: {tensor.path!r} is no name that a file can hold") from None


def _checked(tensors: Sequence[TensorRef], read: Reader) -> Reader:
    """The reader, whose arrays must be what the inventory says: a file's header is written before its data."""
    inventory = {tensor.path: tensor for tensor in tensors}

    def checked(path: str) -> Array:
        array, tensor = read(path), inventory[path]
        if array.shape != tensor.shape or array.dtype.name != tensor.dtype:
            raise FileError(f"{path} is declared {tensor.dtype} {tensor.shape}, and is {array.dtype} {array.shape}")
        return array.astype(dtype_named(tensor.dtype), copy=False)  # little-endian, whatever it was

    return checked


def _by_suffix(path: str | os.PathLike[str]) -> str:
    name = Path(path).name.lower()
    for suffix, expected in SUFFIXES.items():
        if name.endswith(suffix):
            return expected
    if name.endswith(".onnx"):
        raise FileError(
            f"{os.fspath(path)} is an ONNX file: it is compared with another one, and read as no checkpoint\n"
            "Fix:  k3c.compare_onnx(first, second)"
        )
    raise FileError(f"{os.fspath(path)}: the suffix is none of {', '.join(SUFFIXES)}")


def _identify(expected: str, source: Source) -> str:
    with source.open() as file:
        start = file.read(16)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        content = "HDF5"
    elif start.startswith(b"PK\3\4"):
        content = _archive(expected, source)
    elif expected == "torch" and start[:1] == b"\x80":  # a pickle: how torch saved before 1.6
        content = "a torch checkpoint"
    elif expected == "safetensors index":
        content = "JSON"
    elif expected == "safetensors" or start[8:9] == b"{":
        content = "safetensors"
    else:
        raise MalformedCheckpoint(f"{source.path} is no {_CONTENTS[expected]}, nor any other file of weights")
    if expected == "keras" and content == "HDF5":  # what TensorFlow up to 2.11 wrote under this suffix
        return _flavour(source)
    if content != _CONTENTS[expected]:
        raise MalformedCheckpoint(f"{source.path} holds {content}, its suffix says {_CONTENTS[expected]}")
    return _flavour(source) if content == "HDF5" else expected


def _archive(expected: str, source: Source) -> str:
    """Whose archive it is; a broken one is left to the reader of what the suffix says."""
    if expected not in ("keras", "torch"):
        return "a zip archive"
    with source.open() as file:
        head = file.read(1 << 12)
    if expected == "keras" and b"data.pkl" in head:
        return "a torch checkpoint"
    if expected == "torch" and (b"config.json" in head or b"model.weights.h5" in head):
        return "a Keras archive"
    return _CONTENTS[expected]


def _flavour(source: Source) -> str:
    """Which of Keras' two ways to use HDF5: the older one has a list of layers."""
    with source.unchanged() as path, hdf5.opened(path, str(source.path)) as file:
        listed = any(name in file.attrs for name in ("layer_names", "layer_names0"))
        return "legacy h5" if listed or legacy_h5.WEIGHTS in file else "weights h5"
