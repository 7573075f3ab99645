"""Read checkpoints of `torch.save` without executing their pickle and without torch, one tensor at a time.

The pickle is parsed (see `pickles`) for the name, shape and dtype of every tensor and the byte range of its values in
the file. Since torch 1.6 a checkpoint is a zip archive with a member for each storage. Before, it was a series of
pickles followed by the storages.
"""

import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, NoData, UnsafeCheckpoint, listed, quoted
from keras3conv.formats import foreign
from keras3conv.formats.safe.source import Source, check_count, check_names, dtype_named, zero_tail
from keras3conv.formats.safe.zip import Member, read_member, scan, verify
from keras3conv.formats.torch import pickles
from keras3conv.formats.torch.entries import Entry, entries_in, find_entry, first_placeholder, is_tensor
from keras3conv.formats.torch.names import is_trainable, layers_of
from keras3conv.formats.torch.objects import OddTensor, Storage, StoredTensor
from keras3conv.formats.torch.others import other_state_dicts
from keras3conv.formats.torch.unnamed import ORDER, refuse_unnamed, unnamed_lists
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.transforms import Array

EXPANSION_FLOOR = 64 << 20
"""The largest size in bytes to which a stored tensor with stride 0 may expand beyond its storage."""

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number at the start of every checkpoint in the format before torch 1.6."""


@dataclass(frozen=True)
class Stored:
    """The content of a checkpoint.

    Attributes:
        content: The object that was saved, with a `StoredTensor` or `OddTensor` in the place of each tensor.
        storages: For each key of a storage, the byte range in the file.
        format: The format in words, for reports.
    """

    content: Any
    storages: Mapping[str, Member]
    format: str


def read(source: Source, entry: str = "", planned: str = "") -> ModelView:
    """Return a view of the model in a checkpoint; `ModelView.read` loads one tensor at a time.

    Args:
        source: The file.
        entry: The name of the state dict to read, if the file contains several: "model", "ema".
        planned: The name of the state dict for which a plan was made; it is read if there are several and `entry` is
            empty.

    Raises:
        UnsafeCheckpoint: Reading the file would run code, because it contains a pickled module or other objects.
        MalformedCheckpoint: The file is damaged.
        FileError: The file contains several state dicts and `entry` is the name of none of them, or it contains a
            quantized, sparse or nested tensor.
    """
    with source.open() as file:
        start = file.read(len(LEGACY_MAGIC))
    if not start.startswith(b"PK\3\4") and start != LEGACY_MAGIC:
        raise UnsafeCheckpoint(f"{source.path} is a pickle that torch.save did not write{_remedy(source)}")
    try:
        stored = _archive(source) if start.startswith(b"PK\3\4") else _legacy(source)
    except UnsafeCheckpoint as error:
        raise UnsafeCheckpoint(f"{error}{_remedy(source)}") from None
    found = _state_dict(stored.content, entry, planned, source)
    tensors = {key: value for key, value in found.content.items() if is_tensor(value)}
    check_count(len(tensors), str(source.path))
    check_names((key for key in tensors if isinstance(key, str)), str(source.path))
    for key, tensor in tensors.items():
        _check(source, key, tensor, stored.storages)
    verified: set[str] = set()

    def reader(path: str) -> Array:
        if path not in tensors:
            raise FileError(f"{source.path} has no tensor {quoted(path)}")
        return _values(source, tensors[path], stored.storages, verified)

    return ModelView(
        side="torch",
        name=source.path.name,
        layers=layers_of(_refs(tensors)),
        reader=reader,
        origin=str(source.path),
        facts=_facts(stored, found) | ({"warning": warning} if (warning := zero_tail(source)) else {}),
    )


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    return "constants.pkl" in {name.partition("/")[2] for name in scan(Source.pin(path))}


def _archive(source: Source) -> Stored:
    """Return the content of a checkpoint that is a zip archive, the format since torch 1.6."""
    members = scan(source)
    where = str(source.path)
    if message := foreign.archive_message(source.path, members):
        raise FileError(message)
    if packed := [member.name for member in members.values() if member.compressed]:
        raise BudgetExceeded(f"{where}: the member {quoted(packed[0])} is compressed, but torch.save never compresses")
    inner = {name.partition("/")[2]: member for name, member in members.items()}
    if "constants.pkl" in inner:
        raise UnsafeCheckpoint(
            f"{where} is a TorchScript archive, which contains code and is not read; save the state dict of the module"
        )
    pickled = [name for name in members if name.partition("/")[2] == "data.pkl"]
    if len(pickled) != 1:
        raise MalformedCheckpoint(
            f"{where} must have one member data.pkl, as torch.save writes it, but has {len(pickled)}"
        )
    prefix = pickled[0].removesuffix("data.pkl")
    if outside := [name for name in members if not name.startswith(prefix)]:
        raise MalformedCheckpoint(
            f"{where}: the member {quoted(outside[0])} is not in the folder {quoted(prefix)} with the others, as "
            "torch.save writes it"
        )
    if "byteorder" in inner and read_member(source, inner["byteorder"], 64) != b"little":
        raise FileError(f"{where} was written by a big-endian machine: load it with torch and save it again")
    data = read_member(source, members[pickled[0]], pickles.MAX_PICKLE)
    content, end = pickles.parse(data, where)
    if end != len(data):
        raise MalformedCheckpoint(
            f"{where}: the pickle data.pkl ends at byte {end:,}, but has {len(data):,}: the file is damaged; "
            "download or save it again"
        )
    storages = {name.removeprefix("data/"): member for name, member in inner.items() if name.startswith("data/")}
    for name, member in inner.items():
        if name not in ("data.pkl", "byteorder") and not name.startswith("data/"):
            verify(source, member)
    return Stored(content, storages, "torch checkpoint")


def _legacy(source: Source) -> Stored:
    """Return the content of a checkpoint in the format before torch 1.6: pickles, then the bytes of each storage."""
    where = str(source.path)
    with source.open() as file:
        data = bytes(source.read(file, 0, min(source.size, pickles.MAX_PICKLE)))
    position = len(LEGACY_MAGIC)
    version, position = pickles.parse(data, where, position)
    system, position = pickles.parse(data, where, position)
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise FileError(
            f"{where} was written by a big-endian machine or in an unknown version of the format: load it with torch "
            "and save it again"
        )
    found: list[Storage] = []
    content, position = pickles.parse(data, where, position, found)
    keys, position = pickles.parse(data, where, position)
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise MalformedCheckpoint(f"{where}: the list of tensor storages at the end of the pickles is damaged")
    check_count(len(keys), where)
    storages: dict[str, Member] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for storage in found:
        sizes[storage.key] = storage.itemsize, max(storage.offset + storage.size, sizes.get(storage.key, (1, 0))[1])
    with source.open() as file:
        for key in keys:
            (count,) = struct.unpack("<q", source.read(file, position, 8))
            itemsize, size = sizes.get(key, (1, -1))
            start, position = position + 8, position + 8 + count * itemsize
            if count < 0 or position > source.size or (key in sizes and count * itemsize < size):
                raise MalformedCheckpoint(
                    f"{where}: the tensor storage {quoted(key)} declares {count:,} values, which do not fit into the "
                    "file or the tensor"
                )
            storages[key] = Member(key, start, count * itemsize, count * itemsize, 0, compressed=False)
    if position != source.size:
        raise MalformedCheckpoint(f"{where} has {source.size:,} bytes, but its tensors end at byte {position:,}")
    return Stored(content, storages, "torch checkpoint in the format before torch 1.6")


def _remedy(source: Source) -> str:
    return (
        f'\nFix:  torch.save(model.state_dict(), "{source.path.stem}_weights.pt")'
        "  # where the class of the model is available"
    )


def _state_dict(content: Any, entry: str, planned: str, source: Source) -> Entry:
    """Return the state dict in the file; its name is empty if it is the whole file.

    Objects of other classes next to the state dict are placeholders; inside it or instead of it they are refused.

    Args:
        content: The object that was saved, with a `StoredTensor` or `OddTensor` in the place of each tensor.
        entry: The name of the wanted state dict; empty if the file has only one.
        planned: The name of the state dict to read if there are several and `entry` is empty.
        source: The file, for messages.
    """
    unloaded = first_placeholder(content)
    refusal = UnsafeCheckpoint(f"reading {source.path} would run code: it contains {unloaded}{_remedy(source)}")
    if unloaded and not entries_in(content):
        raise refusal
    refuse_unnamed(content, entry, str(source.path))
    found = find_entry(content, entry, source.path, planned)
    # In a flat file, the training arguments beside the tensors have names without dots.
    inside = [value for key, value in found.content.items() if found.name or "." in str(key)]
    if unloaded and any(map(first_placeholder, inside)):
        raise refusal
    return found


def _facts(stored: Stored, read: Entry) -> dict[str, str]:
    facts = {"format": stored.format}
    ignored = [str(key) for key, value in read.content.items() if not is_tensor(value) or not isinstance(key, str)]
    if read.name:
        facts["state dict"] = read.name
        ignored += [str(key) for key in stored.content if key != read.name.partition(".")[0]]
    facts |= other_state_dicts(stored.content, read)
    for one in unnamed_lists(stored.content):
        facts[one.name] = f"{one.length} tensors {ORDER}, as torch_ema saves averaged weights"
    if ignored:
        facts["ignored, not tensors of the model"] = listed(ignored, 50)
    return facts


def _refs(tensors: Mapping[str, StoredTensor]) -> Iterator[TensorRef]:
    views: dict[StoredTensor, list[str]] = {}
    for key, tensor in tensors.items():
        views.setdefault(tensor, []).append(key)
    for key, tensor in tensors.items():
        role, names = key.rpartition(".")[2], views[tensor]
        yield TensorRef(
            path=key,
            role=role,
            shape=tensor.shape,
            dtype=tensor.dtype,
            trainable=is_trainable(role, tensor.dtype),
            storage=names[0] if len(names) > 1 and 0 not in tensor.shape else "",
            location=key,
        )


def _check(source: Source, key: Any, tensor: StoredTensor | OddTensor, storages: Mapping[str, Member]) -> None:
    """Raise a `FileError` unless a tensor has a name, is an array of numbers, and has its values in the file.

    Args:
        source: The file.
        key: The key of the tensor in the state dict, which must be a text.
        tensor: The tensor.
        storages: For each key of a storage, its byte range in the file.
    """
    where = f"{source.path}: {quoted(key)}"
    if not isinstance(key, str):
        raise MalformedCheckpoint(
            f"{where} is a key of the state dict, but not a text, so it cannot be the name of a tensor"
        )
    if isinstance(tensor, OddTensor):
        raise FileError(f"{where} is a tensor that is {tensor.kind}; only dense tensors are supported")
    place = tensor.storage
    if place is None:
        raise NoData(f"{where} was saved without its values (on the meta device)")
    if tensor.size > max(place.size, EXPANSION_FLOOR):
        raise BudgetExceeded(
            f"{where} expands {place.size:,} stored bytes to {tensor.size:,} in memory; save a contiguous "
            "copy of the tensor"
        )
    member = storages.get(place.key)
    held = member.size if member else 0
    if place.offset == 0 and held != place.size and (place.size or member):
        raise MalformedCheckpoint(f"{where} declares {place.size:,} bytes of values, but the file has {held:,} for it")
    if tensor.reach and (tensor.offset + tensor.reach) * tensor.itemsize > place.size:
        raise MalformedCheckpoint(
            f"{where} needs more values than the {place.size:,} bytes that the file stores for it"
        )


def _values(source: Source, tensor: StoredTensor, storages: Mapping[str, Member], verified: set[str]) -> Array:
    dtype, place = dtype_named(tensor.dtype), tensor.storage
    if 0 in tensor.shape or place is None:
        return np.empty(tensor.shape, dtype)
    member = storages[place.key]
    if member.crc and place.key not in verified:
        verify(source, member)
        verified.add(place.key)
    start = member.start + place.offset + tensor.offset * tensor.itemsize
    with source.open() as file:
        buffer = source.read(file, start, tensor.reach * tensor.itemsize)
    strides = tuple(stride * tensor.itemsize for stride in tensor.strides)
    view = np.ndarray(tensor.shape, dtype, buffer, strides=strides)
    values = np.ascontiguousarray(view).reshape(tensor.shape)
    if tensor.is_conjugate:
        values = values.conj()
    return -values if tensor.is_negative else values
