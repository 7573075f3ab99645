"""Write HDF5 files with h5py, with byte ranges reserved for the values; `hdf5_reader` reads HDF5 files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.errors import FileError, message_of
from keras3conv.formats.safe import hdf5_usual
from keras3conv.formats.safe.source import Source, dtype_named
from keras3conv.formats.safe.streaming import Extent, size_of
from keras3conv.model.views import TensorRef

if TYPE_CHECKING:
    import h5py


@contextmanager
def opened(file: Any, where: str, mode: str) -> Iterator["h5py.File"]:
    """Open an HDF5 file that this process writes or has written; files from elsewhere need `hdf5_reader`.

    Args:
        file: A path or a file object.
        where: The name of the file for messages.
        mode: The mode of `h5py.File`: "w", "r".
    """
    import h5py

    try:
        with h5py.File(file, mode) as opened_file:
            yield opened_file
    except RuntimeError as error:  # h5py raises this if a file cannot be closed because the disk is full
        raise OSError(f"the HDF5 library cannot write the file: {message_of(error)[:200]}") from error


def check_path(path: str) -> None:
    """Raise `FileError` for a path that HDF5 does not allow: with an empty part, a part ".", or a NUL."""
    if not all(part.strip(".") or part.count(".") > 1 for part in path.split("/")) or "\0" in path:
        raise FileError(f"{path!r} is not a valid path in an HDF5 file: no part may be empty, '.' or '..'")


class Declarations:
    """Declares datasets in a new file; their values are written later, into the byte ranges that HDF5 reserves.

    A dataset is contiguous, and has no timestamp. A dataset of bfloat16 gets the attribute with which Keras marks it.
    """

    def __init__(self, file: "h5py.File") -> None:
        """Store an HDF5 file that is open for writing, in which datasets will be created.

        Args:
            file: The new file.
        """
        import h5py

        self._file = file
        self._groups: dict[str, h5py.Group] = {}
        self._around: set[str] = set()
        self._types: dict[str, Any] = {}
        self._links = {is_ascii: _link_creation(is_ascii=is_ascii) for is_ascii in (True, False)}
        self._plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self._plain.set_layout(h5py.h5d.CONTIGUOUS)
        self._plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self._plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self._plain.set_obj_track_times(False)

    def group(self, path: str) -> "h5py.Group":
        """Return the group at a path; create it, with its parent groups, if it does not exist."""
        import h5py

        if path not in self._groups:
            check_path(path)
            name, root, path_above = path.encode(), self._file.id, path
            exists = path in self._around
            made = (
                h5py.h5g.open(root, name) if exists else h5py.h5g.create(root, name, lcpl=self._links[path.isascii()])
            )
            self._groups[path] = h5py.Group(made)
            while (path_above := path_above.rpartition("/")[0]) and path_above not in self._around:
                self._around.add(path_above)
        return self._groups[path]

    def text(self, group: "h5py.Group", name: str, value: str) -> None:
        """Write a text attribute of a group: the bytes of `group.attrs[name] = value`, several times faster."""
        import h5py

        if "text" not in self._types:
            self._types["text"] = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
        attribute = h5py.h5a.create(group.id, name.encode(), self._types["text"], h5py.h5s.create(h5py.h5s.SCALAR))
        attribute.write(np.array(value, h5py.string_dtype()))

    def dataset(self, group: "h5py.Group", name: str, tensor: TensorRef) -> Extent:
        """Declare the dataset of a tensor in a group, and return the byte range for its values.

        Args:
            group: The group.
            name: The name of the dataset in the group.
            tensor: The tensor, whose shape and dtype are declared.
        """
        import h5py

        check_path(name)
        if tensor.dtype.startswith("float8"):
            raise FileError(
                f"{group.name}/{name}: Keras cannot store the dtype {tensor.dtype} in a weight file; choose "
                "another dtype, such as float32"
            )
        if tensor.dtype not in self._types:
            stored = np.dtype("V2") if tensor.dtype == "bfloat16" else dtype_named(tensor.dtype)
            self._types[tensor.dtype] = h5py.h5t.py_create(stored, logical=True)
        space = h5py.h5s.create_simple(tensor.shape) if tensor.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        links = self._links[name.isascii()]
        made = h5py.h5d.create(group.id, name.encode(), self._types[tensor.dtype], space, self._plain, links)
        if tensor.dtype == "bfloat16":
            h5py.Dataset(made).attrs["dtype"] = "bfloat16"
        size = size_of(tensor)
        return Extent(int(made.get_offset()) if size else 0, size)


def _link_creation(*, is_ascii: bool) -> Any:
    """Return the HDF5 settings to add an object to a group and create missing parent groups.

    UTF-8 names need a newer kind of group, which takes several times as long to write.

    Args:
        is_ascii: Whether the path of the object is in ASCII.
    """
    import h5py

    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    if not is_ascii:
        links.set_char_encoding(h5py.h5t.CSET_UTF8)
    return links


def extents(source: Source) -> dict[str, Extent]:
    """Return the byte range of each dataset's values in a file that `Declarations` wrote."""
    tree = hdf5_usual.survey(source, 0, source.size, str(source.path))
    if tree is None:  # names that are not ASCII need a newer form of groups
        return _extents_by_library(source)
    return {path: Extent(dataset.offset, dataset.stored) for path, dataset in tree.datasets.items()}


def _extents_by_library(source: Source) -> dict[str, Extent]:
    import h5py

    found: dict[str, Extent] = {}

    def note(name: bytes, info: Any) -> None:
        if info.type == h5py.h5o.TYPE_DATASET:
            dataset = h5py.h5d.open(root, name)
            size = dataset.get_storage_size()
            found[name.decode()] = Extent(int(dataset.get_offset()) if size else 0, int(size))

    with source.unchanged() as path, opened(path, str(source.path), "r") as file:
        root = h5py.h5g.open(file.id, b"/")
        h5py.h5o.visit(root, note, info=True)
    return found
