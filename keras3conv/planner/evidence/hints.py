"""Read the hints of the user: pairs of layer names."""

import re
from collections.abc import Callable, Iterator, Mapping

from keras3conv.alignment.binding import pair_by_hand
from keras3conv.alignment.pair import Pair
from keras3conv.errors import InputError
from keras3conv.model.views import ModelView
from keras3conv.planner.evidence.structure import Unmatched

Hints = Mapping[str, str] | list[tuple[str, str]] | Callable[[str], str | None] | None
"""A dict of layer paths, torch to Keras; a list of (regular expression, replacement), of which the first that matches
a whole torch path counts; or a callable from a torch path to a Keras path or None."""


def hinted_pairs(torch: ModelView, keras: ModelView, unmatched: Unmatched, hints: Hints) -> list[Pair]:
    """Return the pairs that the hints name.

    Raises:
        AlignmentError: A hint names an unknown layer, or two layers that no rule fits.
        InputError: The hints have a type that `Hints` does not allow, or a regular expression is malformed.
    """
    return [pair_by_hand(torch, keras, first, second, "hint") for first, second in _named_pairs(unmatched, hints)]


def _named_pairs(unmatched: Unmatched, hints: Hints) -> Iterator[tuple[str, str]]:
    """Yield the torch path and the Keras path of each hint that applies."""
    paths = [layer.path for layer in unmatched.torch_layers]
    if hints is None:
        return
    if isinstance(hints, Mapping):
        yield from hints.items()
    elif isinstance(hints, list | tuple):
        known = {layer.path for layer in unmatched.keras_layers}
        patterns = [_compiled(pattern, replacement) for pattern, replacement in hints]
        for path in paths:
            renamed = next((match.expand(new) for old, new in patterns if (match := old.fullmatch(path))), None)
            if renamed in known:
                yield path, str(renamed)
    elif callable(hints):
        yield from ((path, name) for path in paths if (name := hints(path)) is not None)
    else:
        raise InputError(
            f"hints is a {type(hints).__name__}: it must be a dict, a list of (regex, replacement), or a callable"
        )


def _compiled(pattern: str, replacement: str) -> tuple[re.Pattern[str], str]:
    try:
        return re.compile(pattern), replacement
    except re.error as error:
        raise InputError(f"hints: {pattern!r} is not a regular expression: {error}") from None
