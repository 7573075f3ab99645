"""Determine the format of a weight file, by its suffix and its content."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from keras3conv.errors import FileError, MalformedCheckpoint, listed
from keras3conv.formats import foreign
from keras3conv.formats.keras import archive, legacy_h5, sharded, weights_h5
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safetensors import file as safetensors_file
from keras3conv.formats.safetensors import index as safetensors_index
from keras3conv.formats.tensorflow import file as tensorflow_file
from keras3conv.formats.tensorflow.places import index_in, index_of
from keras3conv.formats.tensorflow.table import is_table
from keras3conv.formats.torch import checkpoint
from keras3conv.formats.torch import index as torch_index
from keras3conv.model.views import ModelView

SUFFIXES = {
    ".safetensors.index.json": "safetensors index",
    ".bin.index.json": "torch index",
    ".safetensors": "safetensors",
    ".weights.json": "weights index",
    ".weights.h5": "weights h5",
    ".keras": "keras",
    ".hdf5": "legacy h5",
    ".h5": "legacy h5",
    ".pth": "torch",
    ".pt": "torch",
    ".pth.tar": "torch",
    ".ckpt": "torch",
    ".bin": "torch",
    ".index": "tensorflow",
}
"""The format by suffix; a `.h5` file may have either of Keras' two HDF5 formats, and `_hdf5_format` decides."""

CONTENTS = {
    "safetensors index": "JSON",
    "torch index": "JSON",
    "weights index": "JSON",
    "safetensors": "safetensors",
    "weights h5": "HDF5",
    "legacy h5": "HDF5",
    "keras": "a Keras archive",
    "torch": "a torch checkpoint",
    "tensorflow": "a TensorFlow checkpoint",
}
READERS: Mapping[str, Callable[[Source], ModelView]] = {
    "safetensors index": safetensors_index.read,
    "torch index": torch_index.read,
    "weights index": sharded.read,
    "safetensors": safetensors_file.read,
    "weights h5": weights_h5.read,
    "legacy h5": legacy_h5.read,
    "keras": archive.read,
    "torch": checkpoint.read,
    "tensorflow": tensorflow_file.read,
}


def is_architecture(model: object) -> bool:
    """Return True for the path of a `.json` that is no index of weights: the architecture that `to_json()` wrote."""
    name = Path(model).name.lower() if isinstance(model, str | Path) else ""
    return name.endswith(".json") and not name.endswith(tuple(SUFFIXES))


def by_suffix(path: str | os.PathLike[str]) -> str:
    """Return the format for the suffix of a path, a key of `READERS`: "torch" for ".ckpt", "keras" for ".keras".

    Raise `FileError` if the suffix is unknown.
    """
    name = Path(path).name.lower()
    for suffix, expected in SUFFIXES.items():
        if name.endswith(suffix):
            return expected
    if name.endswith(".onnx"):
        raise FileError(
            f"{os.fspath(path)} is an ONNX file, which is not a checkpoint: compare it with another ONNX file\n"
            "Fix:  k3c.compare_onnx(first, second)"
        )
    raise FileError(f"{os.fspath(path)} has an unknown suffix; the known ones are {', '.join(SUFFIXES)}")


def expected_format(path: Path) -> str:
    """Return the format that belongs to the suffix of a file ("torch" for ".pt"), a key of `READERS`.

    If the suffix is unknown, the first bytes of the file determine the format; if they do not, raise `FileError`.
    """
    try:
        return by_suffix(path)
    except FileError:
        if not os.path.lexists(path) and path.suffix != ".onnx":
            known = ", ".join(SUFFIXES)
            raise FileError(f"{path} does not exist, and has an unknown suffix; the known ones are {known}") from None
        if not os.path.isfile(path) or path.suffix == ".onnx":  # noqa: PTH113  # as in `file_of`
            raise
        with Source.pin(path).open() as file:
            head = file.read(1 << 12)
        for expected, is_format in _SIGNATURES.items():
            if is_format(head):
                return expected
        if message := foreign.file_message(path, head):
            raise FileError(message) from None
        raise


_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "legacy h5": lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"),
    "keras": lambda head: head.startswith(b"PK\3\4") and (b"config.json" in head or b"model.weights.h5" in head),
    "torch": lambda head: head.startswith((b"PK\3\4", checkpoint.LEGACY_MAGIC)),
    "safetensors": lambda head: head[8:9] == b"{",
}
"""For each format, a test of the first bytes of a file, for files with an unknown suffix."""


_INDEXES = (".safetensors.index.json", ".bin.index.json", ".weights.json")
_IN_FOLDER = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "pytorch_model.bin",
)


