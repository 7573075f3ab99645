"""Find the state dict of the model in a checkpoint of a training loop, which also has optimizer state and settings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, listed, quoted
from keras3conv.formats.torch.objects import OddTensor, Placeholder, StoredTensor
from keras3conv.formats.torch.prefixes import prefixes
from keras3conv.messages import with_article

_DEPTH = 32
"""The number of levels of nested dicts to search: "checkpoint", "model", "state_dict" and the state dict itself."""

_MOST_DICTS = 20_000

OTHERS = ("optim", "sched", "scaler", "rng", "random")
"""Parts of the names of entries that hold the state of an optimizer, a scheduler or the like, not of a model."""


@dataclass(frozen=True)
class Entry:
    """A state dict in a checkpoint.

    Attributes:
        name: The keys that lead to the state dict, joined by dots; empty if the whole file is the state dict.
        content: The state dict.
        weights: The number of its tensors that may be weights: floating-point numbers with at least one axis.
        prefix: The beginning of its names in the file, which `content` leaves out: "student"; empty for a whole dict.
    """

    name: str
    content: Mapping[Any, Any]
    weights: int
    prefix: str = ""


def is_tensor(value: Any) -> bool:
    """Return whether a value of a checkpoint is a tensor."""
    return isinstance(value, StoredTensor | OddTensor)


def values_in(content: Any) -> Iterator[Any]:
    """Yield all values in nested dicts, lists and tuples; a container that occurs repeatedly is visited once."""
    waiting, seen = [content], {id(content)}
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict | list | tuple):
            yield value
            continue
        inside = list(value.values() if isinstance(value, dict) else value)
        fresh = [item for item in reversed(inside) if not isinstance(item, dict | list | tuple) or id(item) not in seen]
        seen.update(map(id, fresh))
        waiting += fresh


def first_placeholder(content: Any) -> str:
    """Return the class name of the first `Placeholder` (an object that was not loaded) in a checkpoint; "" if none."""
    return next((value.name for value in values_in(content) if isinstance(value, Placeholder)), "")


def entries_in(content: Any) -> list[Entry]:
    """Return the state dicts in the content of a checkpoint; those without weights only if there are no others."""
    found = list(_entries(_named_items(content), "", _DEPTH, count()))
    return [entry for entry in found if entry.weights] or found


def find_entry(content: Any, wanted: str, path: Path, planned: str = "") -> Entry:
    """Return the state dict of the model in a checkpoint.

    Args:
        content: The content of the file.
        wanted: The name of the state dict, if the file holds several; its first or its last keys are enough.
        path: The file, for messages.
        planned: The name of the state dict for which a plan was made; it is read if there are several and `wanted` is
            empty.

    Raises:
        MalformedCheckpoint: The content is not a dict.
        FileError: No state dict has this name, or there are several and no name was given.
    """
    if not _named_items(content) and not isinstance(content, Mapping):
        raise MalformedCheckpoint(f"{path} holds {with_article(_kind(content))}, not a state dict")
    found = entries_in(content)
    if wanted:
        return _named(found, wanted, path)
    whole = next((entry for entry in found if not entry.name), None)
    inside = [entry for entry in found if entry.name]
    if whole is not None and all(entry.weights <= whole.weights for entry in inside):
        return whole
    if not inside:
        raise FileError(f"{path} contains no state dict, that is, no dict of names and tensors")
    if named := [entry for entry in inside if entry.name == planned]:
        return named[0]
    if len(inside) > 1:
        lines = "\n".join(f"  {quoted(entry.name)}  {len(entry.content):,} entries" for entry in inside[:20])
        raise FileError(
            f"{path} holds {len(inside)} state dicts; which one is the model?\n{lines}\n"
            f'Fix:  entry="{inside[0].name}"     or     entry="{inside[1].name}"'
        )
    return inside[0]


def _named(entries: list[Entry], wanted: str, path: Path) -> Entry:
    """Return the state dict with a name, or the only one whose name begins or ends with it: "ema" for "models.ema".

    If there is none, return the tensors whose names begin with the name: a flat state dict may hold several models.

    Args:
        entries: The state dicts in the checkpoint.
        wanted: The name: keys joined by dots.
        path: The file, for messages.

    Raises:
        FileError: No state dict has such a name, or several have.
    """
    inside = [entry for entry in entries if entry.name.startswith(f"{wanted}.")]
    exact = [entry for entry in entries if entry.name == wanted]
    fitting = exact or inside or [entry for entry in entries if entry.name.rpartition(".")[2] == wanted]
    parts_of_flat = list(under(entries, f"{wanted}.")) if not fitting else []
    if len(parts_of_flat) == 1:
        return parts_of_flat[0]
    if len(fitting) != 1:
        parts = prefixes(key for entry in entries for key in entry.content if isinstance(key, str))
        begin = f"; the names of its tensors begin with: {listed(parts)}" if parts else ""
        known = ", ".join(quoted(entry.name) for entry in entries[:20] if entry.name) or "none"
        raise FileError(f"{path} has no state dict {quoted(wanted)}; its state dicts are: {known}{begin}")
    return fitting[0]


def under(entries: Iterable[Entry], start: str) -> Iterator[Entry]:
    """Yield, for each state dict that has such tensors, the state dict of the tensors whose names begin with a prefix.

    Args:
        entries: The state dicts.
        start: The prefix with its dot, which the new names lack.
    """
    for entry in entries:
        own = {key: value for key, value in entry.content.items() if isinstance(key, str) and key.startswith(start)}
        tensors = [value for value in own.values() if is_tensor(value)]
        if tensors:
            content = {key.removeprefix(start): value for key, value in own.items()}
            name = f"{entry.name}.{start[:-1]}".lstrip(".")
            yield Entry(name, content, sum(map(_may_be_weight, tensors)), prefix=start[:-1])


def _entries(content: Mapping[Any, Any], name: str, depth: int, visits: Iterator[int]) -> Iterator[Entry]:
    """Yield the state dicts in nested dicts, the outermost first; those of optimizers and the like are skipped.

    Args:
        content: The dict.
        name: The keys that lead to the dict, joined by dots; empty for the whole file.
        depth: The number of levels to search.
        visits: Counts the dicts that were searched; too many raise `BudgetExceeded`.
    """
    if next(visits) > _MOST_DICTS:
        raise BudgetExceeded(
            f"the checkpoint has more than {_MOST_DICTS:,} nested dicts, too many to search for a state dict"
        )
    tensors = [value for key, value in content.items() if isinstance(key, str) and is_tensor(value)]
    if tensors:
        yield Entry(name, content, sum(map(_may_be_weight, tensors)))
    for key, value in content.items():
        is_other = not isinstance(key, str) or any(word in key.lower() for word in OTHERS)
        if depth > 1 and not is_other and (inside := _named_items(value)):
            yield from _entries(inside, f"{name}.{key}" if name else key, depth - 1, visits)


def _named_items(content: Any) -> Mapping[Any, Any]:
    """Return a dict unchanged, a list or tuple as a dict of its dicts by index: {"0": ...}, and else an empty dict."""
    if isinstance(content, Mapping):
        return content
    inside = enumerate(content) if isinstance(content, list | tuple) else ()
    return {str(place): value for place, value in inside if isinstance(value, Mapping)}


def _may_be_weight(tensor: StoredTensor | OddTensor) -> bool:
    return isinstance(tensor, OddTensor) or (tensor.dtype.startswith(("float", "bfloat")) and bool(tensor.shape))


def _kind(content: Any) -> str:
    return "tensor" if is_tensor(content) else type(content).__name__
