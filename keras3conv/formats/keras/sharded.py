"""Read weights that Keras saved in several `.weights.h5` files, with a `.weights.json` that maps groups to files."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from keras3conv.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint, quoted
from keras3conv.formats.keras import weights_h5
from keras3conv.formats.keras.layers import distinct, layers_of, reader_of
from keras3conv.formats.safe.hdf5_dataset import Attribute, Dataset
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.shards import is_plain, shard_path
from keras3conv.formats.safe.source import Source, check_count, parse_json
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array

_MAX_INDEX = 64 << 20
_NUMBERED = re.compile(r"(.+)_(\d{5})\.weights\.h5")


@dataclass(frozen=True)
class Shards:
    """The `.weights.h5` files (shards) of a model.

    Attributes:
        source: The index.
        files: For each path of a dataset, the file that has it.
    """

    source: Source
    files: Mapping[str, Hdf5File]

    def read(self, dataset: Dataset) -> Array:
        """Return the values of a dataset, from the shard that has it."""
        return self.files[dataset.path].read(dataset)


def read(source: Source) -> ModelView:
    """Return a view of the model in all files; `ModelView.read` loads one tensor at a time.

    Raises:
        FileError: The index names a file that is missing or elsewhere, or contradicts the files.
    """
    where = str(source.path)
    listed = weight_map_of(source)
    names = list(dict.fromkeys(name for files in listed.values() for name in files))
    _check_numbers(source, names)
    shards = {name: Hdf5File(Source.pin(shard_path(source, name))) for name in names}
    trees = {name: shard.survey() for name, shard in shards.items()}
    _check(where, listed, trees)
    tree = _joined(where, trees)
    found = distinct(weights_h5.find(tree, None, where), where)
    files = {path: shards[name] for name, part in trees.items() for path in part.datasets}
    return ModelView(
        side="keras",
        name=source.path.name,
        layers=layers_of(found, None, tree),
        reader=reader_of(Shards(source, files), lambda: found),
        origin=where,
        facts={"format": f"Keras 3 weights in {len(shards)} shards"} | weights_h5.ignored_facts(tree),
    )


def weight_map_of(source: Source) -> dict[str, tuple[str, ...]]:
    """Return the `weight_map` of an index: {"/layers/dense/vars": ("model_00000.weights.h5",)}.

    The keys are the HDF5 groups of variables, the values the names of the shards that contain the group.
    """
    if source.size > _MAX_INDEX:
        raise MalformedCheckpoint(
            f"{source.path} has {source.size:,} bytes, too many for the index of a sharded checkpoint; the limit is "
            f"{_MAX_INDEX:,}"
        )
    with source.open() as file:
        raw = bytes(source.read(file, 0, source.size))
    check_count(raw.count(b'"') // 4, str(source.path))
    content = parse_json(raw, str(source.path))
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise MalformedCheckpoint(
            f"{source.path} has no key weight_map, so it is not the index of a sharded checkpoint"
        )
    return {group: tuple(_names(source, group, value)) for group, value in weight_map.items()}


def _names(source: Source, group: str, value: Any) -> list[str]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not is_plain(name, ".weights.h5"):
            raise UnsafeCheckpoint(
                f"{source.path}: {quoted(group)} is in the shard {quoted(name)}, which is not a file name in the "
                "folder of the index"
            )
    return names


def _check_numbers(source: Source, names: Collection[str]) -> None:
    """Raise `IncompleteCheckpoint` if shard numbers have a gap, or if the next shard exists but is not listed.

    Args:
        source: The index.
        names: The names of the files that the index lists, such as "model_00000.weights.h5".
    """
    found = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    for stem in {match[1] for match in found}:
        numbers = {int(match[2]) for match in found if match[1] == stem}
        missing = min(set(range(max(numbers) + 2)) - numbers)
        name = f"{stem}_{missing:05}.weights.h5"
        if missing < max(numbers) or (source.path.parent / name).exists():
            raise IncompleteCheckpoint(
                f"{source.path} lists no tensor of the shard {quoted(name)}, so the index is incomplete; save "
                "the model again"
            )


def _check(where: str, listed: Mapping[str, Collection[str]], trees: Mapping[str, Tree]) -> None:
    """Raise an error if the index and the shards disagree, or if two shards have the same dataset.

    Args:
        where: The name of the index, for messages.
        listed: For each group of variables, the files that the index lists.
        trees: The content of each file, by its name.
    """
    holders: dict[str, list[str]] = {}
    for name, tree in trees.items():
        for path in tree.datasets:
            holders.setdefault(path, []).append(name)
            group = f"/{path.rpartition('/')[0]}"
            if name not in listed.get(group, ()):
                raise MalformedCheckpoint(
                    f"{where}: the shard {name} also contains {quoted(path)}, which the index does not list"
                )
    if doubled := [path for path, names in holders.items() if len(names) > 1]:
        raise MalformedCheckpoint(
            f"{where}: the dataset {quoted(doubled[0])} must be in one shard, but is in "
            f"{' and '.join(holders[doubled[0]][:2])}"
        )
    held = {(path.rpartition("/")[0], name) for path, names in holders.items() for name in names}
    for group, names in listed.items():
        if missing := [name for name in names if (group.lstrip("/"), name) not in held]:
            raise IncompleteCheckpoint(
                f"{where}: the shard {missing[0]} lacks the variables of {quoted(group)}, which the index lists; "
                "download or save it again"
            )


def _joined(where: str, trees: Mapping[str, Tree]) -> Tree:
    """Return one tree with the groups and datasets of all files; each dataset gets a different address.

    Args:
        where: The name of the index, for messages.
        trees: The groups and datasets of each file, by its name.
    """
    groups: dict[str, tuple[str, ...]] = {}
    attributes: dict[str, dict[str, Attribute]] = {}
    datasets: dict[str, Dataset] = {}
    for number, tree in enumerate(trees.values()):
        for group, members in tree.groups.items():
            groups[group] = tuple(dict.fromkeys((*groups.get(group, ()), *members)))
        for group, held in tree.attributes.items():
            attributes.setdefault(group, {}).update(held)
        for path, dataset in tree.datasets.items():
            datasets[path] = dataset._replace(address=(number << 64) + dataset.address)
    ignored = tuple(dict.fromkeys(name for tree in trees.values() for name in tree.ignored))
    return Tree(where=where, groups=groups, datasets=datasets, attributes=attributes, ignored=ignored)
