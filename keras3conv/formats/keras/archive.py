"""Read and rewrite `.keras` archives: the architecture in JSON and the weights in the format of `weights_h5`.

The architecture is parsed as JSON and never instantiated, so no code of its layers runs. No member is extracted to
disk.
"""

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from keras3conv.errors import BudgetExceeded, FileError, IncompleteCheckpoint, UnsafeCheckpoint
from keras3conv.formats.keras import weights_h5
from keras3conv.formats.keras.architecture import parse
from keras3conv.formats.keras.layers import distinct, layers_of, reader_of
from keras3conv.formats.safe.hdf5_overwrite import overwrite_datasets
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import Source, Window, parse_json
from keras3conv.formats.safe.zip import MAX_INFLATED, Member, read_member, scan, verify
from keras3conv.model.views import ModelView, Reader, TensorRef
from keras3conv.transforms import Array

_WEIGHTS, _CONFIG, _METADATA = "model.weights.h5", "config.json", "metadata.json"
_MAX_JSON = 64 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DATE = "1980-01-01@00:00:00"
"""The modification time of all members, which Keras ignores: 1980, the earliest time that a zip archive can have."""


def read(source: Source) -> ModelView:
    """Return a view of the model in an archive; `ModelView.read` loads one tensor at a time."""
    where = str(source.path)
    members = scan(source)
    weights = _weights(source, members)
    architecture = parse(_json(source, members, _CONFIG), where)
    file = Hdf5File(source, weights)
    tree = file.survey()
    found = distinct(weights_h5.find(tree, architecture, where), where)
    return ModelView(
        side="keras",
        name=source.path.name,
        layers=layers_of(found, architecture, tree),
        reader=_verified(source, weights, reader_of(file, lambda: found)),
        origin=where,
        input_specs=architecture.input_specs,
        facts=_facts(source, members) | weights_h5.ignored_facts(tree),
    )


def _verified(source: Source, weights: Member, read: Reader) -> Reader:
    """Return a tensor reader that checks the CRC of the weights in an archive before it reads the first tensor."""
    checked: list[Member] = []

    def reader(path: str) -> Array:
        if not checked and not weights.compressed:
            verify(source, weights)
        checked.append(weights)
        return read(path)

    return reader


def architecture(path: Path) -> tuple[str, Any]:
    """Return the version of Keras that wrote an archive ("" if it is not stored), and the model's architecture.

    Raises:
        FileError: The file cannot be read, or is not a complete archive.
    """
    source = Source.pin(path)
    members = scan(source)
    return _facts(source, members).get("written by Keras", ""), _json(source, members, _CONFIG)


def datasets(path: Path) -> dict[str, Array]:
    """Return the weights in an archive by their HDF5 path, such as "layers/conv2d/vars/0".

    Raises:
        FileError: The file cannot be read, or is not a complete archive.
    """
    source = Source.pin(path)
    weights = _weights(source, scan(source))
    if not weights.compressed:
        verify(source, weights)
    file = Hdf5File(source, weights)
    return {name: file.read(dataset) for name, dataset in file.survey().datasets.items()}


def rewrite(path: Path, template: Source, places: Mapping[str, TensorRef], read: Reader) -> None:
    """Write a copy of an archive with new weights; architecture, optimizer state and assets stay the same.

    Args:
        path: The file to write.
        template: The archive to copy.
        places: The new tensor for each dataset of the weights, by the path of the dataset.
        read: A function that returns the values of the tensor with a path.

    Raises:
        UnsafeCheckpoint: The name of a member leads to a path outside of the folder that Keras extracts it to.
    """
    members = scan(template)
    for name in members:
        _check_extraction(template, name)
    weights = _weights(template, members)
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        with _opened(template, weights) as file:
            shutil.copyfileobj(file, scratch)
        overwrite_datasets(cast("BinaryIO", scratch), Hdf5File(template, weights), places, read)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for member in members.values():
                _copy(archive, template, member, cast("IO[bytes]", scratch) if member is weights else None)


def write_weights(path: Path, template: Source, places: Mapping[str, TensorRef], read: Reader) -> None:
    """Write the weights of an archive with new values to a `.weights.h5` file, which is the member of an archive.

    Args:
        path: The file to write.
        template: The archive.
        places: The new tensor for each dataset of the weights, by the path of the dataset.
        read: A function that returns the values of the tensor with a path.
    """
    weights = _weights(template, scan(template))
    if not weights.compressed:
        verify(template, weights)
    with path.open("w+b") as copy:
        with _opened(template, weights) as file:
            shutil.copyfileobj(file, copy)
        overwrite_datasets(copy, Hdf5File(template, weights), places, read)


