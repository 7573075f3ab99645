"""Read Keras weights in several files, shards, with an index (`.weights.json`) that maps groups of variables to files.

A group may be in several shards, if its variables did not fit into one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from keras3conv.errors import IncompleteCheckpoint, MalformedCheckpoint
from keras3conv.formats.keras.layers import distinct, layers_of, reader_of
from keras3conv.formats.keras.weights_h5 import find
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Attribute, Dataset, Tree
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safetensors.index import read_weight_map, shard_path
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array

_APART = 1 << 56
"""Added to the addresses in each shard: an address is unique in its file only."""


def read(source: Source) -> ModelView:
    """Return a view of the model in all shards; raise `FileError` if the index contradicts them."""
    where = str(source.path)
    weight_map, _ = read_weight_map(source, ".weights.h5")
    listed = {group.strip("/"): [names] if isinstance(names, str) else names for group, names in weight_map.items()}
    names = list(dict.fromkeys(name for several in listed.values() for name in several))
    files = {name: Hdf5File(Source.pin(shard_path(source, name))) for name in names}
    trees = {name: file.survey() for name, file in files.items()}
    _check(where, listed, trees)
    tree, owner = _joined(where, trees)
    found = distinct(find(tree, None, where), where)
    return ModelView(
        side="keras",
        name=source.path.name,
        layers=layers_of(found, None, tree),
        reader=reader_of(_Shards(source, files, owner), found),
        origin=where,
        facts={"format": f"Keras 3 weights in {len(files)} shards"},
    )


@dataclass(frozen=True)
class _Shards:
    """The files, and the name of the file of each dataset."""

    source: Source
    files: Mapping[str, Hdf5File]
    owner: Mapping[str, str]

    def read(self, dataset: Dataset) -> Array:
        """Return the values of an inspected dataset."""
        return self.files[self.owner[dataset.path]].read(dataset)


def _check(where: str, listed: dict[str, list[str]], trees: dict[str, Tree]) -> None:
    """Raise `FileError` unless every group is in exactly the shards that the index lists for it."""
    for group, names in listed.items():
        if missing := [name for name in names if not trees[name].groups.get(group)]:
            raise IncompleteCheckpoint(f"{where}: {missing[0]} lacks the variables {group!r}")
    for name, tree in trees.items():
        for path in tree.datasets:
            if name not in listed.get(path.rpartition("/")[0], ()):
                raise MalformedCheckpoint(f"{where}: {name} also contains {path!r}")


def _joined(where: str, trees: dict[str, Tree]) -> tuple[Tree, dict[str, str]]:
    """Return the groups and datasets of all shards in one tree, and the shard of each dataset."""
    groups: dict[str, tuple[str, ...]] = {}
    datasets: dict[str, Dataset] = {}
    attributes: dict[str, dict[str, Attribute]] = {}
    owner: dict[str, str] = {}
    for number, (name, tree) in enumerate(trees.items()):
        for path, members in tree.groups.items():
            groups[path] = tuple(dict.fromkeys((*groups.get(path, ()), *members)))
        for path, held in tree.attributes.items():
            attributes[path] = {**attributes.get(path, {}), **held}
        for path, dataset in tree.datasets.items():
            if path in datasets:
                raise MalformedCheckpoint(f"{where}: {path!r} is in {owner[path]} and in {name}")
            datasets[path] = replace(dataset, address=dataset.address + number * _APART)
            owner[path] = name
    return Tree(where=where, groups=groups, datasets=datasets, attributes=attributes), owner
