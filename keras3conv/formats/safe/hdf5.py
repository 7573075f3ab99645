"""Write HDF5 files. `hdf5_reader` reads them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras3conv.errors import FileError
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array

if TYPE_CHECKING:
    import h5py


@contextmanager
def opened(file: Any, where: str, mode: str) -> Iterator["h5py.File"]:
    """Open a path or a file object for writing."""
    import h5py

    with h5py.File(file, mode) as opened_file:
        yield opened_file


def check_path(path: str) -> None:
    """Raise `FileError` for a path that HDF5 does not allow: with an empty part, a part ".", or a NUL."""
    if not all(part.strip(".") or part.count(".") > 1 for part in path.split("/")) or "\0" in path:
        raise FileError(f"{path!r} is not a valid path in an HDF5 file")


def create_dataset(group: "h5py.Group", name: str, array: Array) -> None:
    """Create a dataset with contiguous data and without a timestamp; mark bfloat16 with an attribute, as Keras does."""
    check_path(name)
    if array.dtype.name.startswith("float8"):
        raise FileError(f"{group.name}/{name}: Keras cannot store {array.dtype.name} in a weight file")
    dataset = group.create_dataset(name, data=contiguous(array), track_times=False)
    if array.dtype.name == "bfloat16":
        dataset.attrs["dtype"] = "bfloat16"


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
