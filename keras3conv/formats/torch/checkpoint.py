"""Read checkpoints of `torch.save` without running their code, one tensor at a time.

`torch.load(weights_only=True, map_location="meta")` reads the names and shapes without the values. After a check of the
archive, each tensor is read from its byte range. A file in the format before torch 1.6 is not an archive, and is loaded
as a whole.
"""

import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, MissingExtra, NoData, UnsafeCheckpoint
from keras3conv.formats.safe.source import Source, check_count, dtype_named
from keras3conv.formats.safe.zip import Member, scan, verify
from keras3conv.formats.torch.entries import find_entry, is_tensor
from keras3conv.formats.torch.inert import has_placeholder, load
from keras3conv.formats.torch.names import is_trainable, layers_of
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.transforms import Array, Shape

if TYPE_CHECKING:
    import torch

EXPANSION_FLOOR = 64 << 20
"""The maximum size in bytes of an expanded tensor (with stride 0) that is larger than its storage."""

_OLDEST = (2, 10)
"""The minimum version of torch; in older versions a checkpoint can run code despite `weights_only=True`."""

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number at the start of every checkpoint in the format before torch 1.6."""


@dataclass(frozen=True)
class Stored:
    """The position of the values of one tensor in the archive.

    Attributes:
        member: The member of the archive that contains the storage.
        dtype: The name of the dtype.
        shape: The shape.
        strides: The strides in elements.
        offset: The offset of the first element in the storage, in elements.
    """

    member: Member
    dtype: str
    shape: Shape
    strides: tuple[int, ...]
    offset: int


def read(source: Source, entry: str = "") -> ModelView:
    """Return a view of the model in a checkpoint; `ModelView.read` loads one tensor at a time.

    Args:
        source: The file.
        entry: The name of the state dict to read, if the file contains several: "model", "ema".

    Raises:
        UnsafeCheckpoint: Reading the file would run code, because it contains a pickled module or other objects.
        MalformedCheckpoint: The file is damaged.
        FileError: The file contains several state dicts and `entry` is the name of none of them, or it contains a
            quantized, sparse or nested tensor.
    """
    with source.open() as file:
        start = file.read(len(LEGACY_MAGIC))
    zipped = start.startswith(b"PK\3\4")
    if not zipped and start != LEGACY_MAGIC:
        raise UnsafeCheckpoint(f"{source.path} is a pickle that torch.save did not write{_remedy(source)}")
    members = _scan(source) if zipped else {}
    content, refused = _load(source, "meta" if zipped else "cpu")
    name, entries = _state_dict(content, entry, source, refused)
    tensors = {key: value for key, value in entries.items() if is_tensor(value)}
    check_count(len(tensors), str(source.path))
    if zipped:
        by_start = {member.start: member for member in members.values()}
        stored = {key: _locate(source, key, value, by_start) for key, value in tensors.items()}
        verified: set[int] = set()

        def reader(path: str) -> Array:
            return _read_stored(source, path, stored, verified)
    else:

        def reader(path: str) -> Array:
            return _to_numpy(tensors[path])

    return ModelView(
        side="torch",
        name=source.path.name,
        layers=layers_of(_refs(source, tensors)),
        reader=reader,
        origin=str(source.path),
        facts=_facts(zipped, name, content, entries),
    )


def _scan(source: Source) -> dict[str, Member]:
    members = scan(source)
    if packed := [member.name for member in members.values() if member.compressed]:
        raise BudgetExceeded(f"{source.path}: {packed[0]!r} is compressed, but torch.save never compresses")
    names = [name.partition("/")[2] for name in members]
    if "constants.pkl" in names:
        raise UnsafeCheckpoint(f"{source.path} is a TorchScript archive, which contains code{_remedy(source)}")
    if names.count("data.pkl") != 1:
        raise MalformedCheckpoint(f"{source.path} has {names.count('data.pkl')} members data.pkl; a checkpoint has one")
    for member in members.values():
        if member.name.endswith("/byteorder") and member.size < 64:
            with source.open() as file:
                if bytes(source.read(file, member.start, member.size)) != b"little":
                    raise FileError(f"{source.path} was written big-endian: load and save it with torch first")
        if "/data/" not in member.name:
            verify(source, member)
    return members


def _load(source: Source, device: str) -> tuple[Any, pickle.UnpicklingError | None]:
    try:
        import torch
    except ImportError:
        raise MissingExtra(f"reading {source.path.name}", "torch", "torch") from None
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise UnsafeCheckpoint(f"a checkpoint can run code in torch {torch.__version__}: torch {needed} is needed")
    try:
        with source.unchanged() as path, warnings.catch_warnings():
            # The user cannot act on this warning: it concerns how the file was written.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return load(path, device)
    except pickle.UnpicklingError as error:
        raise _refusal(source, error) from error
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise MalformedCheckpoint(f"{source.path} cannot be read: {_first_line(error)}") from error
    except (AssertionError, EOFError, OSError, OverflowError, MemoryError, struct.error) as error:
        raise MalformedCheckpoint(f"{source.path} cannot be read: {_first_line(error)}") from error


def _refusal(source: Source, error: pickle.UnpicklingError) -> FileError:
    """Return `UnsafeCheckpoint` if the pickle contains an object that runs code, else `MalformedCheckpoint`."""
    found = re.search(r"GLOBAL\s+([\w.]+)", str(error))
    if found or "weights_only" in str(error).lower():
        what = f": it contains {found[1]}" if found else ""
        return UnsafeCheckpoint(f"reading {source.path} would run code{what}{_remedy(source)}")
    return MalformedCheckpoint(f"{source.path} cannot be read: {_first_line(error)}")


def _remedy(source: Source) -> str:
    return (
        f'\nFix:  torch.save(model.state_dict(), "{source.path.stem}_weights.pt")  where the model class is available'
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _state_dict(
    content: Any, entry: str, source: Source, refused: pickle.UnpicklingError | None
) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the state dict in the file (empty if it is the whole file), and the state dict.

    Objects of other classes may stand beside the state dict, where they are placeholders; in its place, or inside it,
    they are refused.
    """
    try:
        found = find_entry(content, entry, source.path)
    except FileError:
        if refused is not None:
            raise _refusal(source, refused) from refused
        raise
    # Beside the tensors of a flat file, its arguments have names without dots.
    inside = [value for key, value in found.content.items() if found.name or "." in str(key)]
    if refused is not None and any(map(has_placeholder, inside)):
        raise _refusal(source, refused) from refused
    return found.name, found.content


