"""Write a copy of a Keras file, its template, with new weights; read it again, and compare the values."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from keras3conv.errors import FileError
from keras3conv.formats.identify import CONTENTS, READERS, by_suffix, identify
from keras3conv.formats.keras import archive
from keras3conv.formats.safe.hdf5_overwrite import lay_out_copy, overwrite_datasets
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import Extent, Progress, as_declared, checksum, fill
from keras3conv.formats.store import ALL_CHECKS, Written, checked_file
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array
from keras3conv.writing import private_folders
from keras3conv.writing.digests import digest


def store_in_template(
    temporary: Path,
    path: Path,
    template: Path,
    tensors: tuple[TensorRef, ...],
    read: Reader,
    progress: Progress | None = None,
) -> Written:
    """Write a copy of a Keras file with new weights, read it again, and compare the values.

    Args:
        temporary: The file to write.
        path: The name that the file will have, for messages.
        template: The Keras file to copy; for a `.weights.h5` file, this may be an archive, whose weights are copied.
        tensors: The tensors with the new weights.
        read: A function that returns the values of the tensor with a path.
        progress: A function to call before every tensor, for files whose values are written in place.

    Raises:
        FileError: The template has another format or other tensors, or a tensor has changed when it is read again.
        OSError: The file cannot be written.
    """
    expected = by_suffix(path)
    source = Source.pin(template)
    found = identify(by_suffix(template), source)
    is_member = (found, expected) == ("keras", "weights h5")
    if found not in ("keras", "weights h5", "legacy h5") or (CONTENTS[found] != CONTENTS[expected] and not is_member):
        raise FileError(
            f"{template} is {CONTENTS[found]}, which is not a template for {CONTENTS[expected]}: name such a file as "
            "the target, or a function that returns the model"
        )
    places = archive.check_inventory(tensors, READERS[found](source))
    layout = None if found == "keras" else lay_out_copy(temporary, Hdf5File(source), places)
    if layout is None:
        checksums = _rewritten(temporary, source, "member" if is_member else found, places, read)
        _compare(temporary, path, expected if is_member else found, places, checksums)
        file = replace(digest(temporary), path=str(path))
    else:
        checksums = fill(temporary, layout, list(places.values()), read, progress)
        file = checked_file(temporary, path, _extents_of_copy, layout, checksums, ALL_CHECKS)
    locations = {tensor.path: location for location, tensor in places.items()}
    return Written(file=file, tensors=tensors, checksums=checksums, locations=locations)


def _extents_of_copy(source: Source) -> Mapping[str, Extent]:
    """Return the byte range of each dataset of a copy, which may be as hostile as the file that was copied."""
    datasets = Hdf5File(source).survey().datasets.values()
    return {dataset.path: Extent(dataset.offset, dataset.stored) for dataset in datasets}


def _rewritten(
    temporary: Path, source: Source, kind: str, places: Mapping[str, TensorRef], read: Reader
) -> dict[str, int]:
    """Write a copy of a Keras file with new weights; return the CRC-32 of the values by the path of the tensor.

    Args:
        temporary: The file to write.
        source: The file to copy.
        kind: Its format; "member" to write the weights of an archive alone.
        places: For each path of a dataset, its new tensor.
        read: A function that returns the values of the tensor with a path.
    """
    inventory = {tensor.path: tensor for tensor in places.values()}
    checksums: dict[str, int] = {}

    def checked(path: str) -> Array:
        array = contiguous(as_declared(read(path), inventory[path]))
        checksums[path] = checksum(array)
        return array

    if kind in ("keras", "member"):
        write = archive.rewrite if kind == "keras" else archive.write_weights
        write(temporary, source, places, checked)
        return checksums
    with source.unchanged() as name:
        shutil.copyfile(name, temporary)
    with temporary.open("r+b") as copy:
        overwrite_datasets(copy, Hdf5File(source), places, checked)
    return checksums


def _compare(
    temporary: Path, path: Path, kind: str, places: Mapping[str, TensorRef], checksums: Mapping[str, int]
) -> None:
    """Flush a copy with new weights to disk, read the tensors again, and compare their checksums.

    Args:
        temporary: The written file.
        path: The name that the file will have, for messages.
        kind: The format.
        places: For each path of a dataset, its new tensor.
        checksums: The CRC-32 of the values that were written, by tensor path.

    Raises:
        FileError: A tensor has different values.
    """
    private_folders.synchronise(temporary)
    view = READERS[kind](Source.pin(temporary))
    values = {tensor.location: tensor.path for tensor in view.tensors()}
    for location, tensor in places.items():
        if checksum(view.read(values[location])) != checksums[tensor.path]:
            raise FileError(
                f"{path} was damaged while it was written: {tensor.path} has different values than those that were "
                "written"
            )
