"""Inspect HDF5 files before they are read: refuse every group and dataset that is not plain data.

Plain data is in this file, behind hard links, written, of the declared shape, and compressed by filters of HDF5 itself.
These checks cannot prevent the HDF5 library from crashing or hanging on a malicious file. Read files of unknown origin
in a separate process.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, NoData, UnsafeCheckpoint
from keras3conv.formats.safe.source import MAX_TENSORS, check_shape, dtype_named
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array, Shape

if TYPE_CHECKING:
    import h5py

_FILTERS = frozenset({1, 2, 3})
"""Deflate, shuffle and the Fletcher checksum. For any other filter HDF5 would load and run a plugin."""

_MAX_EXPANSION = 1100
"""Deflate compresses at most 1032 to 1."""

_MAX_DEPTH = 64
_MAX_CHUNKS = 100_000
_BYTES_PER_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that passed the inspection.

    Attributes:
        path: Its path in the file.
        shape: Its shape.
        dtype: The name of its dtype, as numpy or ml_dtypes spell it.
        address: The address of its header; two paths with the same address are one dataset.
        stored: Its size in the file, in bytes.
    """

    path: str
    shape: Shape
    dtype: str
    address: int
    stored: int


@dataclass(frozen=True)
class Tree:
    """The groups and the datasets of a file, by path; the path of the root group is empty.

    Attributes:
        groups: The names of the members of each group.
        datasets: The datasets.
    """

    groups: Mapping[str, tuple[str, ...]]
    datasets: Mapping[str, Dataset]

    def shared(self) -> dict[str, str]:
        """Return the first name of each dataset that has several names, by each of its names."""
        first: dict[int, str] = {}
        names = {path: first.setdefault(dataset.address, path) for path, dataset in sorted(self.datasets.items())}
        several = {name for path, name in names.items() if path != name}
        return {path: name for path, name in names.items() if name in several}


@contextmanager
def opened(file: Any, where: str, mode: str = "r") -> Iterator["h5py.File"]:
    """Open a path or a file object; turn errors of h5py in the block into `MalformedCheckpoint` (when reading)."""
    import h5py

    if mode != "r":
        with h5py.File(file, mode) as opened_file:
            yield opened_file
        return
    try:
        with h5py.File(file, mode) as opened_file:
            yield opened_file
    except BlockingIOError as error:
        raise FileError(f"{where} is being written by another program") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise MalformedCheckpoint(f"{where} is not a complete HDF5 file: {str(error)[:200]}") from error


def survey(file: "h5py.File", where: str, size: int, skip: tuple[str, ...] = ()) -> Tree:
    """Return the groups and datasets of a file, without reading values.

    Args:
        file: The open file.
        where: The name of the file for messages.
        size: Its size in bytes.
        skip: Groups at the root to ignore.

    Raises:
        UnsafeCheckpoint: A group or dataset refers to another file, or needs code outside of HDF5.
        NoData: A dataset was never written.
        BudgetExceeded: A dataset declares more than it can hold.
        MalformedCheckpoint: Anything else that is not plain data.
    """
    import h5py

    groups: dict[str, tuple[str, ...]] = {}
    datasets: dict[str, Dataset] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", file)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, h5py.Dataset):
            datasets[path] = _inspect(node, path, where)
        elif isinstance(node, h5py.Group):
            if (address := _address(node)) in seen or path.count("/") >= _MAX_DEPTH:
                raise MalformedCheckpoint(f"{where}: the group {path!r} is there twice, or nested too deeply")
            seen.add(address)
            groups[path] = tuple(name for name in _names(node, path, where) if path or name not in skip)
            waiting += [(f"{path}/{name}".lstrip("/"), node[name]) for name in groups[path]]
        else:
            raise MalformedCheckpoint(f"{where}: {path!r} is neither a group nor a dataset")
        if len(groups) + len(datasets) + len(waiting) > 4 * MAX_TENSORS:
            raise BudgetExceeded(f"{where} has more groups and datasets than any model")
    _check_total(datasets, where, size)
    return Tree(groups, datasets)


def read_dataset(file: "h5py.File", dataset: Dataset) -> Array:
    """Return the values of an inspected dataset, little-endian."""
    node = file[dataset.path]
    if node.shape != dataset.shape:
        raise MalformedCheckpoint(f"{file.filename}: {dataset.path!r} changed its shape")
    dtype = dtype_named(dataset.dtype)
    stored = node[...] if node.shape else np.asarray(node[()])
    if dataset.dtype == "bfloat16":
        return np.ascontiguousarray(stored).view(dtype).reshape(dataset.shape)
    return np.ascontiguousarray(stored.astype(dtype, copy=False)).reshape(dataset.shape)


def check_path(path: str) -> None:
    """Raise `FileError` for a name that HDF5 cannot hold: an empty part, a single dot, a NUL."""
    if not all(part.strip(".") or part.count(".") > 1 for part in path.split("/")) or "\0" in path:
        raise FileError(f"{path!r} is not a name that HDF5 can hold")


