"""Take one of several models out of a flat state dict, in which each has a prefix: "student." and "teacher."."""

from collections.abc import Iterable
from dataclasses import replace

from keras3conv.errors import FileError, listed, quoted
from keras3conv.formats.torch.names import layers_of
from keras3conv.model.views import ModelView

_MOST_PREFIXES = 20


def within(view: ModelView, prefix: str) -> ModelView:
    """Return a view of the tensors under a prefix, whose names are without the prefix.

    Args:
        view: The view of a file of torch weights.
        prefix: The beginning of the names, without the last dot: "student", "module.encoder_q".

    Raises:
        FileError: No tensor has the prefix.
    """
    start = f"{prefix}."
    kept = [tensor for tensor in view.tensors() if tensor.path.startswith(start)]
    if not kept:
        known = listed(prefixes(tensor.path for tensor in view.tensors())) or "none"
        raise FileError(
            f"{view.origin} has no state dict {quoted(prefix)}, and no tensor whose name begins with "
            f"{quoted(start)}; the names begin with: {known}"
        )
    tensors = [replace(tensor, path=tensor.path.removeprefix(start)) for tensor in kept]
    return replace(view, layers=layers_of(tensors), reader=lambda path: view.read(f"{start}{path}"))


def siblings(names: Iterable[str], prefix: str) -> list[str]:
    """Return the other prefixes of tensor names beside one: "teacher" beside "student", "a.teacher" beside "a.student".

    Args:
        names: The names of all tensors.
        prefix: The prefix, without its last dot.
    """
    parent = prefix.rpartition(".")[0]
    found = prefixes(name for name in names if name.startswith(f"{parent}." if parent else ""))
    return [other for other in found if other != prefix and other.rpartition(".")[0] == parent]


def prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes that group tensor names: "module.a" and "module.b" for "module.a.weight", "module.b.weight".

    A prefix that all names have is part of each. The result is empty if all names are in one group.
    """
    parts = [name.split(".")[:-1] for name in names]
    common: list[str] = []
    while parts and all(part and part[0] == parts[0][0] for part in parts):
        common.append(parts[0][0])
        parts = [part[1:] for part in parts]
    found = dict.fromkeys(".".join([*common, part[0]]) for part in parts if part)
    return list(found)[:_MOST_PREFIXES] if len(found) > 1 else []
