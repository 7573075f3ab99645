"""Inspect an HDF5 file before it is read, and refuse every group and dataset that is not plain data.

Plain data is stored in the file itself, reached through hard links, completely written, of the declared shape, and
compressed by HDF5's own filters only. The HDF5 library itself may crash, hang, or use all memory on a damaged file, so
these functions run only in the process of `hdf5_child`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, UnsafeCheckpoint, message_of, quoted
from keras3conv.formats.safe.hdf5_dataset import Attribute, Dataset
from keras3conv.formats.safe.hdf5_inspection import attributes_of, inspected
from keras3conv.formats.safe.hdf5_tree import MAX_DEPTH, MAX_NAME, MAX_NAMES, Tree, check_total, ignored_group
from keras3conv.formats.safe.source import MAX_TENSORS, dtype_named
from keras3conv.transforms import Array

if TYPE_CHECKING:
    import h5py


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
            if attributes := dict(attributes_of(group, f"{self.where}: {quoted(path or '/')}")):
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
        dataset = inspected(node, path, self.where, address)
        self.datasets[path] = self.by_address[dataset.address] = dataset

    def _members(self, group: Any, path: str) -> dict[str, int]:
        """Return the names of the members of a group (h5py's `GroupID`), each with the address of the object."""
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
