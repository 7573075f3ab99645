"""Find the other models in a file whose tensors have the names and shapes of those that were read.

A training checkpoint often holds raw weights and averaged ones, and a flat state dict those of a student and a teacher.
Each of them fits the same model, so names and shapes do not show that the wrong one was read.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras3conv.errors import listed
from keras3conv.formats.torch.entries import Entry, entries_in, is_tensor, under
from keras3conv.formats.torch.prefixes import siblings
from keras3conv.model.views import OTHER_STATE_DICTS, TensorRef
from keras3conv.model.wrappers import covering_prefix
from keras3conv.transforms import Shape


def other_state_dicts(content: Any, read: Entry) -> dict[str, str]:
    """Return a fact that names the state dicts with the names and shapes of the one that was read; {} if none has them.

    A state dict with the same values is left out.

    Args:
        content: The content of the checkpoint.
        read: The state dict that was read.
    """
    wanted = _tensors(read)
    others = {entry.name: _tensors(entry) for entry in _models(content, read.prefix) if entry.name != read.name}
    return _fact(
        name or "the whole file"
        for name, tensors in others.items()
        if tensors != wanted and _are_alike(_shapes_of(tensors), _shapes_of(wanted))
    )


def other_prefixes(tensors: Iterable[TensorRef], prefix: str) -> dict[str, str]:
    """Return a fact that names the prefixes with the names and shapes of the one that was read; {} if none has them.

    Args:
        tensors: All tensors of the file.
        prefix: The prefix of those that were read, without its last dot.
    """
    shapes = {tensor.path: tensor.shape for tensor in tensors}

    def under_prefix(start: str) -> dict[str, Shape]:
        return {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}

    wanted = under_prefix(f"{prefix}.")
    return _fact(other for other in siblings(shapes, prefix) if _are_alike(under_prefix(f"{other}."), wanted))


def _models(content: Any, prefix: str) -> Iterator[Entry]:
    """Yield all state dicts of a checkpoint; if the one that was read has a prefix, also those beside it in a flat one.

    Args:
        content: The content of the checkpoint.
        prefix: The prefix of the state dict that was read; empty if a whole dict was read.
    """
    for entry in entries_in(content):
        yield entry
        for other in siblings(_tensors(entry), prefix) if prefix else ():
            yield from under([entry], f"{other}.")


def _tensors(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry.content.items() if isinstance(key, str) and is_tensor(value)}


def _shapes_of(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the shape of each tensor; () for a sparse or quantized one, whose shape is not read."""
    return {name: getattr(tensor, "shape", ()) for name, tensor in tensors.items()}


def _are_alike(one: Mapping[str, Shape], other: Mapping[str, Shape]) -> bool:
    """Return whether two state dicts are of one model, up to a wrapper's prefix and its counters (`n_averaged`)."""
    return _weights(one) == _weights(other) and (_covers(one, other) or _covers(other, one))


def _weights(shapes: Mapping[str, Shape]) -> int:
    return sum(shape != () for shape in shapes.values())


def _covers(more: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> bool:
    prefix = covering_prefix(more, shapes)
    return bool(shapes) and all(more.get(f"{prefix}{name}") == shape for name, shape in shapes.items())


def _fact(names: Iterable[str]) -> dict[str, str]:
    found = listed(names)
    return {OTHER_STATE_DICTS: found} if found else {}
