"""Inspect HDF5 files before reading them, and refuse every group and dataset that is not plain data.

Plain data is stored in the file itself, reached through hard links, completely written, of the declared shape, and
compressed by HDF5's own filters only. These checks cannot prevent the HDF5 library from crashing or hanging on a
malicious file. Read files of unknown origin in a separate process.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, NoData, UnsafeCheckpoint
from keras3conv.formats.safe.source import MAX_TENSORS, Source, check_shape, dtype_named
from keras3conv.formats.safe.streaming import Extent, size_of
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array, Shape

if TYPE_CHECKING:
    import h5py

_FILTERS = frozenset({1, 2, 3})
"""The allowed filters: deflate, shuffle, Fletcher checksum. For other filters HDF5 would load and run a plugin."""

_MAX_EXPANSION = 1100
"""The maximum ratio of declared to stored bytes; deflate compresses at most 1032 to 1."""

_MAX_DEPTH = 64
_MAX_CHUNKS = 100_000
_BYTES_PER_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that passed the inspection.

    Attributes:
        path: The path in the file.
        shape: The shape.
        dtype: The name of the dtype, as in numpy or ml_dtypes.
        address: The address of the object header; two paths with the same address are the same dataset.
        stored: The size in the file, in bytes.
    """

    path: str
    shape: Shape
    dtype: str
    address: int
    stored: int


@dataclass(frozen=True)
class Tree:
    """The groups and the datasets of a file.

    Attributes:
        groups: For each path of a group, the names of its members; the path of the root group is empty.
        datasets: The datasets by path.
    """

    groups: Mapping[str, tuple[str, ...]]
    datasets: Mapping[str, Dataset]

    def shared(self) -> dict[str, str]:
        """Return, for each path of a dataset with several paths, the first of them; tied weights share a dataset."""
        first: dict[int, str] = {}
        names = {path: first.setdefault(dataset.address, path) for path, dataset in sorted(self.datasets.items())}
        several = {name for path, name in names.items() if path != name}
        return {path: name for path, name in names.items() if name in several}


@contextmanager
def opened(file: Any, where: str, mode: str = "r") -> Iterator["h5py.File"]:
    """Open a path or a file object; when reading, convert h5py's errors in the block to `MalformedCheckpoint`."""
    import h5py

    if mode != "r":
        try:
            with h5py.File(file, mode) as opened_file:
                yield opened_file
        except RuntimeError as error:  # what h5py raises if a file cannot be closed because the disk is full
            raise OSError(f"HDF5: {str(error)[:200]}") from error
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
        size: The size of the file in bytes.
        skip: Names of groups at the root to ignore.

    Raises:
        UnsafeCheckpoint: A group or dataset refers to another file, or needs a filter that is not part of HDF5.
        NoData: A dataset was never written, or only in part.
        BudgetExceeded: A dataset declares more data than its stored bytes can expand to, or there are too many objects.
        MalformedCheckpoint: The file has anything else that is not plain data.
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
                raise MalformedCheckpoint(f"{where}: the group {path!r} occurs twice, or is nested too deeply")
            seen.add(address)
            groups[path] = tuple(name for name in _names(node, path, where) if path or name not in skip)
            waiting += [(f"{path}/{name}".lstrip("/"), node[name]) for name in groups[path]]
        else:
            raise MalformedCheckpoint(f"{where}: {path!r} is neither a group nor a dataset")
        if len(groups) + len(datasets) + len(waiting) > 4 * MAX_TENSORS:
            raise BudgetExceeded(f"{where} has too many groups and datasets: more than {4 * MAX_TENSORS:,}")
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
    """Raise `FileError` for a path that HDF5 does not allow: with an empty part, a part ".", or a NUL."""
    if not all(part.strip(".") or part.count(".") > 1 for part in path.split("/")) or "\0" in path:
        raise FileError(f"{path!r} is not a valid path in an HDF5 file")


