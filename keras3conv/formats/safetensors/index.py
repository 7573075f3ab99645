"""Read a model that is stored in several safetensors files (shards), with an index that maps tensors to files."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from keras3conv.errors import FileError, IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint, listed, quoted
from keras3conv.formats.safe.shards import is_plain, shard_path
from keras3conv.formats.safe.source import Source, check_count, parse_json, zero_tail
from keras3conv.formats.safetensors import file as safetensors_file
from keras3conv.formats.safetensors.header import Entry, parse
from keras3conv.formats.torch.names import layers_of
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array

_MAX_INDEX = 256 << 20
_MOST_SHARDS = 10_000
_NUMBERED = re.compile(r"(?P<stem>.{1,200})-(?P<number>[0-9]{3,6})-of-(?P<total>[0-9]{3,6})(?P<suffix>[.][a-z]{1,20})")


def read(source: Source) -> ModelView:
    """Return a view of the model in all shards; raise `FileError` if the index contradicts the headers."""
    weight_map, metadata = read_weight_map(source, ".safetensors")
    shards: dict[str, tuple[Source, Mapping[str, Entry]]] = {}
    for name in dict.fromkeys(weight_map.values()):
        shard = Source.pin(shard_path(source, name))
        shards[name] = shard, parse(shard)[0]
    _check(source, weight_map, shards)
    tensors = [safetensors_file.ref(key, shards[name][1][key]) for key, name in weight_map.items()]

    def reader(path: str) -> Array:
        if path not in weight_map:
            raise FileError(f"{source.path} has no tensor {quoted(path)}")
        shard, entries = shards[weight_map[path]]
        return safetensors_file.read_entry(shard, path, entries)

    return ModelView(
        side="torch",
        name=source.path.name,
        layers=layers_of(tensors),
        reader=reader,
        origin=str(source.path),
        facts={"format": f"safetensors in {len(shards)} shards"} | _warnings(metadata, shards.values()),
    )


def read_weight_map(source: Source, suffix: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the `weight_map` of an index ({tensor name: file name of its shard}), and the index's metadata.

    Raise `UnsafeCheckpoint` if a shard is not a file name in the folder of the index.

    Args:
        source: The index.
        suffix: The suffix of the shards, such as ".safetensors".
    """
    if source.size > _MAX_INDEX:
        raise MalformedCheckpoint(
            f"{source.path} has {source.size:,} bytes, too many for the index of a sharded checkpoint; the limit is "
            f"{_MAX_INDEX:,}"
        )
    with source.open() as file:
        raw = bytes(source.read(file, 0, source.size))
    check_count(raw.count(b'"') // 4, str(source.path))  # before the index is parsed; 4 quotes per entry
    content = parse_json(raw, str(source.path))
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise MalformedCheckpoint(
            f"{source.path} has no key weight_map, so it is not the index of a sharded checkpoint"
        )
    check_count(len(weight_map), str(source.path))
    _check_numbers(source, weight_map.values())
    for key, name in weight_map.items():
        if not is_plain(name, suffix):
            raise UnsafeCheckpoint(
                f"{source.path}: {quoted(key)} is in the shard {quoted(name)}, which is not a file name in the folder "
                "of the index"
            )
    metadata = content.get("metadata")
    return weight_map, metadata if isinstance(metadata, dict) else {}


def _check_numbers(source: Source, names: Iterable[Any]) -> None:
    """Raise `IncompleteCheckpoint` if the file names imply a shard that is not listed, as in "-00002-of-00003".

    Args:
        source: The index, for the message.
        names: The names of the shards that the index lists.
    """
    found = [match for name in set(filter(_is_text, names)) if (match := _NUMBERED.fullmatch(name))]
    for stem, total, suffix in {(match["stem"], match["total"], match["suffix"]) for match in found}:
        width, held = len(total), {int(match["number"]) for match in found if match["total"] == total}
        if int(total) <= _MOST_SHARDS and (missing := set(range(1, int(total) + 1)) - held):
            other = f"{stem}-{min(missing):0{width}}-of-{total}{suffix}"
            raise IncompleteCheckpoint(
                f"{source.path} lists no tensor of the shard {quoted(other)}, so the index is incomplete; download "
                "or write it again"
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _check(
    source: Source, weight_map: Mapping[str, str], shards: Mapping[str, tuple[Source, Mapping[str, Entry]]]
) -> None:
    missing = [f"{key} (in {name})" for key, name in weight_map.items() if key not in shards[name][1]]
    if missing:
        raise IncompleteCheckpoint(
            f"{source.path}: the shards lack tensors that the index lists: {listed(missing)}; download them again"
        )
    for name, (_, entries) in shards.items():
        if extra := [key for key in entries if weight_map.get(key) != name]:
            raise MalformedCheckpoint(
                f"{source.path}: the shard {name} also contains {listed(extra)}, which the index does not list for it"
            )


def _warnings(metadata: Mapping[str, Any], shards: Collection[tuple[Source, Mapping[str, Entry]]]) -> dict[str, str]:
    declared = metadata.get("total_size")
    actual = sum(entry.size for _, entries in shards for entry in entries.values())
    found = [warning for shard, _ in shards if (warning := zero_tail(shard))]
    if declared not in (None, actual):
        found.insert(0, f"the index declares {quoted(declared)} bytes, but the shards contain {actual}")
    return {"warning": "; ".join(found[:5])} if found else {}