def create_dataset(group: "h5py.Group", name: str, array: Array) -> None:
    """Write an array contiguously, without a timestamp; mark bfloat16 as Keras does."""
    check_path(name)
    if array.dtype.name.startswith("float8"):
        raise FileError(f"{group.name}/{name}: Keras has no {array.dtype.name} in a weight file")
    dataset = group.create_dataset(name, data=contiguous(array), track_times=False)
    if array.dtype.name == "bfloat16":
        dataset.attrs["dtype"] = "bfloat16"


def overwrite_datasets(file: "h5py.File", places: Mapping[str, TensorRef], read: Reader, where: str) -> None:
    """Write new values into existing datasets, by their paths; raise `FileError` if shape or dtype differ."""
    for path, tensor in places.items():
        node, array = file[path], read(tensor.path)
        stored = node.dtype
        if array.dtype.name == "bfloat16" and stored.kind == "V":
            array = array.view(stored)
        if node.shape != array.shape or stored.newbyteorder("=") != array.dtype:
            raise FileError(
                f"{where}: {path!r} holds {stored} {node.shape}, {tensor.path} is {array.dtype} {array.shape}"
            )
        node[...] = contiguous(array)


def text_attribute(node: Any, name: str, where: str) -> str | None:
    """Return a text attribute; None if it is missing."""
    if name not in node.attrs:
        return None
    value = node.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise MalformedCheckpoint(f"{where}: the attribute {name!r} is not text")
    return value


def list_attribute(node: Any, name: str, where: str) -> list[str] | None:
    """Return a list of names; None if it is missing. Keras splits long lists into numbered parts."""
    numbered = (f"{name}{number}" for number in count())
    parts = [name] if name in node.attrs else list(takewhile(node.attrs.__contains__, numbered))
    names: list[str] = []
    for part in parts:
        value = np.asarray(node.attrs[part])
        if value.ndim != 1 or (value.size and value.dtype.kind not in "OSU") or value.size > MAX_TENSORS:
            raise MalformedCheckpoint(f"{where}: the attribute {part!r} is not a list of names")
        names += [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in value]
    return names if parts else None


def _names(group: "h5py.Group", path: str, where: str) -> list[str]:
    import h5py

    names = []
    for raw in group.id:
        if group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise UnsafeCheckpoint(f"{where}: {path}/{raw.decode('utf-8', 'replace')} is a link, not data")
        names.append(raw.decode("utf-8"))
    return names


def _address(node: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(node.id).addr)


def _inspect(node: "h5py.Dataset", path: str, where: str) -> Dataset:
    import h5py

    place = f"{where}: {path!r}"
    if node.shape is None:
        raise MalformedCheckpoint(f"{place} has no shape")
    creation = node.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise UnsafeCheckpoint(f"{place} keeps its data in another file")
    filters = {creation.get_filter(number)[0] for number in range(creation.get_nfilters())}
    if filters - _FILTERS:
        raise UnsafeCheckpoint(f"{place} needs the filter {min(filters - _FILTERS)}, which is code outside of HDF5")
    dtype = _dtype_name(node, place)
    size = check_shape(node.shape, place) * node.dtype.itemsize
    stored = int(node.id.get_storage_size())
    if size and not stored:
        raise NoData(f"{place} was declared but never written")
    if creation.get_layout() == h5py.h5d.CHUNKED:
        _check_chunks(node, size, stored, place)
    elif stored != size:
        raise MalformedCheckpoint(f"{place} declares {size:,} bytes and stores {stored:,}")
    return Dataset(path=path, shape=node.shape, dtype=dtype, address=_address(node), stored=stored)


def _check_chunks(node: "h5py.Dataset", size: int, stored: int, place: str) -> None:
    if size > _MAX_EXPANSION * stored:
        raise BudgetExceeded(f"{place} declares {size:,} bytes and stores {stored:,}")
    needed = 1
    for length, chunk in zip(node.shape, node.chunks, strict=True):
        needed *= -(-length // chunk)
    if needed > max(_MAX_CHUNKS, size // _BYTES_PER_CHUNK):
        raise BudgetExceeded(f"{place} is split into {needed:,} chunks: reading it would take minutes")
    if int(node.id.get_num_chunks()) < needed:
        raise NoData(f"{place} was written only in part: {node.id.get_num_chunks():,} of {needed:,} chunks")


def _dtype_name(node: "h5py.Dataset", place: str) -> str:
    import h5py

    if h5py.check_ref_dtype(node.dtype) is not None:
        raise UnsafeCheckpoint(f"{place} holds references, not numbers")
    marked = node.attrs.get("dtype") if "dtype" in node.attrs else None
    if node.dtype.kind == "V" and node.dtype.itemsize == 2 and node.dtype.names is None and marked == "bfloat16":
        return "bfloat16"
    if node.dtype.kind not in "biufc" or node.dtype.subdtype is not None or marked not in (None, node.dtype.name):
        mark = f" marked {marked}" if marked else ""
        raise MalformedCheckpoint(f"{place} holds {node.dtype}{mark}, not numbers")
    return str(dtype_named(node.dtype.newbyteorder("=").name).name)


def _check_total(datasets: Mapping[str, Dataset], where: str, size: int) -> None:
    """Check that the datasets together do not claim more bytes than the file has."""
    stored = sum({dataset.address: dataset.stored for dataset in datasets.values()}.values())
    if stored > size:
        raise BudgetExceeded(f"{where} has {size:,} bytes, its datasets claim to store {stored:,}")
