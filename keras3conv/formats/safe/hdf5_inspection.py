"""Inspect one dataset, or the attributes of one group, of an HDF5 file; refuse what is not plain data."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, NoData, UnsafeCheckpoint, quoted
from keras3conv.formats.safe.hdf5_dataset import Attribute, Dataset
from keras3conv.formats.safe.hdf5_tree import ATTRIBUTES, MAX_NAME, MAX_TEXT
from keras3conv.formats.safe.source import MAX_TENSORS, check_shape, dtype_named

if TYPE_CHECKING:
    import h5py

_FILTERS = frozenset({1, 2, 3})
"""The allowed HDF5 filters: deflate, shuffle, Fletcher checksum. Any other filter would load and run a plugin."""


_MAX_EXPANSION = 1100
"""The maximum ratio of declared to stored bytes; deflate compresses at most 1032 to 1."""


_MAX_CHUNKS = 100_000


_BYTES_PER_CHUNK = 512


def attributes_of(group: Any, place: str) -> Iterator[tuple[str, Attribute]]:
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


def inspected(node: "h5py.Dataset", path: str, where: str, address: int) -> Dataset:
    """Return the description of a dataset, after a check that it is plain data, all of it in the file."""
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
    return Dataset(path, shape, dtype, address, stored, *_layout(node, stored_dtype))


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
    """Return the attribute "dtype", in which Keras names a dtype that HDF5 lacks, such as "bfloat16"; else None."""
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
