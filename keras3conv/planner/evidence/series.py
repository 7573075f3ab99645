"""Put the layers of two files in the same order by the numbers in their names: "layers.1.norm" and "block1_norm".

A file does not show in which order its layers run, and a `.safetensors` file lists its tensors by name. Paths that
differ in one number only are a series: "layers.0.norm" and "layers.1.norm". Series of both sides correspond if they
have equally many layers at each number. If several series of one side do, the words of their names decide.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras3conv.model.views import LayerView
from keras3conv.planner.evidence import names

_UNNUMBERED = -1

Step = tuple[str, int]
"""A piece of a path: its text, and the number after it. "block_1" is ("block_", 1), "norm" is ("norm", -1)."""


@dataclass(frozen=True)
class _Entry:
    """A layer, and the rest of its path that is not compared yet, as pairs of text and number: ("fc", 1)."""

    layer: LayerView
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class _Series:
    """Layers whose paths are equal up to a number, "layers.0.norm" and "layers.1.norm": one member for each number."""

    text: str
    members: tuple[tuple[_Entry, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """For each number in the paths, the number of layers that have it."""
        return tuple(map(len, self.members))


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A torch layer and the Keras layer that corresponds to it, among layers of equal shapes.

    Attributes:
        torch: The torch layer.
        keras: The Keras layer.
        by_order: Whether their order in the two files decided, because their names do not.
    """

    torch: LayerView
    keras: LayerView
    by_order: bool = False


def in_series(torch: Sequence[LayerView], keras: Sequence[LayerView]) -> list[Matched]:
    """Pair torch layers with Keras layers of equal shapes: by the numbers and words in their names, then by order.

    Args:
        torch: Torch layers, in the order of the model if it is known.
        keras: As many Keras layers.
    """
    sides = [[_Entry(layer, _steps(names.name_of(layer))) for layer in side] for side in (torch, keras)]
    return list(_matched(_listed(sides[0]), _listed(sides[1])))


def _listed(entries: Sequence[_Entry]) -> Sequence[_Entry]:
    """Return layers in the order of the file; if that is by name, sort by number: "layers.2" before "layers.10"."""
    if all(entry.layer.is_ordered for entry in entries):
        return entries
    return sorted(entries, key=lambda entry: entry.steps)


def _matched(torch: Sequence[_Entry], keras: Sequence[_Entry]) -> Iterator[Matched]:
    if len(torch) == len(keras) == 1:
        yield Matched(torch=torch[0].layer, keras=keras[0].layer)
        return
    first, second = _split(torch), _split(keras)
    if not first or not second or sorted(part.sizes for part in first) != sorted(part.sizes for part in second):
        for one, other in zip(torch, keras, strict=True):
            yield Matched(torch=one.layer, keras=other.layer, by_order=True)
        return
    for one_series, other_series, is_guess in _assigned(first, second):
        for one_member, other_member in zip(one_series.members, other_series.members, strict=True):
            for match in _matched(one_member, other_member):
                yield Matched(torch=match.torch, keras=match.keras, by_order=match.by_order or is_guess)


def _split(entries: Sequence[_Entry]) -> list[_Series]:
    """Group layers into series by the first name or number in which their paths differ.

    The result is empty if one path is the beginning of another.
    """
    while True:
        if any(not entry.steps for entry in entries):
            return []
        texts: dict[str, dict[int, list[_Entry]]] = {}
        numbered = {entry.steps[0][0] for entry in entries}
        for entry in entries:
            (text, number), rest = entry.steps[0], entry.steps[1:]
            if number == _UNNUMBERED and f"{text}_" in numbered:
                text = f"{text}_"  # Keras names its layers "dense", "dense_1", "dense_2"
            texts.setdefault(text, {}).setdefault(number, []).append(_Entry(entry.layer, rest))
        if len(texts) > 1 or any(len(members) > 1 for members in texts.values()):
            return [_Series(text, _members(of)) for text, of in texts.items()]
        entries = [_Entry(entry.layer, entry.steps[1:]) for entry in entries]


def _members(by_number: Mapping[int, list[_Entry]]) -> tuple[tuple[_Entry, ...], ...]:
    """Return one tuple of layers for each number in their names, such as 3 in "block_3/norm" and "block_3/conv".

    If the file is sorted by name, its order means nothing, and the tuples are in the order of the numbers. Otherwise
    they are in the order of the file, which is that of the model: Keras may have numbered the layers differently.
    """
    is_listed = all(entry.layer.is_ordered for of in by_number.values() for entry in of)
    return tuple(tuple(by_number[number]) for number in (by_number if is_listed else sorted(by_number)))


def _assigned(torch: Sequence[_Series], keras: Sequence[_Series]) -> Iterator[tuple[_Series, _Series, bool]]:
    """Pair the series of both sides (layers whose paths differ in one number); True if only their order decided.

    Args:
        torch: The series of the torch side.
        keras: As many series of the Keras side, with the same numbers of layers.
    """
    for sizes in dict.fromkeys(part.sizes for part in torch):
        left = [part for part in torch if part.sizes == sizes]
        right = [part for part in keras if part.sizes == sizes]
        while len(left) > 1 and (best := _most_alike(left, right)):
            yield *best, False
            left.remove(best[0])
            right.remove(best[1])
        is_guess = len(left) > 1
        for one, other in zip(left, right, strict=True):
            yield one, other, is_guess


def _most_alike(torch: Sequence[_Series], keras: Sequence[_Series]) -> tuple[_Series, _Series] | None:
    """Return the two series that have more words in common with each other than with any other; None if there are none.

    Return the torch series first.
    """
    for one in torch:
        other = _best(one, keras)
        if other is not None and _best(other, torch) is one:
            return one, other
    return None


def _best(one: _Series, others: Sequence[_Series]) -> _Series | None:
    scores = [len(_words(one) & _words(other)) for other in others]
    highest = max(scores)
    return others[scores.index(highest)] if highest and scores.count(highest) == 1 else None


_SYNONYMS: Mapping[str, str] = {
    word: meaning
    for meaning, words in {
        "attention": ("attn", "attention", "mha", "msa"),
        "normalization": ("norm", "ln", "bn", "layernorm", "batchnorm", "normalization"),
        "feedforward": ("mlp", "ffn", "ff", "feedforward", "intermediate"),
        "embedding": ("emb", "embed", "embedding", "embeddings"),
        "position": ("pos", "position", "positions"),
    }.items()
    for word in words
}
"""Words that models use for the same thing, with one word for all of them."""


def _words(series: _Series) -> frozenset[str]:
    """Return the words in the paths of the first layers of a series; synonyms become one word."""
    paths = (names.name_of(entry.layer) for member in series.members[:1] for entry in member)
    found: Iterable[str] = [word for path in paths for word in names.words(path) if not word.isdecimal()]
    return frozenset(_SYNONYMS.get(word, word) for word in found)


def _steps(path: str) -> tuple[Step, ...]:
    """Split a path into pairs of a text and the number after it: "layers.0.fc1" into ("layers", 0) and ("fc", 1)."""
    found: list[Step] = []
    for name in re.split(r"[./#]", path):
        if name.isdecimal() and found and found[-1][1] == _UNNUMBERED:
            found[-1] = (found[-1][0], int(name))
            continue
        text = ""
        for word in name.split("_"):
            stem = word.rstrip("0123456789")
            text += stem if not text or not stem else f"_{stem}"
            if number := word[len(stem) :]:
                found.append((f"{text}_" if text and not stem else text, int(number)))
                text = ""
        if text:
            found.append((text, _UNNUMBERED))
    return tuple(found)
