"""Divide the tensors of a model among several files (shards), and write the index from tensors to files.

model.safetensors.index.json    model-00001-of-00003.safetensors, ...    as Hugging Face names them
pytorch_model.bin.index.json    pytorch_model-00001-of-00003.bin, ...    as Hugging Face names them
model.weights.json              model_00000.weights.h5, ...              as Keras names them
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras3conv.errors import FileError, InputError
from keras3conv.formats.keras.sharded import weight_map_of
from keras3conv.formats.keras.weights_h5 import place_of
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import size_of
from keras3conv.formats.safetensors.index import read_weight_map
from keras3conv.model.views import TensorRef

DEFAULT_SIZE = 5 * 10**9
"""The default size of a shard in bytes, if the user gives the name of an index but no maximum size."""

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{kind}": base ** (power + 1)
    for power, letter in enumerate("KMGT")
    for kind, base in (("B", 1000), ("IB", 1024))
}


@dataclass(frozen=True)
class _Scheme:
    """The names of an index and of its shards, and the format of the shards."""

    single: str
    index: str
    kind: str
    name: Callable[[str, int, int], str]


_SCHEMES = (
    _Scheme(
        ".safetensors",
        ".safetensors.index.json",
        "safetensors",
        lambda base, place, number: f"{base}-{place + 1:05}-of-{number:05}.safetensors",
    ),
    _Scheme(
        ".bin", ".bin.index.json", "torch", lambda base, place, number: f"{base}-{place + 1:05}-of-{number:05}.bin"
    ),
    _Scheme(".weights.h5", ".weights.json", "weights h5", lambda base, place, _number: f"{base}_{place:05}.weights.h5"),
)


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The files of a sharded model.

    Attributes:
        index: The path of the index.
        kind: The format of the shards.
        tensors: For each path of a shard, its tensors.
    """

    index: Path
    kind: str
    tensors: Mapping[Path, tuple[TensorRef, ...]]

    def index_text(self) -> str:
        """Return the content of the index: JSON with the file (shard) of each tensor."""
        total = sum(size_of(tensor) for tensors in self.tensors.values() for tensor in tensors)
        if self.kind == "weights h5":
            return json.dumps({"metadata": {"total_size": total}, "weight_map": self._groups()}, indent=4)
        names = {tensor.path: path.name for path, tensors in self.tensors.items() for tensor in tensors}
        content = {"metadata": {"total_size": total}, "weight_map": names}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)

    def _groups(self) -> dict[str, str | list[str]]:
        """Return the file name of the shard of each HDF5 group: {"/layers/dense/vars": "model_00000.weights.h5"}.

        If several shards hold variables of a group, the value is a list of their names.
        """
        found: dict[str, list[str]] = {}
        for path, tensors in self.tensors.items():
            for tensor in tensors:
                names = found.setdefault(f"/{place_of(tensor, path)[0]}", [])
                names += [] if path.name in names else [path.name]
        return {group: names[0] if len(names) == 1 else names for group, names in found.items()}


def index_of(path: Path, size: int | None) -> Path | None:
    """Return the path of the index if a destination is sharded (is an index, or has a maximum size); else None.

    Raises:
        FileError: There is a maximum size, and the format of the destination cannot be sharded.
    """
    lower = path.name.lower()
    for scheme in _SCHEMES:
        if lower.endswith(scheme.index):
            return path
        if size is not None and lower.endswith(scheme.single):
            return path.with_name(path.name[: -len(scheme.single)] + scheme.index)
    if size is None:
        return None
    known = ", ".join(f"{scheme.single} ({scheme.index})" for scheme in _SCHEMES)
    raise FileError(f"{path} has a format that cannot be split into shards; the formats that can are {known}")


def divide(index: Path, tensors: Sequence[TensorRef], size: int | None) -> Shards:
    """Divide tensors among shards of at most `size` bytes, in order.

    The variables of a Keras layer stay together if they fit. A tensor that is larger than a shard gets a shard for
    itself.

    Args:
        index: The path of the index, from which the names of the shards follow.
        tensors: The tensors, in the order of the model.
        size: The largest size of a shard in bytes; None for `DEFAULT_SIZE`.
    """
    scheme = next(scheme for scheme in _SCHEMES if index.name.lower().endswith(scheme.index))
    most = DEFAULT_SIZE if size is None else size
    if scheme.kind == "weights h5":
        tensors = [tensor for tensor in tensors if tensor.location or not tensor.is_seed]
        units = _grouped(tensors, index, most)
    else:
        units = [(tensor,) for tensor in tensors]
    parts: list[list[TensorRef]] = [[]]
    filled = 0
    for unit in units:
        needed = sum(map(size_of, unit))
        if parts[-1] and filled + needed > most:
            parts.append([])
            filled = 0
        parts[-1] += unit
        filled += needed
    base = index.name[: -len(scheme.index)]
    paths = [index.with_name(scheme.name(base, place, len(parts))) for place in range(len(parts))]
    return Shards(index=index, kind=scheme.kind, tensors=dict(zip(paths, map(tuple, parts), strict=True)))


def _grouped(tensors: Sequence[TensorRef], index: Path, most: int) -> list[tuple[TensorRef, ...]]:
    groups: dict[str, list[TensorRef]] = {}
    for tensor in tensors:
        groups.setdefault(place_of(tensor, index)[0], []).append(tensor)
    units: list[tuple[TensorRef, ...]] = []
    for group in groups.values():
        units += [tuple(group)] if sum(map(size_of, group)) <= most else [(tensor,) for tensor in group]
    return units


def weight_map_files(source: Source) -> list[str]:
    """Return the names of the files that an index of shards lists; all are in the folder of the index."""
    suffix = next((scheme.single for scheme in _SCHEMES if source.path.name.lower().endswith(scheme.index)), "")
    is_keras = suffix == ".weights.h5"
    weight_map = weight_map_of(source) if is_keras else read_weight_map(source, suffix)[0]
    return list(dict.fromkeys(names_of(weight_map)))


def names_of(weight_map: Mapping[str, str | Collection[str]]) -> Iterator[str]:
    """Yield the file names in the `weight_map` of an index, in which a group of Keras variables may have several."""
    for value in weight_map.values():
        yield from [value] if isinstance(value, str) else value


def parse_size(size: int | str) -> int:
    """Return a number of bytes: 2_000_000_000, "2GB" (1000**3 bytes each) or "2GiB" (1024**3).

    Raises:
        InputError: The size has another form, or is less than one byte.
    """
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        unit = found[2].upper() if found else ""
        if found and unit in _UNITS:
            size = int(float(found[1]) * _UNITS[unit])
    if isinstance(size, str) or size < 1:
        raise InputError(
            f"the size of a shard must be a number of bytes, or a text such as 500MB, 2GB or 2GiB; found {size!r}"
        )
    return size
