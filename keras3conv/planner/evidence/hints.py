"""Read the hints of the user: pairs of layer names."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from keras3conv.alignment.binding import check_names, pair_by_hand, paths_of
from keras3conv.alignment.pair import Pair
from keras3conv.errors import InputError
from keras3conv.model.views import ModelView
from keras3conv.planner.evidence.structure import Unmatched

Hints = Mapping[str, str] | list[tuple[str, str]] | Callable[[str], str | None] | None
"""A dict of layer paths, torch to Keras, in which several layers are joined by " + "; a list of (regular expression,
replacement), of which the first that matches a whole torch path counts; or a callable from a torch path to a Keras path
or None."""


def hinted_pairs(torch: ModelView, keras: ModelView, unmatched: Unmatched, hints: Hints) -> list[Pair]:
    """Return the pairs that the hints name.

    Raises:
        AlignmentError: Hints name unknown layers, or layers that no rule pairs.
        InputError: The hints have a type that `Hints` does not allow, or a regular expression is malformed.
    """
    named = [
        (paths_of(torch_names), paths_of(keras_names)) for torch_names, keras_names in _named_pairs(unmatched, hints)
    ]
    check_names(torch, keras, named)
    return [pair_by_hand(torch, keras, torch_paths, keras_paths, kind="hint") for torch_paths, keras_paths in named]


def _named_pairs(unmatched: Unmatched, hints: Hints) -> Iterator[tuple[str, str]]:
    """Yield the torch path and the Keras path of each hint that applies."""
    torch_paths = [layer.path for layer in unmatched.torch_layers]
    if hints is None:
        return
    if isinstance(hints, Mapping):
        yield from hints.items()
    elif isinstance(hints, list | tuple):
        keras_paths = {layer.path for layer in unmatched.keras_layers}
        patterns = [(_compiled(pattern), replacement) for pattern, replacement in hints]
        for path in torch_paths:
            renamed = _renamed(path, patterns)
            if renamed in keras_paths:
                yield path, renamed
    elif callable(hints):
        for path in torch_paths:
            name = hints(path)
            if name is not None:
                yield path, name
    else:
        raise InputError(
            f"hints is a {type(hints).__name__}: it must be a dict, a list of (regex, replacement), or a callable"
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"hints: {pattern!r} is not a regular expression: {error}") from None


def _renamed(path: str, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
    """Return the replacement by the first pattern that matches the whole path; empty if none does."""
    for pattern, replacement in patterns:
        match = pattern.fullmatch(path)
        if match:
            return match.expand(replacement)
    return ""