def _facts(zipped: bool, name: str, content: Mapping[Any, Any], entries: Mapping[Any, Any]) -> dict[str, str]:
    facts = {"format": "torch checkpoint" if zipped else "torch checkpoint in the format before torch 1.6"}
    ignored = [str(key) for key, value in entries.items() if not is_tensor(value) or not isinstance(key, str)]
    if name:
        facts["state dict"] = name
        ignored += [str(key) for key in content if key != name.partition(".")[0]]
    if ignored:
        facts["ignored, not tensors of the model"] = ", ".join(ignored[:50])
    return facts


def _refs(source: Source, tensors: Mapping[str, "torch.Tensor"]) -> Iterator[TensorRef]:
    views: dict[tuple[Any, ...], list[str]] = {}
    for key, tensor in tensors.items():
        _check_plain(source, key, tensor)
        views.setdefault(_view(tensor), []).append(key)
    for key, tensor in tensors.items():
        role, names = str(key).rpartition(".")[2], views[_view(tensor)]
        yield TensorRef(
            path=key,
            role=role,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            trainable=is_trainable(role),
            storage=names[0] if len(names) > 1 and tensor.numel() else "",
            location=key,
        )


def _view(tensor: "torch.Tensor") -> tuple[Any, ...]:
    """Return the identity of a tensor: two names with equal identities are the same tensor (tied weights)."""
    storage = tensor.untyped_storage()
    return (
        # A storage on the meta device has no address; its offset in the archive identifies the storage.
        getattr(storage, "_checkpoint_offset", storage.data_ptr() if tensor.device.type == "cpu" else id(tensor)),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
    )


def _check_plain(source: Source, key: Any, tensor: "torch.Tensor") -> None:
    import torch

    where = f"{source.path}: {key!r}"
    if not isinstance(key, str):
        raise MalformedCheckpoint(f"{where} is not a string, so it cannot be the name of a tensor")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise FileError(f"{where} is quantized, sparse or nested: only plain tensors are supported")
    dtype_named(str(tensor.dtype).removeprefix("torch."))
    size, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if size > max(held, EXPANSION_FLOOR):
        raise BudgetExceeded(f"{where} expands {held:,} stored bytes to {size:,}")


def _locate(source: Source, key: str, tensor: "torch.Tensor", members: Mapping[int, Member]) -> Stored:
    _check_plain(source, key, tensor)
    storage = tensor.untyped_storage()
    start = getattr(storage, "_checkpoint_offset", None)
    if start is None:
        raise NoData(f"{source.path}: {key!r} was saved without its values (on the meta device)")
    member = members.get(start)
    if storage.nbytes() == 0:
        member = Member("", 0, 0, 0, 0, compressed=False)
    if member is None or member.size != storage.nbytes():
        raise MalformedCheckpoint(
            f"{source.path}: {key!r} has a storage of {storage.nbytes():,} bytes at byte {start:,}, but the archive "
            "has no such member"
        )
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() and (last + 1) * tensor.element_size() > storage.nbytes():
        raise MalformedCheckpoint(f"{source.path}: {key!r} extends beyond its storage")
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Stored(member, dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))


def _read_stored(source: Source, path: str, stored: Mapping[str, Stored], verified: set[int]) -> Array:
    if path not in stored:
        raise FileError(f"{source.path} has no tensor {path!r}")
    place = stored[path]
    if place.member.start not in verified:
        verify(source, place.member)
        verified.add(place.member.start)
    dtype = dtype_named(place.dtype)
    if 0 in place.shape:
        return np.empty(place.shape, dtype)
    reach = 1 + sum((size - 1) * stride for size, stride in zip(place.shape, place.strides, strict=True))
    with source.open() as file:
        buffer = source.read(file, place.member.start + place.offset * dtype.itemsize, reach * dtype.itemsize)
    strides = tuple(stride * dtype.itemsize for stride in place.strides)
    view = np.ndarray(place.shape, dtype, buffer, strides=strides)
    return np.ascontiguousarray(view).reshape(place.shape)


def _to_numpy(tensor: "torch.Tensor") -> Array:
    import torch

    dtype = dtype_named(str(tensor.dtype).removeprefix("torch."))
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return raw.view(dtype).reshape(tuple(tensor.shape)).copy()
