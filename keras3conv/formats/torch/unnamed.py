"""Find lists of tensors without names in a checkpoint, such as the averaged weights that torch_ema saves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras3conv.errors import FileError, quoted
from keras3conv.formats.torch.entries import OTHERS, entries_in, is_tensor

_DEPTH = 8
"""The number of levels of nested dicts to search."""

_FEWEST = 2
"""The least number of tensors in such a list."""

ORDER = "without names, in the order of module.parameters()"


@dataclass(frozen=True)
class UnnamedList:
    """A list of tensors: the keys that lead to it, and the number of its tensors."""

    keys: tuple[str, ...]
    length: int

    @property
    def name(self) -> str:
        """The keys, joined by dots, such as "ema.shadow_params"."""
        return ".".join(self.keys)


def unnamed_lists(content: Any) -> list[UnnamedList]:
    """Return the lists of tensors in the nested dicts of a checkpoint, without those of optimizers and the like."""
    return list(_lists(content, (), set()))


def _lists(content: Any, keys: tuple[str, ...], seen: set[int]) -> Iterator[UnnamedList]:
    if isinstance(content, list | tuple) and len(content) >= _FEWEST and all(map(is_tensor, content)):
        yield UnnamedList(keys, len(content))
    if not isinstance(content, Mapping) or len(keys) == _DEPTH or id(content) in seen:
        return
    seen.add(id(content))
    for key, value in content.items():
        if isinstance(key, str) and not any(word in key.lower() for word in OTHERS):
            yield from _lists(value, (*keys, key), seen)


def refuse_unnamed(content: Any, wanted: str, path: str) -> None:
    """Raise `FileError` if `wanted` is a list of tensors without names, or if the checkpoint has only such lists.

    Args:
        content: The content of the checkpoint.
        wanted: The name of the state dict to read; empty if none was given.
        path: The file, for the message.
    """
    entries = [entry for entry in entries_in(content) if not wanted or _is_named(wanted, entry.name)]
    lists = [one for one in unnamed_lists(content) if not wanted or _is_named(wanted, one.name)]
    if entries or not lists:
        return
    place = "".join(f'["{key}"]' for key in lists[0].keys)
    raise FileError(
        f"{path} has no state dict{wanted and f' {quoted(wanted)}'}, but '{lists[0].name}' is a list of "
        f"{lists[0].length} tensors {ORDER}, as torch_ema saves averaged weights; your module, with the other weights "
        "loaded, gives it names\n"
        "Fix:  module.load_state_dict(dict(zip(dict(module.named_parameters()), "
        f'torch.load("{path}", weights_only=True){place}, strict=True)), strict=False); '
        'torch.save(module.state_dict(), "named.pt")'
    )


def _is_named(wanted: str, name: str) -> bool:
    """Return whether a name is asked for by its whole, by its first or by its last keys: "ema" for "ema.shadow"."""
    return name == wanted or name.startswith(f"{wanted}.") or name.endswith(f".{wanted}")
