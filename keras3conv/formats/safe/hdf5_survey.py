"""Inspect an HDF5 file before it is read, and refuse every group and dataset that is not plain data.

Plain data is stored in the file itself, reached through hard links, completely written, of the declared shape, and
compressed by HDF5's own filters only. The HDF5 library itself may crash, hang, or use all memory on a damaged file, so
these functions run only in the process of `hdf5_child`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import (
    BudgetExceeded,
    FileError,
    MalformedCheckpoint,
    NoData,
    UnsafeCheckpoint,
    message_of,
    quoted,
)
from keras3conv.formats.safe.hdf5_dataset import Attribute, Dataset
from keras3conv.formats.safe.hdf5_tree import (
    ATTRIBUTES,
    MAX_DEPTH,
    MAX_NAME,
    MAX_NAMES,
    MAX_TEXT,
    Tree,
    check_total,
    ignored_group,
)
from keras3conv.formats.safe.source import MAX_TENSORS, check_shape, dtype_named
from keras3conv.transforms import Array

if TYPE_CHECKING:
    import h5py

_FILTERS = frozenset({1, 2, 3})
"""The allowed HDF5 filters: deflate, shuffle, Fletcher checksum. Any other filter would load and run a plugin."""

_MAX_EXPANSION = 1100
"""The maximum ratio of declared to stored bytes; deflate compresses at most 1032 to 1."""

_MAX_CHUNKS = 100_000
_BYTES_PER_CHUNK = 512


@contextmanager
def opened(file: Any, where: str) -> Iterator["h5py.File"]:
    """Open an HDF5 path or file object in a `with` block; errors of h5py in it become `MalformedCheckpoint`."""
    import h5py

    try:
        with h5py.File(file, "r") as opened_file:
            yield opened_file
    except BlockingIOError as error:
        raise FileError(f"{where} is being written by another program") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise MalformedCheckpoint(f"{where} is not a complete HDF5 file: {quoted(message_of(error))[1:-1]}") from error


def survey(file: "h5py.File", where: str, size: int) -> Tree:
    """Return the groups and datasets of a file, without reading values.

    Args:
        file: The open file.
        where: The name of the file for messages.
        size: The size of the file in bytes.

    Raises:
        UnsafeCheckpoint: A group or dataset refers to another file, or needs a filter that is not part of HDF5.
        NoData: A dataset was never written, or only in part.
        BudgetExceeded: A dataset declares more data than its stored bytes can expand to, or there are too many objects.
        MalformedCheckpoint: The file has anything else that is not plain data.
    """
    return _Survey(file, where).run(size)


def read_dataset(file: "h5py.File", dataset: Dataset) -> Array:
    """Return the values of a dataset that `survey` has checked, as little-endian numbers."""
    node = file[dataset.path]
    if node.shape != dataset.shape:
        raise MalformedCheckpoint(
            f"the dataset {quoted(dataset.path)} had the shape {dataset.shape}, but has {node.shape} now: the file "
            "changed while it was read"
        )
    dtype = dtype_named(dataset.dtype)
    stored = node[...] if node.shape else np.asarray(node[()])
    if dataset.dtype == "bfloat16":
        return np.ascontiguousarray(stored).view(dtype).reshape(dataset.shape)
    return np.ascontiguousarray(stored.astype(dtype, copy=False)).reshape(dataset.shape)


class _Survey:
    """Walks over the groups of an HDF5 file and inspects each object once."""

    def __init__(self, file: "h5py.File", where: str) -> None:
        self.file, self.where = file, where
        self.groups: dict[str, tuple[str, ...]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.attributes: dict[str, dict[str, Attribute]] = {}
        self.by_address: dict[int, Dataset] = {}
        self.bytes_of_names = 0

    def run(self, size: int) -> Tree:
        ignored = ignored_group(self.file, self.file.attrs)
        self._group("", self.file, ignored)
        found = self.datasets.values()
        stored = sum({one.address: one.stored for one in found}.values())
        check_total(stored, sum(one.stored for one in found), len(found), self.where, size)
        return Tree(
            where=self.where,
            groups=self.groups,
            datasets=self.datasets,
            attributes=self.attributes,
            ignored=(ignored,) if ignored else (),
        )

    def _group(self, path: str, node: Any, ignored: str) -> None:
        import h5py

        root = h5py.h5g.open(node.id, b"/")
        # The low-level objects of h5py: its others take several times as long, and a file may have 100,000 groups.
        waiting: list[tuple[str, Any, int]] = [(path, root, int(h5py.h5o.get_info(root).addr))]
        seen: set[int] = set()
        while waiting:
            path, group, address = waiting.pop()
            if not isinstance(group, h5py.h5g.GroupID):
                raise MalformedCheckpoint(
                    f"{self.where}: the HDF5 object {quoted(path)} is neither a group nor a dataset, so it holds no "
                    "weights"
                )
            if path.count("/") >= MAX_DEPTH:
                raise MalformedCheckpoint(f"{self.where}: the group {quoted(path)} is deeper than {MAX_DEPTH} levels")
            if address in seen:
                raise MalformedCheckpoint(f"{self.where}: the group {quoted(path)} is stored under two names")
            seen.add(address)
            if attributes := dict(_attributes(group, f"{self.where}: {quoted(path or '/')}")):
                self.attributes[path] = attributes
            members = self._members(group, path)
            if not path:
                members.pop(ignored, None)
            self.groups[path] = tuple(members)
            for name, place_in_file in members.items():
                place = f"{path}/{name}".lstrip("/")
                if not self._known(place_in_file, place):
                    member = h5py.h5o.open(group, name.encode())
                    h5py.h5o.get_info(member)  # it fails if a tree or a time is damaged that nothing else here reads
                    if isinstance(member, h5py.h5d.DatasetID):
                        self._dataset(h5py.Dataset(member), place, place_in_file)
                    else:
                        waiting.append((place, member, place_in_file))

    def _known(self, address: int, path: str) -> bool:
        """Return whether a dataset was inspected before, under another path; then record it under the new one, too."""
        known = self.by_address.get(address)
        if known is not None:
            self.datasets[path] = known._replace(path=path)
        return known is not None

    def _dataset(self, node: "h5py.Dataset", path: str, address: int) -> None:
        dataset = _inspect(node, path, self.where, address)
        self.datasets[path] = self.by_address[dataset.address] = dataset

    def _members(self, group: Any, path: str) -> dict[str, int]:
        """Return the names of the members of a group, each with the address of the object.

        Args:
            group: The group, as h5py's `GroupID`.
            path: Its path in the file.
        """
        import h5py

        members: dict[str, int] = {}
        links = group.links
        if group.get_num_objs() + len(self.groups) + len(self.datasets) > 2 * MAX_TENSORS:
            raise BudgetExceeded(
                f"{self.where} has more than {2 * MAX_TENSORS:,} groups and datasets, which is the limit"
            )
        found: list[bytes] = []
        links.iterate(found.append)  # unlike a loop over the group, it fails if an empty group is damaged
        for raw in found:
            self.bytes_of_names += len(raw) + len(path)
            if len(raw) > MAX_NAME:
                raise BudgetExceeded(
                    f"{self.where}: the name {quoted(raw)} has {len(raw):,} bytes; the limit is {MAX_NAME:,}"
                )
            if self.bytes_of_names > MAX_NAMES:
                raise BudgetExceeded(
                    f"{self.where}: the names of its groups and datasets have more than {MAX_NAMES:,} bytes together, "
                    "which is the limit"
                )
            link = links.get_info(raw)
            if link.type != h5py.h5l.TYPE_HARD:
                raise UnsafeCheckpoint(
                    f"{self.where}: {quoted(f'{path}/{_decoded(raw)}')} is a link, which could lead out of the file; "
                    "only data is read"
                )
            members[raw.decode("utf-8")] = int(link.u)
        return members


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _attributes(group: Any, place: str) -> Iterator[tuple[str, Attribute]]:
    """Yield the HDF5 attributes of a group that Keras uses; no other attribute is read.

    Args:
        group: The group, as h5py's `GroupID`.
        place: The names of the file and the group, for messages.
    """
    import h5py

    count = h5py.h5a.get_num_attrs(group)
    if count > MAX_TENSORS:
        raise BudgetExceeded(f"{place} has {count:,} attributes; the limit is {MAX_TENSORS:,}")
    for number in range(count):
        attribute = h5py.h5a.open(group, index=number)
        name = attribute.name.decode("utf-8", "replace")
        if ATTRIBUTES.fullmatch(name):
            # Attributes of fixed length are checked before they are read, attributes of variable length afterwards.
            if (size := _attribute_size(attribute)) > MAX_TEXT:
                raise BudgetExceeded(f"{place}: the attribute {name!r} has {size:,} bytes; the limit is {MAX_TEXT:,}")
            value = _attribute(h5py.Group(group).attrs[name], name, place)
            limit = MAX_NAME if name == "name" else MAX_TEXT
            if (len(value) if isinstance(value, str) else sum(map(len, value))) > limit:
                raise BudgetExceeded(f"{place}: the attribute {name!r} is longer than {limit:,} characters")
            yield name, value


def _attribute_size(attribute: Any) -> int:
    return int(attribute.get_type().get_size()) * int(attribute.get_space().get_simple_extent_npoints())


def _attribute(value: Any, name: str, place: str) -> Attribute:
    if isinstance(value, bytes | str):
        return _text(value)
    array = np.asarray(value)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "OSU") or array.size > MAX_TENSORS:
        raise MalformedCheckpoint(f"{place}: the attribute {name!r} is neither text nor a list of names")
    return tuple(map(_text, array))


def _text(value: Any) -> str:
    """Return a text from HDF5 as str; raise `UnicodeError` if the bytes were not UTF-8 (h5py then uses surrogates)."""
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    text.encode("utf-8")
    return text


def _inspect(node: "h5py.Dataset", path: str, where: str, address: int) -> Dataset:
    import h5py

    place = f"{where}: {quoted(path)}"
    shape, stored_dtype = node.shape, node.dtype  # h5py makes both anew each time
    if shape is None:
        raise MalformedCheckpoint(f"{place} is a dataset without a shape (an HDF5 null), which holds no numbers")
    creation = node.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise UnsafeCheckpoint(
            f"{place} keeps its data in another file, which is not read; save the weights into one file"
        )
    filters = {creation.get_filter(number)[0] for number in range(creation.get_nfilters())}
    if filters - _FILTERS:
        raise UnsafeCheckpoint(
            f"{place} needs the compression filter {min(filters - _FILTERS)}, which is not a part of HDF5; save the "
            "file with gzip or without compression"
        )
    dtype = _dtype_name(node, stored_dtype, place)
    size = check_shape(shape, place) * stored_dtype.itemsize
    stored = int(node.id.get_storage_size())
    if size and not stored:
        raise NoData(f"{place} is declared in the file, but its values were never written; save the file again")
    if creation.get_layout() == h5py.h5d.CHUNKED:
        _check_chunks(node, size, stored, place)
    elif stored != size:
        raise MalformedCheckpoint(f"{place} declares {size:,} bytes of values, but stores {stored:,}")
    layout, offset = _layout(node, stored_dtype)
    return Dataset(
        path=path,
        shape=shape,
        dtype=dtype,
        address=address,
        stored=stored,
        layout=layout,
        offset=offset,
    )


def _layout(node: "h5py.Dataset", dtype: np.dtype[Any]) -> tuple[str, int]:
    """Return a dataset's numpy dtype and file offset for a direct read; "" and 0 if the library must read it.

    Values can be read directly if they are contiguous and numpy has exactly their type.
    """
    import h5py

    offset = node.id.get_offset()
    is_plain = dtype.kind in "iuf" and node.id.get_type() == h5py.h5t.py_create(dtype)
    if offset is None or not (is_plain or dtype.kind == "V"):
        return "", 0
    return dtype.str if is_plain else "<V2", int(offset)


def _check_chunks(node: "h5py.Dataset", size: int, stored: int, place: str) -> None:
    if size > _MAX_EXPANSION * stored:
        raise BudgetExceeded(
            f"{place} declares {size:,} bytes of values, but stores only {stored:,}: no weights compress that much"
        )
    needed, piece = 1, node.dtype.itemsize
    for length, chunk in zip(node.shape, node.chunks, strict=True):
        needed *= -(-length // chunk)
        piece *= chunk
    if needed > max(_MAX_CHUNKS, size // _BYTES_PER_CHUNK):
        raise BudgetExceeded(
            f"{place} is split into {needed:,} chunks, which would take minutes to read; save it without chunks"
        )
    if piece > max(_MAX_EXPANSION * stored, 1 << 20):
        raise BudgetExceeded(
            f"{place} has chunks of {piece:,} bytes, but stores only {stored:,} bytes: no weights compress that much"
        )
    if int(node.id.get_num_chunks()) < needed:
        raise NoData(
            f"{place} was written only in part: the file has {node.id.get_num_chunks():,} of its {needed:,} chunks"
        )


def _dtype_name(node: "h5py.Dataset", dtype: np.dtype[Any], place: str) -> str:
    """Return the name of the dtype of a dataset; raise an error if its values are not plain numbers."""
    import h5py

    if h5py.check_ref_dtype(dtype) is not None:
        raise UnsafeCheckpoint(f"{place} contains HDF5 references to other objects, not numbers")
    marked = _mark(node, place)
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and marked == "bfloat16":
        return "bfloat16"
    if dtype.kind not in "biufc" or dtype.subdtype is not None or marked not in (None, dtype.name):
        mark = f" marked {quoted(marked)}" if marked else ""
        raise MalformedCheckpoint(f"{place} contains {quoted(str(dtype))[1:-1]}{mark}, not numbers")
    return str(dtype_named(dtype.name).name)


def _mark(node: "h5py.Dataset", place: str) -> str | None:
    """Return the text with which Keras marks a dtype that HDF5 lacks, such as "bfloat16"; None without a mark.

    Args:
        node: The dataset; the text is its attribute "dtype".
        place: The names of the file and the dataset, for messages.
    """
    import h5py

    if not h5py.h5a.exists(node.id, b"dtype"):
        return None
    if _attribute_size(h5py.h5a.open(node.id, b"dtype")) > MAX_NAME:
        raise BudgetExceeded(
            f"{place}: the attribute 'dtype' is longer than {MAX_NAME:,} bytes, so it is not the name of a dtype"
        )
    value = _attribute(node.attrs["dtype"], "dtype", place)
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise MalformedCheckpoint(f"{place}: the attribute 'dtype' is not the name of a dtype")
    return value
