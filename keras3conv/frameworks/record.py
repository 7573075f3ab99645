"""What is recorded of a run of a model: which layers ran, in which order, what went in and what came out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one layer.

    Attributes:
        path: The layer.
        place: When its call began, counted over all layers of the model.
        inputs: The arrays that it was called with, positional ones first.
        outputs: The arrays that it returned.
    """

    path: str
    place: int
    inputs: tuple[Array, ...] = ()
    outputs: tuple[Array, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One run of a model.

    Attributes:
        calls: The calls, in the order in which they began.
        outputs: What the model returned, flat, by name: "" for a single tensor, "0", "1", ..., or keys.
    """

    calls: tuple[Call, ...] = ()
    outputs: Mapping[str, Array] = field(default_factory=dict)

    def of(self, path: str) -> tuple[Call, ...]:
        """The calls of one layer."""
        return self._by_path().get(path, ())

    def _by_path(self) -> dict[str, tuple[Call, ...]]:
        cached: dict[str, tuple[Call, ...]] | None = self.__dict__.get("_index")
        if cached is None:
            index: dict[str, list[Call]] = {}
            for call in self.calls:
                index.setdefault(call.path, []).append(call)
            cached = {path: tuple(calls) for path, calls in index.items()}
            object.__setattr__(self, "_index", cached)
        return cached


def flatten(value: Any, is_leaf: Callable[[Any], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tuples, lists and mappings with their names: "0", "logits", "hidden_states.3"."""
    if is_leaf(value):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, is_leaf, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from flatten(item, is_leaf, f"{prefix}.{index}" if prefix else str(index))


def plain(value: Any) -> bool:
    """Whether a value says the same in every process: a number, a string, a flag, None, or a sequence of such."""
    if isinstance(value, tuple | list):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
