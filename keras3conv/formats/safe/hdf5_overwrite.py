"""Write new values into a copy of an HDF5 file, at the bytes where the old ones are.

The copied file may be damaged or hostile, so this process does not open it with the HDF5 library: `hdf5_reader` has
found the byte range of each dataset.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras3conv.errors import FileError
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import dtype_named
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array

_BLOCK = 1 << 20


def lay_out_copy(path: Path, file: Hdf5File, places: Mapping[str, TensorRef]) -> Layout | None:
    """Copy an HDF5 file without the values of some datasets, and return the byte ranges for the new values.

    Args:
        path: The copy.
        file: The file, which is not in an archive.
        places: For each path of a dataset, its new tensor.

    Returns:
        The byte ranges; None, and no copy, if a dataset has another byte order than the values of a tensor.

    Raises:
        FileError: A dataset has another shape or dtype, or its values are not plain numbers in one piece.
    """
    datasets = _writable(file, places)
    extents: dict[str, Extent] = {}
    for location, tensor in places.items():
        dataset = datasets[location]
        _require_fit(tensor.shape, tensor.dtype, tensor, dataset, file.where)
        if dataset.layout not in ("", dtype_named(dataset.dtype).str):
            return None
        extents[tensor.path] = Extent(dataset.offset, dataset.stored)
    _copy_around(path, file, extents.values())
    return Layout(extents, {tensor.path: location for location, tensor in places.items()})


def _copy_around(path: Path, file: Hdf5File, extents: Iterable[Extent]) -> None:
    """Copy a file except for some byte ranges, which are zeros in the copy."""
    source, done = file.source, 0
    with source.open() as original, path.open("wb") as copy:
        copy.truncate(source.size)
        for start, size in sorted((extent.start, extent.size) for extent in extents if extent.size):
            _copy_range(file, original, copy, done, start)
            done = max(done, start + size)
        _copy_range(file, original, copy, done, source.size)


def _copy_range(file: Hdf5File, original: BinaryIO, copy: BinaryIO, start: int, end: int) -> None:
    """Copy the bytes of a file from one position to another into the same place of its copy.

    Args:
        file: The file.
        original: The file, open for reading.
        copy: The copy, open for writing.
        start: The position of the first byte.
        end: The position after the last byte; nothing is copied if it is not larger.
    """
    for place in range(start, end, _BLOCK):
        copy.seek(place)
        copy.write(file.source.read(original, place, min(_BLOCK, end - place)))


def overwrite_datasets(copy: BinaryIO, file: Hdf5File, places: Mapping[str, TensorRef], read: Reader) -> None:
    """Write the values of tensors over those of their datasets in a copy of an HDF5 file.

    Args:
        copy: The copy of the file, open for writing.
        file: The file that was copied.
        places: For each path of a dataset, its new tensor.
        read: A function that returns the values of the tensor with a path.

    Raises:
        FileError: A dataset has another shape or dtype, or its values are not plain numbers in one piece.
    """
    datasets = _writable(file, places)
    for path, tensor in places.items():
        array = _fitting(read(tensor.path), tensor, datasets[path], file.where)
        copy.seek(datasets[path].offset)
        copy.write(contiguous(array).reshape(-1).view(np.uint8).data)


def _writable(file: Hdf5File, places: Iterable[str]) -> Mapping[str, Dataset]:
    """Return the datasets of a file; raise `FileError` if new values cannot replace those of one.

    Args:
        file: The file.
        places: The paths of the datasets that get new values.
    """
    datasets = file.survey().datasets
    split = [path for path in places if not datasets[path].layout and 0 not in datasets[path].shape]
    if split:
        raise FileError(
            f"{file.where}: {split[0]!r} is compressed, split into chunks, or of a user-defined type: new values can "
            f"only replace plain numbers in one piece\nFix:  h5repack -f NONE -l CONTI {file.source.path} plain.h5"
        )
    return datasets


def _fitting(array: Array, tensor: TensorRef, dataset: Dataset, where: str) -> Array:
    """Return an array in the byte order of its dataset; raise `FileError` if shape or dtype differ."""
    _require_fit(array.shape, array.dtype.name, tensor, dataset, where)
    return array if dataset.dtype == "bfloat16" or not array.size else array.astype(dataset.layout, copy=False)


def _require_fit(shape: tuple[int, ...], dtype: str, tensor: TensorRef, dataset: Dataset, where: str) -> None:
    """Raise `FileError` if new values have another shape or dtype than their dataset."""
    if dataset.shape != shape or dataset.dtype != dtype:
        raise FileError(
            f"{where}: the dataset {dataset.path!r} is {dataset.dtype} of shape {dataset.shape}, but the new values of "
            f"{tensor.path} are {dtype} of shape {shape}"
        )
