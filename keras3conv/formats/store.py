"""Write the tensors of one file, flush them to disk, read them again, and compare."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras3conv.errors import FileError, MalformedCheckpoint
from keras3conv.formats.identify import READERS, by_suffix, identify
from keras3conv.formats.keras import legacy_h5, weights_h5
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import Extent, Layout, Progress, checksum, fill
from keras3conv.formats.safetensors import file as safetensors_file
from keras3conv.formats.torch import writer as torch_writer
from keras3conv.model.views import Reader, TensorRef
from keras3conv.writing import private_folders
from keras3conv.writing.digests import HashedBlocks, WrittenFile, digest

LAYOUTS: dict[str, Callable[[Path, Sequence[TensorRef]], Layout]] = {
    "safetensors": safetensors_file.lay_out,
    "weights h5": weights_h5.lay_out,
    "legacy h5": legacy_h5.lay_out,
    "torch": torch_writer.lay_out,
}
Extents = Callable[[Source], Mapping[str, Extent]]
"""A function that parses a file and returns the byte range of each tensor, by its location in the file."""

EXTENTS: dict[str, Extents] = {
    "safetensors": safetensors_file.extents,
    "weights h5": hdf5.extents,
    "legacy h5": hdf5.extents,
    "torch": torch_writer.extents,
}


@dataclass(frozen=True)
class Checks:
    """The checks that are run after writing a file; a benchmark measures the cost of each.

    Attributes:
        reread: Whether to read every tensor again and compare it with what was written.
        digests: Whether to compute the digests of the file.
    """

    reread: bool = True
    digests: bool = True


ALL_CHECKS = Checks()


@dataclass(frozen=True, kw_only=True)
class Written:
    """The description of a weight file that was written.

    Attributes:
        file: The file with its digests.
        tensors: The tensors in it.
        checksums: The CRC-32 of the values by the path of the tensor; tied weights have one entry.
        locations: The locations of the tensors, by path, if they differ from `TensorRef.location`.
    """

    file: WrittenFile
    tensors: tuple[TensorRef, ...] = ()
    checksums: Mapping[str, int] = field(default_factory=dict)
    locations: Mapping[str, str] = field(default_factory=dict)


def store(
    temporary: Path,
    path: Path,
    kind: str,
    tensors: tuple[TensorRef, ...],
    read: Reader,
    checks: Checks,
    progress: Progress | None = None,
) -> Written:
    """Write a weight file, read it again, and compare the values.

    Args:
        temporary: The file to write.
        path: The name that the file will have, for messages.
        kind: The format.
        tensors: The tensors of the file.
        read: A function that returns the values of the tensor with a path.
        checks: The checks to run after writing.
        progress: A function to call before every tensor.

    Raises:
        FileError: An array differs from its declaration, or a tensor has different values when it is read again.
        OSError: The file cannot be written.
    """
    layout = LAYOUTS[kind](temporary, tensors)
    checksums = fill(temporary, layout, tensors, read, progress, checked=checks.reread or kind == "torch")
    locations = {} if kind == "torch" else layout.locations  # a torch checkpoint is read by the names of its tensors
    file = checked_file(temporary, path, EXTENTS[kind], layout, checksums, checks)
    return Written(file=file, tensors=tensors, checksums=checksums, locations=locations)


def checked_file(
    temporary: Path, path: Path, extents: Extents, layout: Layout, checksums: Mapping[str, int], checks: Checks
) -> WrittenFile:
    """Flush a written file to disk, read it again and compare, and return its description.

    Args:
        temporary: The written file.
        path: The name that the file will have.
        extents: A function that parses the file and returns the byte range of each tensor.
        layout: The byte range and the name of each tensor, as it was written.
        checksums: The CRC-32 of the values that were written, by tensor path.
        checks: The checks to run.
    """
    private_folders.synchronise(temporary)
    if checks.reread:
        return replace(_reread(temporary, path, extents, layout, checksums, hashed=checks.digests), path=str(path))
    if checks.digests:
        return replace(digest(temporary), path=str(path))
    return WrittenFile(path=str(path), size=temporary.stat().st_size, sha256="", md5="")


def _reread(
    temporary: Path, path: Path, extents: Extents, layout: Layout, checksums: Mapping[str, int], *, hashed: bool
) -> WrittenFile:
    """Read the written file again, compare the checksum of each tensor with that of the values, and return its digests.

    Args:
        temporary: The written file.
        path: The name that the file will have, for messages.
        extents: A function that parses the file and returns the byte range of each tensor.
        layout: The byte range and the name of each tensor in the file.
        checksums: The CRC-32 of the values that were written, by tensor path.
        hashed: Whether to compute the digests; otherwise they are empty.

    Raises:
        FileError: A tensor is missing, at another offset, or has different values.
    """
    names = {layout.locations.get(tensor, tensor): tensor for tensor in layout.extents}
    try:
        found, file = _read_again(temporary, extents, hashed=hashed)
    except MalformedCheckpoint as error:
        raise FileError(f"{path} was damaged while it was written: {error}") from error
    for location, tensor in names.items():
        if found.get(location) != checksums[tensor]:
            state = "is missing" if location not in found else "has different values than those that were written"
            raise FileError(
                f"{path} was damaged while it was written: the tensor {tensor} {state}; check the disk and the memory"
            )
    return file


def _read_again(path: Path, extents: Extents, *, hashed: bool) -> tuple[dict[str, int], WrittenFile]:
    """Return the CRC-32 of the values of every tensor of a file, by its location in the file, and the file's digests.

    Args:
        path: The file.
        extents: A function that parses the file and returns the byte range of each tensor.
        hashed: Whether to compute the digests; otherwise they are empty.

    Raises:
        MalformedCheckpoint: The file changed or became shorter while it was read.
    """
    source = Source.pin(path)
    places = extents(source)
    with source.open() as file:
        blocks = HashedBlocks(file, hashed=hashed)
        found = _checksums_of(blocks, places)
    if len(found) < len(places):
        raise MalformedCheckpoint(
            f"{path} became shorter while it was read; read it again when no other program writes it"
        )
    return found, blocks.description(path)


def _checksums_of(blocks: Iterable[memoryview], places: Mapping[str, Extent]) -> dict[str, int]:
    """Return the CRC-32 of each byte range that the blocks of a file contain completely, by the name of the range.

    Args:
        blocks: The blocks of the file, in order.
        places: The byte ranges; they may overlap.
    """
    found = {name: 0 for name, place in places.items() if not place.size}
    ahead = sorted(((place.start, place.size, name) for name, place in places.items() if place.size), reverse=True)
    started: list[tuple[str, int, int, int]] = []
    begin = 0
    for block in blocks:
        end = begin + len(block)
        while ahead and ahead[-1][0] < end:
            start, size, name = ahead.pop()
            started.append((name, start, start + size, 0))
        inside, started = started, []
        for name, start, stop, before in inside:
            crc = zlib.crc32(block[max(start - begin, 0) : stop - begin], before)
            if stop > end:
                started.append((name, start, stop, crc))
            else:
                found[name] = crc
        begin = end
    return found


def written_by_others(temporary: Path, path: Path) -> Written:
    """Return the description of a file that another library (such as Keras) wrote: its digests and checksums.

    Args:
        temporary: The written file.
        path: The name that the file will have.
    """
    private_folders.synchronise(temporary)
    expected = by_suffix(path)
    source = Source.pin(temporary)
    view = READERS[identify(expected, source)](source)
    tensors = tuple(view.tensors())
    checksums = {tensor.path: checksum(view.read(tensor.path)) for tensor in tensors}
    return Written(file=replace(digest(temporary), path=str(path)), tensors=tensors, checksums=checksums)
