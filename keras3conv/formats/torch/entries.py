"""Find the state dict of the model in a checkpoint that a training loop wrote, beside what else the loop keeps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras3conv.errors import FileError, MalformedCheckpoint

_DEPTH = 4
"""The number of levels that are searched: "checkpoint", "model", "state_dict", and the state dict itself."""

_OTHERS = ("optim", "sched", "scaler", "rng", "random")
"""Parts of the names of entries that hold the state of something else than a model."""


@dataclass(frozen=True)
class Entry:
    """A state dict in a checkpoint.

    Attributes:
        name: The keys that lead to it, joined by dots; empty for the whole file.
        content: The state dict.
        weights: The number of its tensors that may be weights: floating-point numbers with at least one axis.
    """

    name: str
    content: Mapping[Any, Any]
    weights: int


def is_tensor(value: Any) -> bool:
    """Return whether a value of a checkpoint is a tensor."""
    import torch

    return isinstance(value, torch.Tensor)


def find_entry(content: Any, wanted: str, path: Path) -> Entry:
    """Return the state dict of the model.

    Args:
        content: The content of the file.
        wanted: The name of the state dict, if the file holds several; a name inside another is enough.
        path: The file, for messages.

    Raises:
        MalformedCheckpoint: The content is not a dict.
        FileError: No state dict has this name, or there are several and no name was given.
    """
    if not isinstance(content, Mapping):
        raise MalformedCheckpoint(f"{path} holds a {type(content).__name__}, not a state dict")
    found = list(_entries(content, "", _DEPTH))
    found = [entry for entry in found if entry.weights] or found
    if wanted:
        return _named(found, wanted, path)
    whole = next((entry for entry in found if not entry.name), None)
    inside = [entry for entry in found if entry.name]
    if whole is not None and all(entry.weights <= whole.weights for entry in inside):
        return whole
    if not inside:
        raise FileError(f"{path}: there is no state dict in it")
    if len(inside) > 1:
        listed = "\n".join(f"  {entry.name!r}  {len(entry.content):,} entries" for entry in inside)
        raise FileError(
            f"{path} holds {len(inside)} state dicts; which one is the model?\n{listed}\n"
            f'Fix:  entry="{inside[0].name}"     or     entry="{inside[1].name}"'
        )
    return inside[0]


def _named(found: list[Entry], wanted: str, path: Path) -> Entry:
    """Return the state dict with this name, or the only one inside the entry with this name."""
    inside = [entry for entry in found if entry.name.startswith(f"{wanted}.")]
    exact = [entry for entry in found if entry.name == wanted]
    fitting = exact or inside or [entry for entry in found if entry.name.rpartition(".")[2] == wanted]
    if len(fitting) != 1:
        known = ", ".join(repr(entry.name) for entry in found if entry.name) or "none"
        raise FileError(f"{path}: there is no state dict {wanted!r}; state dicts in it: {known}")
    return fitting[0]


def _entries(content: Mapping[Any, Any], name: str, depth: int) -> Iterator[Entry]:
    """Yield the state dicts in a dict, itself included, without those of optimizers and the like."""
    tensors = [value for key, value in content.items() if isinstance(key, str) and is_tensor(value)]
    if tensors:
        yield Entry(name, content, sum(tensor.is_floating_point() and tensor.dim() > 0 for tensor in tensors))
    for key, value in content.items():
        is_other = not isinstance(key, str) or any(word in key.lower() for word in _OTHERS)
        if depth > 1 and isinstance(value, Mapping) and not is_other:
            yield from _entries(value, f"{name}.{key}" if name else key, depth - 1)
