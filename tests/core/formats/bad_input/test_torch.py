"""Torch checkpoints that are damaged or hostile are refused, and none of their pickles is executed."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, NoData, UnsafeCheckpoint
from tests.support import guarded
from tests.support.guarded import Case, Outcome
from tests.support.pickles import (
    call,
    checkpoint,
    dictionary,
    group,
    legacy,
    name,
    number,
    numbers,
    pickled,
    storage,
    tensor,
    text,
)

PWNED = "touch pwned"
RUNS = call("os.system", text(PWNED))
GOOD = dictionary({"a": tensor()})


def archive(body: bytes, **storages: bytes) -> Callable[[Path], Path]:
    return lambda folder: checkpoint(folder, body, storages or None)


def one(value: bytes, key: str = "a.weight") -> Callable[[Path], Path]:
    return archive(dictionary({key: value}))


def old(body: bytes, **changes: Any) -> Callable[[Path], Path]:
    return lambda folder: legacy(folder, body, **changes)


def raw(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "x.pt").write_bytes(content)
        return folder / "x.pt"

    return build


def tar(folder: Path) -> Path:
    with tarfile.open(folder / "x.pt", "w") as target:
        info, data = tarfile.TarInfo("pickle"), pickled(RUNS)
        info.size = len(data)
        target.addfile(info, io.BytesIO(data))
    return folder / "x.pt"


def changed(change: Callable[[zipfile.ZipFile], None], body: bytes = GOOD) -> Callable[[Path], Path]:
    """Return a builder of a checkpoint to which members are added."""

    def build(folder: Path) -> Path:
        path = checkpoint(folder, body)
        with zipfile.ZipFile(path, "a") as target:
            change(target)
        return path

    return build


def compressed(folder: Path) -> Path:
    path = folder / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("archive/data.pkl", pickled(dictionary({"a": tensor(count=2**24, shape=(2**24,))})))
        with target.open("archive/data/0", "w") as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
    return path


def nested_keys(depth: int) -> bytes:
    """Return a dict whose key is a tuple of tuples: hashing it takes 2 ** depth steps."""
    twice = b"".join(b"q\x01h\x01\x86" for _ in range(depth))
    return b"}(" + b"K\x01" + twice + b"K\x01" + b"u"


def shared_dicts(depth: int) -> bytes:
    """Return dicts that contain the same dict ten times, which contains the same dict ten times, and so on."""
    layer = b"".join(text(str(place)) + b"h\x01" for place in range(10))
    return b"}" + b"".join(b"q\x01" + b"0" + b"}(" + layer + b"u" for _ in range(depth))


def python_2(body: bytes) -> bytes:
    return pickle.dumps(body, 0)


PLAIN_STATE = b"(" + b"t" + b"}" + b"b"

CASES = {
    # T1, T2: code in every container
    "code in an archive": Case(build=one(RUNS), error=UnsafeCheckpoint, says=r"os\.system"),
    "code in place of the state dict": Case(build=archive(RUNS), error=UnsafeCheckpoint, says=r"os\.system"),
    "code in the old format": Case(build=old(dictionary({"a.b": RUNS})), error=UnsafeCheckpoint, says=r"os\.system"),
    "code in a plain pickle": Case(build=raw(pickled(RUNS)), error=UnsafeCheckpoint, says="torch.save did not write"),
    "code in a tar archive": Case(build=tar, error=FileError, says=r"x\.pt"),
    "code in an instruction of protocol 0": Case(build=raw(pickle.dumps(print, 0)), error=FileError),
    "getattr of builtins": Case(
        build=one(call("builtins.getattr", text("a"), text("b"))), error=UnsafeCheckpoint, says=r"builtins\.getattr"
    ),
    "a class of a module that is not installed": Case(
        build=one(call("antigravity.fly")), error=UnsafeCheckpoint, says=r"antigravity\.fly"
    ),
    "an object made without a call": Case(
        build=one(name("antigravity.Fly") + b")" + b"\x81" + b"}b"), error=UnsafeCheckpoint, says=r"antigravity\.Fly"
    ),
    "settings of an unknown class beside the tensors": Case(
        build=archive(
            dictionary(
                {"state_dict": GOOD, "args": name("argparse.Namespace") + b")" + b"\x81" + dictionary({}) + b"b"}
            )
        ),
        error=None,
    ),
    # T3: allowed functions with wrong arguments
    "an item is set on a tensor": Case(
        build=archive(tensor() + text("a") + number(1) + b"s"), error=MalformedCheckpoint, says="items are added to a"
    ),
    "a tensor gets a state": Case(
        build=one(tensor() + b"}b"), error=MalformedCheckpoint, says="attributes are set on a"
    ),
    "a tensor without arguments": Case(
        build=one(call("torch._utils._rebuild_tensor_v2")), error=MalformedCheckpoint, says="wrong arguments"
    ),
    "a tensor of a text": Case(
        build=one(call("torch._utils._rebuild_tensor_v2", *[text("x")] * 6)), error=MalformedCheckpoint, says="storage"
    ),
    "an object of a class that is a dict": Case(
        build=one(b"}" + b")" + b"\x81"), error=MalformedCheckpoint, says="calls a dict"
    ),
    "an object with a number in place of arguments": Case(
        build=one(name("a.B") + number(1) + b"\x81"), error=MalformedCheckpoint, says="no arguments"
    ),
    "a call of a number": Case(build=one(number(1) + group() + b"R"), error=MalformedCheckpoint, says="calls an int"),
    "a call without a tuple": Case(
        build=one(name("collections.OrderedDict") + number(1) + b"R"), error=MalformedCheckpoint, says="no arguments"
    ),
    "a list instead of an OrderedDict": Case(
        build=archive(call("collections.OrderedDict", b"](" + number(1) + b"e")), error=MalformedCheckpoint
    ),
    # T4, T5: strides and sizes
    "a stride of zero": Case(
        build=one(tensor(shape=(10**12,), strides=(0,))),
        error=BudgetExceeded,
        says=r"'a\.weight' expands 8 stored bytes",
    ),
    "more elements than the storage has": Case(
        build=one(tensor(shape=(1000,))),
        error=MalformedCheckpoint,
        says=r"'a\.weight' needs more values than the \d+ bytes that the file stores for it",
    ),
    "an offset beyond the storage": Case(
        build=one(tensor(offset=7)),
        error=MalformedCheckpoint,
        says=r"'a\.weight' needs more values than the \d+ bytes that the file stores for it",
    ),
    "a negative stride": Case(
        build=one(tensor(strides=(-1,))), error=MalformedCheckpoint, says=("are not the sizes of a tensor")
    ),
    "a negative size": Case(
        build=one(tensor(shape=(-2,))), error=MalformedCheckpoint, says=("are not the sizes of a tensor")
    ),
    "a negative offset": Case(
        build=one(tensor(offset=-1)), error=MalformedCheckpoint, says="are not the storage and the offset of a tensor"
    ),
    "a storage of a negative size": Case(
        build=one(tensor(count=-2)), error=MalformedCheckpoint, says="does not describe the storage of a tensor"
    ),
    "a size beyond 64 bits": Case(
        build=one(tensor(shape=(2**70,))), error=MalformedCheckpoint, says=("are not the sizes of a tensor")
    ),
    "sizes whose product is enormous": Case(
        build=one(tensor(shape=(2**40, 2**40), strides=(0, 0))), error=BudgetExceeded, says="expands"
    ),
    "an axis of enormous size without elements": Case(
        build=one(tensor(shape=(0, 2**62), strides=(1, 1))), error=MalformedCheckpoint
    ),
    "more sizes than strides": Case(
        build=one(tensor(shape=(1, 2), strides=(1,))), error=MalformedCheckpoint, says="2 sizes, but 1 strides"
    ),
    "100 axes": Case(build=one(tensor(shape=(1,) * 100, strides=(1,) * 100)), error=MalformedCheckpoint),
    # T6, T7: the archive
    "a compressed member": Case(build=compressed, error=BudgetExceeded, says="never compresses"),
    "a storage that is too small": Case(
        build=archive(GOOD, **{"0": bytes(4)}), error=MalformedCheckpoint, says="'a' declares 8 bytes of values"
    ),
    "a storage that is too large": Case(
        build=archive(GOOD, **{"0": bytes(12)}), error=MalformedCheckpoint, says="'a' declares 8 bytes of values"
    ),
    "a storage that is missing": Case(
        build=archive(dictionary({"a": tensor("7")})), error=MalformedCheckpoint, says="the file has 0 for it"
    ),
    "two pickles": Case(
        build=changed(lambda target: target.writestr("other/data.pkl", b"x")),
        error=MalformedCheckpoint,
        says="must have one member data.pkl, as torch.save writes it, but has 2",
    ),
    "a member outside of the folder": Case(
        build=changed(lambda target: target.writestr("../evil", b"x")), error=MalformedCheckpoint, says=r"'\.\./evil'"
    ),
    "a member with an absolute path": Case(
        build=changed(lambda target: target.writestr("/evil", b"x")), error=MalformedCheckpoint, says="'/evil'"
    ),
    "code of TorchScript": Case(
        build=changed(lambda target: target.writestr("archive/constants.pkl", b"x")),
        error=UnsafeCheckpoint,
        says="TorchScript",
    ),
    "bytes after the pickle": Case(
        build=archive(GOOD + b"." + b"rest"), error=MalformedCheckpoint, says="the pickle data.pkl ends at byte"
    ),
    # T10, T13: tensors without plain values
    "a tensor on the meta device": Case(
        build=one(
            call(
                "torch._utils._rebuild_meta_tensor_no_storage",
                name("torch.float32"),
                numbers((3,)),
                numbers((1,)),
                b"\x89",
            )
        ),
        error=NoData,
        says=r"'a\.weight' was saved without its values",
    ),
    "a sparse tensor": Case(
        build=one(call("torch._utils._rebuild_sparse_tensor", group())),
        error=FileError,
        says=r"'a\.weight' is a tensor that is sparse",
    ),
    "a quantized tensor": Case(
        build=one(tensor().replace(b"FloatStorage", b"QInt8Storage")),
        error=FileError,
        says=r"'a\.weight' is a tensor that is quantized",
    ),
    "a tensor of an unknown dtype": Case(
        build=one(
            call(
                "torch._utils._rebuild_tensor_v3",
                storage(),
                number(0),
                numbers((2,)),
                numbers((1,)),
                b"\x89",
                b"}",
                name("torch.float99"),
            )
        ),
        error=FileError,
        says=r"'a\.weight' is a tensor that is of float99",
    ),
    # T11: content that is no state dict
    "a list": Case(build=archive(b"]" + tensor() + b"a"), error=MalformedCheckpoint, says="a list, not a state dict"),
    "a tensor alone": Case(build=archive(tensor()), error=MalformedCheckpoint, says="a tensor, not a state dict"),
    "an empty dict": Case(build=archive(b"}"), error=FileError, says="contains no state dict"),
    "a number as the name of a tensor": Case(
        build=archive(b"}" + number(1) + tensor() + b"s"), error=FileError, says="no state dict"
    ),
    "two state dicts": Case(
        build=archive(dictionary({"model": GOOD, "ema": GOOD})), error=FileError, says='entry="model"'
    ),
    # What takes time or memory
    "a key that takes for ever to hash": Case(build=archive(nested_keys(60)), error=FileError, says="no state dict"),
    "a set of what takes for ever to hash": Case(
        build=archive(dictionary({"a": b"\x8f(" + b"K\x01" + b"q\x01h\x01\x86" * 60 + b"\x90"})), error=FileError
    ),
    "such a key in the old format": Case(
        build=old(nested_keys(60), storages={}), error=FileError, says="no state dict"
    ),
    "a bytearray of 600 MB": Case(
        build=one(call("builtins.bytearray", number(600_000_000))), error=UnsafeCheckpoint, says=r"builtins\.bytearray"
    ),
    "a text in Punycode": Case(
        build=one(call("_codecs.encode", text("a" * 10**6), text("punycode"))), error=UnsafeCheckpoint, says="_codecs"
    ),
    "a text of the old format in Punycode": Case(
        build=old(dictionary({"a.b": call("_codecs.encode", text("a" * 10**6), text("punycode"))}), storages={}),
        error=UnsafeCheckpoint,
    ),
    "the same list made a dict again and again": Case(
        build=archive(
            b"]("
            + b"".join(text(str(place)) + number(place) + b"\x86" for place in range(3000))
            + b"eq\x01"
            + b"]("
            + b"ccollections\nOrderedDict\n(h\x01tR" * 3000
            + b"e"
        ),
        error=BudgetExceeded,
        says="too often",
    ),
    "dicts that contain each other many times": Case(build=archive(shared_dicts(30)), error=BudgetExceeded),
    "lists in lists without end": Case(
        build=archive(b"]" * 10**6 + b"a" * (10**6 - 1)), error=BudgetExceeded, says="too many lists"
    ),
    "a call in a call without end": Case(
        build=one(
            b"".join(
                [
                    name("torch._tensor._rebuild_from_type_v2"),
                    name("torch._tensor._rebuild_from_type_v2"),
                    name("torch.Tensor"),
                    group(),
                    b"}",
                    b"(" * 0,
                    b"\x87",
                    b"R",
                ]
            )
        ),
        error=MalformedCheckpoint,
    ),
    "a text that is longer than the file": Case(
        build=archive(b"X\xff\xff\xff\x7f"), error=MalformedCheckpoint, says="ends too early"
    ),
    "a number of two gigabytes": Case(build=archive(b"\x8b\xff\xff\xff\x7f"), error=MalformedCheckpoint),
    "20,000 names of one storage": Case(
        build=archive(dictionary({f"w{place}": tensor() for place in range(20_000)})), error=None
    ),
    # Names
    "a name with a surrogate": Case(
        build=archive(dictionary({"a\ud800": tensor()})), error=MalformedCheckpoint, says=r"'a\\\\?ud800' is not valid"
    ),
    "a name of 5,000 characters": Case(
        build=archive(dictionary({"a" * 5000: tensor()})), error=MalformedCheckpoint, says="5,000 characters"
    ),
    "a name with control characters in a message": Case(
        build=one(tensor(offset=9), "a\x1b[31m\r\n.weight"), error=MalformedCheckpoint, says="needs more values than"
    ),
    "a class with a name of 300 characters": Case(
        build=one(call("evil." + "x" * 300)), error=UnsafeCheckpoint, says="xxx"
    ),
    "two names that look the same": Case(
        build=archive(dictionary({"é": tensor(), "e\u0301": tensor()})), error=MalformedCheckpoint, says="normal form"
    ),
    # The format before torch 1.6
    "a storage of the old format that is longer than the file": Case(
        build=old(GOOD, count=10**12), error=MalformedCheckpoint, says="declares 1,000,000,000,000 values"
    ),
    "a storage of the old format of a negative size": Case(
        build=old(GOOD, count=-5), error=MalformedCheckpoint, says="declares -5 values"
    ),
    "a storage of the old format that is too short": Case(
        build=old(GOOD, count=1), error=MalformedCheckpoint, says="declares 1 values"
    ),
    "bytes after the end of the old format": Case(
        build=old(GOOD, tail=b"tail"), error=MalformedCheckpoint, says="its tensors end at byte"
    ),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_checkpoint_is_refused_without_side_effects(case: str, outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES[case], outcomes[case])