def _check_extraction(template: Source, name: str) -> None:
    """Raise `UnsafeCheckpoint` if Keras would extract an archive member outside of its temporary folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].endswith((":", "/")):
        raise UnsafeCheckpoint(
            f"{template.path}: the member {name!r} would be extracted outside of its folder by Keras, so no copy is "
            "written"
        )


def _copy(archive: zipfile.ZipFile, template: Source, member: Member, scratch: IO[bytes] | None) -> None:
    info = zipfile.ZipInfo(member.name, _EPOCH)
    info.external_attr = 0o600 << 16
    if scratch is None:
        archive.writestr(info, read_member(template, member, MAX_INFLATED))
        return
    info.file_size = scratch.seek(0, io.SEEK_END)
    scratch.seek(0)
    with archive.open(info, "w") as target:
        shutil.copyfileobj(scratch, target)


@contextmanager
def _opened(source: Source, weights: Member) -> Iterator[Any]:
    """Yield the weights member of an archive as a file object: a byte range, or a copy in memory if compressed."""
    if weights.compressed:
        yield io.BytesIO(read_member(source, weights, MAX_INFLATED))
        return
    with source.open() as file, Window(file, weights.start, weights.size) as window:
        yield window


def _member(source: Source, members: Mapping[str, Member], name: str) -> Member:
    if name in members:
        return members[name]
    if any(other.endswith((".weights.json", ".weights.npz")) for other in members):
        raise FileError(
            f"{source.path} has its weights in shards or as npz: save it again with model.save(path), without other "
            "arguments"
        )
    raise IncompleteCheckpoint(
        f"{source.path} has no {name}: it is not a .keras archive, or is incomplete; download or save it again"
    )


def _weights(source: Source, members: Mapping[str, Member]) -> Member:
    weights = _member(source, members, _WEIGHTS)
    if weights.compressed and weights.size > MAX_INFLATED:
        raise BudgetExceeded(
            f"{source.path}: {_WEIGHTS!r} declares {weights.size:,} bytes; the limit is {MAX_INFLATED:,}"
        )
    return weights


def _json(source: Source, members: Mapping[str, Member], name: str) -> Any:
    return parse_json(
        read_member(source, _member(source, members, name), _MAX_JSON), f"{source.path}: {name}", infinite=True
    )


def _facts(source: Source, members: Mapping[str, Member]) -> dict[str, str]:
    facts = {"format": "Keras archive"}
    if _METADATA in members:
        metadata = _json(source, members, _METADATA)
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        facts |= {"written by Keras": version} if isinstance(version, str) else {}
    assets = [name for name in members if name.startswith("assets/")]
    return facts | ({"ignored assets": ", ".join(assets[:20])} if assets else {})


def check_inventory(tensors: Sequence[TensorRef], view: ModelView) -> dict[str, TensorRef]:
    """Return the new tensor for each dataset of the template, by the path of the dataset.

    Args:
        tensors: The new tensors.
        view: The view of the template, the Keras file whose weights are replaced.

    Raises:
        FileError: The template lacks a tensor, has an additional one, or has a tensor with another shape.
    """
    held = {tensor.path: tensor for tensor in view.tensors()}
    located = {tensor.location: tensor for tensor in held.values()}
    places: dict[str, TensorRef] = {}
    for tensor in tensors:
        place = held.get(tensor.path) or located.get(tensor.location)
        if place is None and tensor.is_seed:
            continue
        if place is None or place.shape != tensor.shape:
            what = "no such tensor" if place is None else f"a tensor of shape {place.shape} under this name"
            raise FileError(
                f"the tensor {tensor.path} of shape {tensor.shape} cannot be written into a copy of "
                f"{view.origin}, which has {what}; choose a file of the same architecture"
            )
        places[place.location] = tensor
    if left := [tensor.path for tensor in held.values() if tensor.location not in places]:
        raise FileError(
            f"the template {view.origin} has tensors for which there are no new values: {', '.join(left[:5])}"
        )
    return places


def remove_times(path: Path) -> None:
    """Rewrite an archive with constant timestamps, so that saving the same model always gives the same bytes."""
    plain = path.with_name(f"{path.name}.plain")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(plain, "w") as new:
        for info in old.infolist():
            same = zipfile.ZipInfo(info.filename, _EPOCH)
            same.compress_type, same.external_attr, same.file_size = info.compress_type, 0o600 << 16, info.file_size
            if info.filename == _METADATA:
                metadata = json.loads(old.read(info)) | {"date_saved": _DATE}
                new.writestr(same, json.dumps(metadata))
                continue
            with old.open(info) as source, new.open(same, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    plain.replace(path)