def file_of(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file to read: "run/" -> "run/model.safetensors.index.json", "run/model.pt" -> itself.

    In a folder it is an index of shards, else the only weight file. For the prefix of a TensorFlow checkpoint
    ("run/ckpt-1") it is the index, "run/ckpt-1.index". Raise `FileError` if a folder has no weight file, or several.
    """
    found = Path(path)
    if not os.path.isdir(found):  # noqa: PTH112  # unlike `Path.is_dir`, false for a name that is too long
        return index_of(found)
    try:
        inside = sorted(found.iterdir())
    except OSError as error:
        raise FileError(f"{found} cannot be listed: {error.strerror}") from error
    files = [file for file in inside if file.name.lower().endswith(tuple(SUFFIXES))]
    indexes = [file for file in files if file.name.endswith(_INDEXES)]
    if len(indexes) == 1:
        return indexes[0]
    usual = [file for name in _IN_FOLDER for file in files if file.name == name]
    if usual:
        return usual[0]
    names = [file.name for file in inside]
    if index := index_in(found, names):
        return index
    if message := foreign.folder_message(found, names):
        raise FileError(message)
    if len(files) == 1:
        return files[0]
    held = listed(file.name for file in files) or "none"
    whole = {file.name.removesuffix(".keras") for file in files if file.name.endswith(".keras")}
    best = [file for file in files if file.name.removesuffix(".weights.h5") not in whole]  # the model has them, too
    fix = "     or     ".join(str(file) for file in best[:2])
    raise FileError(
        f"{found} is a folder, not a weight file; weight files in it: {held}" + (f"\nFix:  {fix}" if fix else "")
    )


def identify(expected: str, source: Source) -> str:
    """Return the format of a file, a key of `READERS`, after a look at its first bytes.

    It is the expected format, except that a ".pt" may contain safetensors, a ".keras" HDF5, and a ".h5" either HDF5
    format of Keras. Raise `MalformedCheckpoint` for any other content.

    Args:
        expected: The format that belongs to the suffix of the file.
        source: The file.
    """
    content = _content(expected, source)
    if expected == "torch" and content == "safetensors":
        return content
    return _hdf5_format(source) if content == "HDF5" else expected


def check_content(path: str | os.PathLike[str]) -> None:
    """Raise `MalformedCheckpoint` if a file exists and its content does not have the format of its suffix."""
    found = file_of(path)
    if os.path.isfile(found):  # noqa: PTH113  # as in `file_of`
        _content(expected_format(found), Source.pin(found))


_USUAL = {"HDF5": ".h5", "a torch checkpoint": ".pt", "safetensors": ".safetensors", "a Keras archive": ".keras"}
"""A suffix that fits each content."""


def _content(expected: str, source: Source) -> str:
    """Return the format of a file, such as "HDF5"; raise `MalformedCheckpoint` if its suffix means another format.

    Args:
        expected: The format that belongs to the suffix of the file.
        source: The file.
    """
    with source.open() as file:
        start = file.read(1 << 10)
    if message := foreign.file_message(source.path, start):
        raise FileError(message)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        content = "HDF5"
    elif start.startswith(b"PK\3\4"):
        content = _zip_content(expected, source)
    elif expected == "torch" and start[:1] == b"\x80":  # a pickle, the format before torch 1.6
        content = "a torch checkpoint"
    elif CONTENTS[expected] == "JSON":
        content = "JSON"
    elif expected == "tensorflow" and is_table(source):
        content = CONTENTS[expected]
    elif expected == "safetensors" or start[8:9] == b"{":
        content = "safetensors"
    else:
        raise MalformedCheckpoint(f"{source.path} is not {CONTENTS[expected]}, nor any other weight file")
    fits = content == CONTENTS[expected] or (expected, content) in _ALSO_READ
    if not fits:
        suffix = next(suffix for suffix in (*SUFFIXES, "") if source.path.name.lower().endswith(suffix))
        stem = source.path.name[: len(source.path.name) - len(suffix)]
        advice = f"; name it {stem}{_USUAL[content]}" if content in _USUAL else ""
        raise MalformedCheckpoint(
            f"{source.path} contains {content}, but its suffix is that of {CONTENTS[expected]}{advice}"
        )
    return content


_ALSO_READ = (("torch", "safetensors"), ("keras", "HDF5"))  # TensorFlow up to 2.11 wrote HDF5 under ".keras"
"""Formats by suffix, each with another content that a file with this suffix may have."""


def _zip_content(expected: str, source: Source) -> str:
    """Return the kind of a zip file: "a Keras archive", "a torch checkpoint" or "a zip archive".

    Args:
        expected: The format that belongs to the suffix; it decides if the content could be either.
        source: The file.
    """
    with source.open() as file:
        head = file.read(1 << 12)
    if expected != "torch" and b"data.pkl" in head:
        return "a torch checkpoint"
    if expected != "keras" and (b"config.json" in head or b"model.weights.h5" in head):
        return "a Keras archive"
    return CONTENTS[expected] if expected in ("keras", "torch") else "a zip archive"


def _hdf5_format(source: Source) -> str:
    """Return the HDF5 format of a Keras file: "legacy h5" (Keras 2), which has a list of layers, or "weights h5"."""
    return "legacy h5" if Hdf5File(source).survey().is_legacy else "weights h5"
