"""Targets for fuzzing: each reads bytes as a file of one format, and asserts what must hold for any bytes.

Either our reader raises a `FileError`, or the library of the format accepts the file too and returns the same values.
`python -m tests.support.fuzzing TARGET SECONDS` tries changed files until the processor time is used up; with atheris
installed, `python -m tests.support.fuzzing TARGET atheris` lets it choose the changes by the code that they reach.
"""

import json
import pickletools
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, FileError
from keras3conv.formats.safe import hdf5_usual, npy
from keras3conv.formats.safe import zip as safe_zip
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import Source, parse_json
from keras3conv.formats.tensorflow import graph
from keras3conv.formats.torch import pickles
from tests.support import good_files, hdf5_files, tensorflow_files
from tests.support.pickles import dictionary, pickled, tensor

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def _file(content: bytes, name: str) -> Path:
    """Write a file into the temporary folder of this process, and return its path."""
    path = Path(_FOLDER.name) / name
    path.write_bytes(content)
    return path


_FOLDER = tempfile.TemporaryDirectory()


def safetensors(content: bytes) -> bool:
    """Assert that the safetensors library accepts what we accept, with equal bytes; return whether we accept it."""
    from safetensors import deserialize

    try:
        view = formats.read(_file(content, "x.safetensors"))
        ours = {tensor.path: view.read(tensor.path).tobytes() for tensor in view.tensors()}
    except FileError:
        return False
    assert {name: bytes(entry["data"]) for name, entry in deserialize(content)} == ours
    return True


def pickle(content: bytes) -> bool:
    """Assert that what we parse is a sequence of instructions for Python too; return whether we parse it."""
    try:
        _, end = pickles.parse(content, "x.pt")
    except FileError:
        return False
    if b"\\" in content[:end]:
        return True  # pickletools reads a backslash in the name of a class as an escape, which pickle does not
    *_, (last, _, place) = pickletools.genops(content[:end])
    assert (last.name, place) == ("STOP", end - 1)
    return True


def archive(content: bytes) -> bool:
    """Assert that zipfile reads what we read, with equal bytes; return whether we read it."""
    try:
        source = Source.pin(_file(content, "x.zip"))
        members = safe_zip.scan(source)
        ours = {name: safe_zip.read_member(source, member, 1 << 20) for name, member in members.items()}
    except FileError:
        return False
    with zipfile.ZipFile(_file(content, "y.zip")) as library:
        assert {name: library.read(name) for name in library.namelist()} == ours
    return True


def arrays(content: bytes) -> bool:
    """Assert that numpy reads the arrays that we read; return whether we read them."""
    path = _file(content, "x.npy")
    try:
        ours = npy.read(path)
    except FileError:
        return False
    theirs = np.load(path, allow_pickle=False)
    pairs = [(ours[name], theirs[name]) for name in ours] if isinstance(ours, dict) else [(ours, theirs)]
    for one, other in pairs:
        assert one.tobytes() == other.astype(one.dtype, copy=False).tobytes()
    return True


def checkpoint(content: bytes) -> bool:
    """Assert that reading ends in values or a `FileError`; return whether there are values."""
    return _read(_file(content, "x.pt"))


def hdf5(content: bytes) -> bool:
    """Assert that reading ends in values or a `FileError`; return whether there are values.

    What is read without the HDF5 library must be read as by the library.
    """
    path = _file(content, "x.h5")
    if content:
        file = Hdf5File(Source.pin(path))
        tree = hdf5_usual.survey(file.source, 0, len(content), file.where)
        assert tree is None or tree == file._inspected()
    return _read(path)


def keras(content: bytes) -> bool:
    """Assert that reading ends in values or a `FileError`; return whether there are values."""
    return _read(_file(content, "x.keras"))


def tensorflow(content: bytes) -> bool:
    """Assert that reading a checkpoint ends in values or a `FileError`, whose index has these entries."""
    return _read(tensorflow_files.write(Path(_FOLDER.name), tensorflow_files.table(content)))


def objects(content: bytes) -> bool:
    """Assert that a graph of objects gives variables or a `FileError`; return whether there are variables."""
    try:
        return bool(list(graph.variables(graph.parse(content, "x.index"), "x.index")))
    except FileError:
        return False


def _block_seed(folder: Path) -> Path:
    path = folder / "block"
    entries = [(b"", tensorflow_files.header()), (b"a/kernel", tensorflow_files.entry())]
    path.write_bytes(tensorflow_files.block_of(entries))
    return path


