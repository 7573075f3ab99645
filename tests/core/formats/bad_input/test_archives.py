"""`.keras` archives that are damaged or hostile are refused; nothing in their architecture is imported or called."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import BudgetExceeded, FileError, IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint
from tests.support import guarded
from tests.support.guarded import Case, Outcome
from tests.support.hdf5_files import archive

Change = Callable[[bytearray], bytes | bytearray]
WEIGHTS, CONFIG = "model.weights.h5", "config.json"


def changed(change: Change) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = archive(folder)
        path.write_bytes(change(bytearray(path.read_bytes())))
        return path

    return build


def members(*extra: tuple[str, bytes], without: str = "") -> Callable[[Path], Path]:
    """Return a builder of a valid archive with one member removed and others added at the end."""

    def build(folder: Path) -> Path:
        good = archive(folder)
        with zipfile.ZipFile(good) as source:
            kept = [(name, source.read(name)) for name in source.namelist() if name != without]
        good.unlink()
        with zipfile.ZipFile(folder / "y.keras", "w") as target:
            for name, content in (*kept, *extra):
                target.writestr(name, content)
        return folder / "y.keras"

    return build


def swelling(name: str) -> Callable[[Path], Path]:
    """Return a builder of an archive in which a member of 2 GB is compressed to two megabytes."""

    def build(folder: Path) -> Path:
        path = members(without=name)(folder)
        with (
            zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
            target.open(name, "w", force_zip64=True) as member,
        ):
            for _ in range(24):
                member.write(bytes(4 << 20))
        content = path.read_bytes()
        size = struct.pack("<I", 96 << 20)
        path.write_bytes(content.replace(size, struct.pack("<I", 3 << 30)))
        return path

    return build


def architecture(*layers: Any, **more: Any) -> Callable[[Path], Path]:
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "net", "layers": list(layers)}, **more}
    return lambda folder: archive(folder, config=json.dumps(config).encode())


def config(raw: bytes) -> Callable[[Path], Path]:
    return lambda folder: archive(folder, config=raw)


def layer(class_name: str, module: Any = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "module": module, "config": {"name": "head", **config}}


def patched(start: int, replacement: bytes, signature: bytes = b"PK\1\2") -> Change:
    """Return a function that edits the last record with a signature: a directory entry ("PK12") or the end ("PK56")."""

    def change(content: bytearray) -> bytearray:
        place = content.rindex(signature) + start
        content[place : place + len(replacement)] = replacement
        return content

    return change


def shared_bytes(content: bytearray) -> bytearray:
    """Set the offset of the second directory entry to that of the first one."""
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    return content


def flipped_weight(content: bytearray) -> bytearray:
    content[content.index(struct.pack("<3f", 0, 1, 2))] ^= 1
    return content


EVIL = {"class_name": "function", "config": "system", "registered_name": "system", "module": "os"}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "gASVDAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg=="}}
IGNORED = {
    "a Lambda with code": layer("Lambda", function=LAMBDA),
    "a call of os.system": layer("Lambda", function=EVIL),
    "a download": layer("Lambda", function={**EVIL, "config": "get_file", "module": "keras.utils"}),
    "a switch that allows code": layer("Lambda", function={**EVIL, "config": "enable_unsafe_deserialization"}),
    "a class of a module that is not installed": layer("Antigravity", module="antigravity"),
    "a vocabulary in a file": layer("StringLookup", vocabulary="/etc/passwd"),
    "a SavedModel": layer("TFSMLayer", filepath="/etc"),
    "a pickled torch module": layer("TorchModuleWrapper", module={"class_name": "__tensor__", "config": {}}),
    "a layer of 30,000 x 40,000 units": layer("Dense", units=30_000, build_config={"input_shape": [None, 40_000]}),
}
CASES = {
    # Z1 to Z4
    "two members with the weights": Case(
        build=members((WEIGHTS, b"x")),
        error=MalformedCheckpoint,
        says=r"has two members with the name 'model\.weights\.h5'",
    ),
    "weights that swell to 3 GB": Case(build=swelling(WEIGHTS), error=BudgetExceeded, says="declares 3,221,225,472"),
    "an architecture that swells to 3 GB": Case(
        build=swelling(CONFIG), error=BudgetExceeded, says="declares 3,221,225,472"
    ),
    "members that share bytes": Case(
        build=changed(shared_bytes),
        error=MalformedCheckpoint,
        says=("is not at the place that the list of the zip archive declares"),
    ),
    "bytes before the archive": Case(build=changed(lambda content: b"#!/bin/sh\n" + content), error=FileError),
    "bytes after the archive": Case(build=changed(lambda content: content + bytes(100)), error=FileError),
    "an archive in a comment": Case(
        build=changed(lambda content: content[:-2] + struct.pack("<H", 22) + b"PK\5\6" + bytes(18)), error=FileError
    ),
    "a directory that counts too many members": Case(
        build=changed(patched(8, struct.pack("<2H", 99, 99), b"PK\5\6")),
        error=MalformedCheckpoint,
        says="declares 99 members",
    ),
    "a member outside of the folder": Case(build=members(("../../evil", b"x")), error=None),
    "a member with an absolute path": Case(build=members(("/evil", b"x")), error=None),
    "a member with a path of Windows": Case(build=members(("C:\\evil", b"x")), error=None),
    "a link": Case(build=changed(patched(38, struct.pack("<I", 0o120777 << 16))), error=None),
    "a folder in place of the weights": Case(
        build=members((f"{WEIGHTS}/", b""), without=WEIGHTS), error=IncompleteCheckpoint, says="has no model.weights.h5"
    ),
    "a NUL in a name": Case(build=changed(patched(46, b"model\0")), error=MalformedCheckpoint),
    "control characters in a name": Case(
        build=members(("\x1b[2J", b"x"), ("\x1b[2J", b"y")), error=MalformedCheckpoint, says=r"x1b\[2J"
    ),
    "no architecture": Case(build=members(without=CONFIG), error=IncompleteCheckpoint, says=r"has no config\.json"),
    "no weights": Case(build=members(without=WEIGHTS), error=IncompleteCheckpoint, says=r"has no model\.weights\.h5"),
    # Z5
    "an encrypted member": Case(build=changed(patched(8, b"\1\0")), error=UnsafeCheckpoint, says="is encrypted"),
    "an unknown compression": Case(build=changed(patched(10, b"\x5d\0")), error=MalformedCheckpoint, says="method 93"),
    "a wrong CRC": Case(
        build=changed(patched(16, b"\0\0\0\0")),
        error=MalformedCheckpoint,
        says=("describes .* twice, in its directory and before the member, with other sizes or another compression"),
    ),
    "a flipped bit in the weights": Case(build=changed(flipped_weight), error=MalformedCheckpoint, says="CRC"),
    "a member beyond the end": Case(
        build=changed(patched(20, struct.pack("<2I", 2**31, 2**31))), error=MalformedCheckpoint
    ),
    "only the first half": Case(build=changed(lambda content: content[: len(content) // 2]), error=MalformedCheckpoint),
    # Z7
    "an architecture with a depth of 200,000": Case(
        build=config(b"[" * 200_000), error=MalformedCheckpoint, says="deep"
    ),
    "an architecture with NaN": Case(
        build=config(b'{"class_name": NaN}'), error=MalformedCheckpoint, says="key 'config'"
    ),
    "an architecture with 1e999": Case(build=config(b'{"class_name": 1e999}'), error=MalformedCheckpoint, says="1e999"),
    "a number of 5,000 digits": Case(
        build=config(b'{"a": ' + b"1" * 5000 + b"}"), error=MalformedCheckpoint, says="JSON"
    ),
    "a key twice": Case(build=config(b'{"a": 1, "a": 1}'), error=MalformedCheckpoint, says="'a' occurs twice"),
    "an architecture that is not UTF-8": Case(build=config(b'{"a": "\xff"}'), error=MalformedCheckpoint, says="JSON"),
    "an architecture that is a list": Case(build=config(b"[]"), error=MalformedCheckpoint, says="architecture"),
    "models in models 100 times": Case(
        build=lambda folder: nested_models(folder, 100), error=MalformedCheckpoint, says="nested too deeply"
    ),
    "layers that wait for each other": Case(
        build=architecture({**layer("Dense"), "inbound_nodes": [[["head", 0, 0, {}]]]}, class_name="Functional"),
        error=MalformedCheckpoint,
        says="cycle",
    ),
    "a version that is a list": Case(
        build=lambda folder: archive(folder, metadata=b'{"keras_version": []}'), error=None
    ),
    # K1 to K9: only the weights are read
    **{name: Case(build=architecture(gadget), error=None) for name, gadget in IGNORED.items()},
    **{
        f"a layer with the name {name[:12]!r}": Case(
            build=architecture({**layer("Dense"), "config": {"name": name}}), error=None
        )
        for name in ("../../x", "x" * 2000, "a\0b", "CON", "a/b", "\x1b[2J")
    },
}


def nested_models(folder: Path, depth: int) -> Path:
    inner: dict[str, Any] = layer("Dense")
    for _ in range(depth):
        inner = {"class_name": "Sequential", "module": "keras", "config": {"name": "net", "layers": [inner]}}
    return archive(folder, config=json.dumps(inner).encode())


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", CASES)
def test_a_bad_archive_is_refused_without_side_effects(case: str, outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES[case], outcomes[case])