class Declarations:
    """Declares datasets in a new file, whose values are written later, to the bytes that HDF5 reserves for them.

    A dataset is contiguous, and has no timestamp. bfloat16 is marked by an attribute, as Keras does it.
    """

    def __init__(self, file: "h5py.File") -> None:
        """Declare datasets in an open file."""
        import h5py

        self._file = file
        self._groups: dict[str, h5py.Group] = {}
        self._types: dict[str, Any] = {}
        self._parents = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        self._parents.set_create_intermediate_group(True)
        self._parents.set_char_encoding(h5py.h5t.CSET_UTF8)
        self._plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self._plain.set_layout(h5py.h5d.CONTIGUOUS)
        self._plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self._plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self._plain.set_obj_track_times(False)

    def group(self, path: str) -> "h5py.Group":
        """Return the group at a path; create it, and the groups around it, if it is missing."""
        if path not in self._groups:
            check_path(path)
            self._groups[path] = self._file.require_group(path)
        return self._groups[path]

    def dataset(self, group: "h5py.Group", name: str, tensor: TensorRef) -> Extent:
        """Declare the dataset of a tensor in a group, and return the bytes of the file that its values belong to."""
        import h5py

        check_path(name)
        if tensor.dtype.startswith("float8"):
            raise FileError(f"{group.name}/{name}: Keras cannot store {tensor.dtype} in a weight file")
        if tensor.dtype not in self._types:
            stored = np.dtype("V2") if tensor.dtype == "bfloat16" else dtype_named(tensor.dtype)
            self._types[tensor.dtype] = h5py.h5t.py_create(stored, logical=True)
        space = h5py.h5s.create_simple(tensor.shape) if tensor.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        made = h5py.h5d.create(group.id, name.encode(), self._types[tensor.dtype], space, self._plain, self._parents)
        if tensor.dtype == "bfloat16":
            h5py.Dataset(made).attrs["dtype"] = "bfloat16"
        size = size_of(tensor)
        return Extent(int(made.get_offset()) if size else 0, size)


def extents(source: Source) -> dict[str, Extent]:
    """Return where the values of each dataset are, in a file that was written by `Declarations`."""
    import h5py

    found: dict[str, Extent] = {}

    def note(name: bytes, info: Any) -> None:
        if info.type == h5py.h5o.TYPE_DATASET:
            dataset = h5py.h5d.open(root, name)
            size = dataset.get_storage_size()
            found[name.decode()] = Extent(int(dataset.get_offset()) if size else 0, int(size))

    with source.unchanged() as path, opened(path, str(source.path)) as file:
        root = h5py.h5g.open(file.id, b"/")
        h5py.h5o.visit(root, note, info=True)
    return found


def overwrite_datasets(file: "h5py.File", places: Mapping[str, TensorRef], read: Reader, where: str) -> None:
    """Write new values into the existing datasets in `places`; raise `FileError` if a shape or dtype differs."""
    for path, tensor in places.items():
        node, array = file[path], read(tensor.path)
        stored = node.dtype
        if array.dtype.name == "bfloat16" and stored.kind == "V":
            array = array.view(stored)
        if node.shape != array.shape or stored.newbyteorder("=") != array.dtype:
            raise FileError(
                f"{where}: {path!r} is {stored} {node.shape}, but {tensor.path} is {array.dtype} {array.shape}"
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
    """Return the list of names in an attribute; None if it is missing. Keras splits a long list into numbered parts."""
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
        raise UnsafeCheckpoint(f"{place} needs the filter {min(filters - _FILTERS)}, which is not a part of HDF5")
    dtype = _dtype_name(node, place)
    size = check_shape(node.shape, place) * node.dtype.itemsize
    stored = int(node.id.get_storage_size())
    if size and not stored:
        raise NoData(f"{place} was declared but never written")
    if creation.get_layout() == h5py.h5d.CHUNKED:
        _check_chunks(node, size, stored, place)
    elif stored != size:
        raise MalformedCheckpoint(f"{place} declares {size:,} bytes, but stores {stored:,}")
    return Dataset(path=path, shape=node.shape, dtype=dtype, address=_address(node), stored=stored)


def _check_chunks(node: "h5py.Dataset", size: int, stored: int, place: str) -> None:
    if size > _MAX_EXPANSION * stored:
        raise BudgetExceeded(f"{place} declares {size:,} bytes, but stores {stored:,}")
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
        raise UnsafeCheckpoint(f"{place} contains references, not numbers")
    marked = node.attrs.get("dtype") if "dtype" in node.attrs else None
    if node.dtype.kind == "V" and node.dtype.itemsize == 2 and node.dtype.names is None and marked == "bfloat16":
        return "bfloat16"
    if node.dtype.kind not in "biufc" or node.dtype.subdtype is not None or marked not in (None, node.dtype.name):
        mark = f" marked {marked}" if marked else ""
        raise MalformedCheckpoint(f"{place} contains {node.dtype}{mark}, not numbers")
    return str(dtype_named(node.dtype.newbyteorder("=").name).name)


def _check_total(datasets: Mapping[str, Dataset], where: str, size: int) -> None:
    """Raise `BudgetExceeded` if the stored sizes of all datasets add up to more bytes than the file has."""
    stored = sum({dataset.address: dataset.stored for dataset in datasets.values()}.values())
    if stored > size:
        raise BudgetExceeded(f"{where} has {size:,} bytes, but its datasets declare {stored:,} stored bytes")
