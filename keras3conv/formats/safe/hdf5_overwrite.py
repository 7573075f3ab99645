"""Write new values into a copy of an HDF5 file, at the bytes where the old ones are.

The copied file may be damaged or hostile, so this process does not open it with the HDF5 library. A child process of
`hdf5_reader` has found the byte range of each dataset.
"""

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from keras3conv.errors import FileError
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Dataset
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array


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
    datasets = file.survey().datasets
    split = [path for path in places if not datasets[path].layout and 0 not in datasets[path].shape]
    if split:
        raise FileError(
            f"{file.where}: {split[0]!r} is compressed, split into chunks, or of a type of its own: new values can "
            f"only replace plain numbers in one piece\nFix:  h5repack -f NONE -l CONTI {file.source.path} plain.h5"
        )
    for path, tensor in places.items():
        array = _fitting(read(tensor.path), tensor, datasets[path], file.where)
        copy.seek(datasets[path].offset)
        copy.write(contiguous(array).reshape(-1).view(np.uint8).data)


def _fitting(array: Array, tensor: TensorRef, dataset: Dataset, where: str) -> Array:
    """Return an array in the byte order of its dataset; raise `FileError` if shape or dtype differ.

    Args:
        array: The new values.
        tensor: The tensor with these values, for the message.
        dataset: The dataset to overwrite.
        where: The name of the file, for the message.
    """
    if dataset.shape != array.shape or dataset.dtype != array.dtype.name:
        raise FileError(
            f"{where}: the dataset {dataset.path!r} is {dataset.dtype} of shape {dataset.shape}, but the new values of "
            f"{tensor.path} are {array.dtype} of shape {array.shape}"
        )
    return array if dataset.dtype == "bfloat16" or not array.size else array.astype(dataset.layout, copy=False)


__all__ = ["overwrite_datasets"]
