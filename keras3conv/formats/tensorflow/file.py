"""Read the weights of a checkpoint of `tf.train.Checkpoint`, of Keras 2, of a TensorFlow 1 `Saver`, or of a SavedModel.

A SavedModel is a folder with such a checkpoint; its graph is neither read nor run. Optimizer states, counters and texts
are not weights, and are named as left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, listed, quoted
from keras3conv.formats.keras.layers import StoredLayer, distinct, kind_by_name, layers_of, reader_of
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source, check_count
from keras3conv.formats.tensorflow import bundle, graph
from keras3conv.formats.tensorflow.bundle import DTYPES, Bundle
from keras3conv.messages import count
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array

FORMAT = "TensorFlow checkpoint"
_MOST_OF_GRAPH = 128 << 20

_COUNTERS = frozenset({"global_step", "beta1_power", "beta2_power"})
"""The last part of the names of variables that are not weights, such as a step counter of TensorFlow 1."""

_ROLES = {
    "weights": "kernel",
    "biases": "bias",
    "depthwise_weights": "depthwise_kernel",
    "pointwise_weights": "pointwise_kernel",
}
"""The Keras name of each variable name that `tf.contrib.layers` and slim use: "weights" is "kernel"."""

_ORDER = ("depthwise_kernel", "pointwise_kernel", "kernel", "recurrent_kernel", "bias", "gamma", "beta")
"""The variable names of a layer in the order in which Keras creates them; other names come after these."""


@dataclass(frozen=True)
class _Weight:
    """A weight: its name in the checkpoint, the path of its layer, and its name in the layer."""

    key: str
    layer: str
    role: str


@dataclass(frozen=True)
class _Values:
    """A checkpoint with the interface of a Keras file (`DatasetFile`): `read` returns the values of a variable."""

    held: Bundle

    @property
    def source(self) -> Source:
        """The file with the index of the checkpoint; error messages name its path."""
        return self.held.source

    def read(self, dataset: Dataset) -> Array:
        """Return the values of a variable of the checkpoint."""
        return self.held.read(dataset.path)


def read(source: Source) -> ModelView:
    """Return a view of the model in a checkpoint with this index; `ModelView.read` loads one tensor at a time.

    Raises:
        FileError: The index is damaged or contradicts the files with the values, or there are no weights.
    """
    where = str(source.path)
    held = bundle.opened(source)
    weights, is_ordered = _weights(held, where)
    check_count(len(weights), where)
    keys = {weight.key for weight in weights}
    if not weights:
        raise FileError(
            f"{where} is a TensorFlow checkpoint without weights; it has {listed(held.entries) or 'nothing'}"
        )
    for weight in weights:
        if not held.entries[weight.key].is_whole:
            raise FileError(
                f"{where}: {quoted(weight.key)} is a partitioned variable, stored in parts: save it in a program that "
                "restores it without a partitioner"
            )
    found = distinct(_stored_layers(held, weights, is_ordered=is_ordered), where)
    tree = Tree(where=where, groups={}, datasets={}, attributes={})
    return ModelView(
        side="keras",
        name=source.path.name,
        layers=layers_of(found, None, tree),
        reader=reader_of(_Values(held), lambda: found),
        origin=where,
        facts={"format": FORMAT} | _ignored(name for name in held.entries if name not in keys),
    )


def _weights(held: Bundle, where: str) -> tuple[list[_Weight], bool]:
    """Return the weights of the model in a checkpoint, and whether they are in the order of the model."""
    described = held.entries.get(graph.GRAPH)
    if described is None:
        return _by_names(held), False
    if described.code != bundle.TEXT or described.shape:
        raise MalformedCheckpoint(f"{where}: the entry {graph.GRAPH}, with the graph of objects, is not a text")
    if described.size > _MOST_OF_GRAPH:
        raise BudgetExceeded(f"{where}: {graph.GRAPH} has {described.size:,} bytes; the limit is {_MOST_OF_GRAPH:,}")
    nodes = graph.parse(held.text(graph.GRAPH), where)
    named = {one.key: one for one in graph.variables(nodes, where)}
    missing = [key for key in named if key not in held.entries]
    if missing:
        raise MalformedCheckpoint(f"{where}: the graph of objects has {quoted(missing[0])}, but the index does not")
    variables = _without_copies(held, [one for one in named.values() if held.entries[one.key].code in DTYPES])
    paths = [one.name.split("/") for one in variables]
    if len(set(map(tuple, paths))) < len(paths) or min(map(len, paths), default=0) < 2:
        paths = [list(one.path) for one in variables]
    while len(paths) > 1 and min(map(len, paths)) > 2 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]  # the name of the model, or the attribute of the object that was saved
    return [_weight(one.key, path) for one, path in zip(variables, paths, strict=True)], True


def _without_copies(held: Bundle, variables: Iterable[graph.Variable]) -> list[graph.Variable]:
    """Return the variables without duplicates.

    `Model.export` of Keras 3 saves every variable twice: in its layer, and in a list of all variables. A variable in a
    list is left out if another has the same name, dtype, shape and checksum.

    Args:
        held: The checkpoint.
        variables: The variables, in the order of the model.
    """
    kept: dict[object, graph.Variable] = {}
    for one in variables:
        entry = held.entries[one.key]
        same = (one.name, entry.code, entry.shape, entry.checksum)
        is_listed = bool(one.name) and not graph.LISTS.isdisjoint(one.path)
        kept.setdefault(same if is_listed else one.key, one)
    return list(kept.values())


def _weight(key: str, path: Sequence[str]) -> _Weight:
    *layer, role = path
    role = role.partition(":")[0].lstrip("_") or role
    return _Weight(key, "/".join(layer), _ROLES.get(role, role))


def _by_names(held: Bundle) -> list[_Weight]:
    """Return the weights of a checkpoint of TensorFlow 1, which stores names, but no graph of objects.

    An optimizer names its variables after the variable that they belong to, such as "dense/kernel/Adam".
    """
    names = [name for name, entry in held.entries.items() if entry.code in DTYPES]
    known = set(names)
    kept = [
        name
        for name in names
        if name.rpartition("/")[0] not in known
        and name.rpartition("/")[2] not in _COUNTERS
        and not name.endswith(graph.VALUE)
    ]
    return [_weight(name, name.split("/")) for name in kept]


def _stored_layers(held: Bundle, weights: Iterable[_Weight], *, is_ordered: bool) -> list[StoredLayer]:
    """Group weights into layers: "lstm/lstm_cell/kernel" is in the layer "lstm/lstm_cell", which follows "lstm".

    The outermost layer of a path ("lstm") is returned even if it has no weights of its own.

    Args:
        held: The checkpoint.
        weights: The weights.
        is_ordered: Whether they are in the order of the model.
    """
    owned: dict[str, list[_Weight]] = {}
    for weight in weights:
        owned.setdefault(weight.layer.partition("/")[0], [])
        owned.setdefault(weight.layer, []).append(weight)
    layers = []
    for path, inside in owned.items():
        inside.sort(key=lambda weight: _ORDER.index(weight.role) if weight.role in _ORDER else len(_ORDER))
        roles = tuple(weight.role for weight in inside)
        datasets = tuple(_dataset(held, weight.key) for weight in inside)
        kind = kind_by_name(path, roles)
        layers.append(StoredLayer(path=path, datasets=datasets, roles=roles, kind=kind, is_ordered=is_ordered))
    return layers


def _dataset(held: Bundle, key: str) -> Dataset:
    """Return a variable of the checkpoint as a `Dataset`, the form that the code for Keras' files uses."""
    entry = held.entries[key]
    return Dataset(
        path=key,
        shape=entry.shape,
        dtype=DTYPES[entry.code],
        address=(entry.shard << 64) + entry.start,
        stored=entry.size,
    )


def _ignored(names: Iterable[str]) -> dict[str, str]:
    """Return a fact for reports with the names of tensors that are no weights (counters); {} if there are none."""
    left = [name.removesuffix(graph.VALUE) for name in names]
    if not left:
        return {}
    more = f" and {len(left) - 5:,} more" if len(left) > 5 else ""
    return {"ignored": f"{count(len(left), 'tensor')} without weights: {listed(left[:5])}{more}"}
