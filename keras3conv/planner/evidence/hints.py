"""Turn the hints of the user, which name pairs of layers, into pairs of a plan."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from keras3conv.alignment.by_hand import check_names, pair_by_hand, paths_of
from keras3conv.alignment.pair import Pair
from keras3conv.errors import InputError
from keras3conv.messages import with_article
from keras3conv.model.views import ModelView
from keras3conv.planner.evidence.structure import Unmatched

Hints = Mapping[str, str] | list[tuple[str, str]] | Callable[[str], str | None] | None
"""The forms in which a user may name pairs of layers:

- a dict from torch path to Keras path; several layers on one side are joined by " + ";
- a list of (regular expression, replacement); the first expression that matches a whole torch path is used;
- a callable that returns the Keras path for a torch path, or None.
"""


def hinted_pairs(torch: ModelView, keras: ModelView, unmatched: Unmatched, hints: Hints) -> list[Pair]:
    """Return the pairs of layers that the user's hints name.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        unmatched: The layers that are in no pair yet.
        hints: A dict from torch path to Keras path, a list of (regular expression, replacement), or a callable from
            torch path to Keras path.

    Raises:
        AlignmentError: A hint names an unknown layer, or two layers that no rule can pair.
        InputError: The hints have a type that `Hints` does not allow, or a regular expression is malformed.
    """
    named = [
        (paths_of(torch_names), paths_of(keras_names)) for torch_names, keras_names in _named_pairs(unmatched, hints)
    ]
    check_names(torch, keras, named)
    return [pair_by_hand(torch, keras, torch_paths, keras_paths, kind="hint") for torch_paths, keras_paths in named]


def _named_pairs(unmatched: Unmatched, hints: Hints) -> Iterator[tuple[str, str]]:
    """Yield the torch path and the Keras path of each hint.

    Regular expressions and callables are applied to the path of every torch layer. The result of a regular expression
    counts only if it is the path of a Keras layer.

    Args:
        unmatched: The layers that are in no pair yet.
        hints: The user's hints, in one of the forms of `Hints`.
    """
    torch_paths = [layer.path for layer in unmatched.torch_layers]
    if hints is None:
        return
    if isinstance(hints, Mapping):
        yield from hints.items()
    elif isinstance(hints, list | tuple):
        yield from _renamed_pairs(torch_paths, [layer.path for layer in unmatched.keras_layers], hints)
    elif callable(hints):
        for path in torch_paths:
            name = hints(path)
            if name is not None:
                yield path, name
    else:
        raise InputError(
            f"hints must be a dict, a list of (regex, replacement), or a callable, but is "
            f"{with_article(type(hints).__name__)}"
        )


def _renamed_pairs(
    torch_paths: Sequence[str], keras_paths: Sequence[str], hints: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the torch and Keras paths of the pairs that regular expressions name.

    Args:
        torch_paths: The paths of the torch layers.
        keras_paths: The paths of the Keras layers.
        hints: Regular expressions, each with the replacement that makes the Keras path.

    Raises:
        InputError: The expressions name no pair at all.
    """
    patterns = [(_compiled(pattern), replacement) for pattern, replacement in hints]
    renamed = {path: _renamed(path, patterns) for path in torch_paths}
    pairs = [(path, name) for path, name in renamed.items() if name in keras_paths]
    if pairs or not hints or not torch_paths or not keras_paths:
        return pairs
    matched = next((path for path, name in renamed.items() if name), None)
    if matched is None:
        fact = f"none matches the whole path of a torch layer, such as {torch_paths[0]!r}"
    else:
        nearest = get_close_matches(renamed[matched], keras_paths, n=1, cutoff=0.0)
        made = f"the regular expression turns {matched!r} into {renamed[matched]!r}"
        fact = f"{made}, but no Keras layer has this path; similar is {nearest[0]!r}"
    listed = ", ".join(repr(pattern) for pattern, _ in hints[:3])
    raise InputError(f"the regular expressions in hints ({listed}) name no pair of layers: {fact}")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"the pattern {pattern!r} in hints is not a valid regular expression: {error}") from None


def _renamed(path: str, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
    """Return the Keras path made by the first pattern that matches the whole torch path; empty if none matches.

    Args:
        path: The path of a torch layer.
        patterns: Regular expressions, each with the replacement that makes the Keras path.
    """
    for pattern, replacement in patterns:
        match = pattern.fullmatch(path)
        if match:
            return match.expand(replacement)
    return ""