def _graph_seed(folder: Path) -> Path:
    path = folder / "graph"
    path.write_bytes(tensorflow_files.graph_of({"layer-0/kernel": "a/kernel", "optimizer/iter": "iter"}))
    return path


def _read(path: Path) -> bool:
    try:
        view = formats.read(path)
        for one in view.tensors():
            assert view.read(one.path).shape == one.shape
    except FileError:
        return False
    return True


def strict_json(content: bytes) -> bool:
    """Assert that Python's own reader reads the JSON that we read; return whether we read it."""
    try:
        ours = parse_json(content, "x.json")
    except FileError:
        return False
    assert json.loads(content) == ours
    return True


def plan(content: bytes) -> bool:
    """Assert that reading a plan ends in a plan or an `AlignmentError`; return whether it is a plan."""
    try:
        made = Alignment.from_json(content.decode("utf-8", "replace"))
    except AlignmentError:
        return False
    assert Alignment.from_json(made.to_json()).pairs == made.pairs
    return True


def _plan_seed(folder: Path) -> Path:
    from keras3conv.planner.plan import plan as planned
    from tests.core.planner.test_plan import dense, keras_model, linear, torch_model

    made = planned(torch_model(linear("a", 3, 4, 0)), keras_model(dense("b", 3, 4, 0)))
    (folder / "plan.json").write_text(made.to_json())
    return folder / "plan.json"


def _array_seed(folder: Path) -> Path:
    np.save(folder / "seed.npy", np.arange(6.0).reshape(2, 3))
    return folder / "seed.npy"


def _pickle_seed(folder: Path) -> Path:
    (folder / "seed.pkl").write_bytes(pickled(dictionary({"state_dict": dictionary({"a": tensor(), "b": tensor()})})))
    return folder / "seed.pkl"


TARGETS: dict[str, tuple[Callable[[bytes], bool], Callable[[Path], Path]]] = {
    "safetensors": (safetensors, good_files.safetensors),
    "pickle": (pickle, _pickle_seed),
    "archive": (archive, good_files.torch_archive),
    "arrays": (arrays, _array_seed),
    "checkpoint": (checkpoint, good_files.torch_archive),
    "old checkpoint": (checkpoint, good_files.torch_legacy),
    "hdf5": (hdf5, good_files.keras_legacy),
    "weights": (hdf5, hdf5_files.weights),
    "keras": (keras, hdf5_files.archive),
    "json": (strict_json, good_files.index),
    "tensorflow": (tensorflow, _block_seed),
    "objects": (objects, _graph_seed),
    "plan": (plan, _plan_seed),
}
"""For each target, the function to test, and a builder of the valid file that is mutated."""


def changed(content: bytes, chance: random.Random) -> bytes:
    """Return the bytes with a few random changes: replaced bytes, and removed, repeated or moved parts."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place, length = chance.randrange(len(made) + 1), chance.choice((1, 1, 2, 4, 8, 16))
        kind = chance.randrange(5)
        if kind == 0:
            del made[place : place + length]
        elif kind == 1:
            made[place:place] = bytes(chance.choice(INTERESTING) for _ in range(length))
        elif kind == 2:
            other = chance.randrange(len(made) + 1)
            made[place:place] = made[other : other + length]
        else:
            made[place : place + length] = bytes(
                chance.choice(INTERESTING) if kind == 3 else chance.randrange(256) for _ in range(length)
            )
    return bytes(made)


def seed(name: str) -> bytes:
    """Return the content of the valid file of a target."""
    with tempfile.TemporaryDirectory() as folder:
        return TARGETS[name][1](Path(folder)).read_bytes()


def _main(name: str, limit: str) -> None:
    target, good = TARGETS[name][0], seed(name)
    if limit == "atheris":
        import atheris  # type: ignore[import-untyped]

        atheris.instrument_all()
        atheris.Setup([sys.argv[0]], lambda content: target(content) or None)
        atheris.Fuzz()
        return
    start, tried, accepted, number = time.process_time(), 0, 0, random.randrange(1 << 32)
    chance = random.Random(number)
    while time.process_time() - start < float(limit):
        content = changed(good, chance)
        try:
            accepted += target(content)
        except BaseException:
            Path(f"failed-{name}.bin".replace(" ", "-")).write_bytes(content)
            raise
        tried += 1
    sys.stdout.write(f"{name}: {tried:,} files, {accepted:,} accepted, seed {number}\n")


if __name__ == "__main__":
    for wanted in TARGETS if sys.argv[1] == "all" else sys.argv[1:2]:
        _main(wanted, sys.argv[2])
