"""Layers that correspond one to several: a torch LSTM of two layers, a convolution that Keras has as a separable one.

The rules say which. A row is taken where it is the only one that fits, and fits nothing else; its layers stand together
in the order in which they run, or where no run is known, in which they are defined.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import Evidence, Pair, misfit
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, Side
from keras3conv.planner.evidence.structure import Fits
from keras3conv.rules.applying import may_apply
from keras3conv.rules.library import list_rules
from keras3conv.rules.rule import Rule
from keras3conv.rules.units import numbered

_LONGEST = 8
"""A rule that takes any number of layers is tried with so many."""

_EVIDENCE = (Evidence(kind="shape", detail="the only row of layers that fits"),)


def row_pairs(fits: Fits) -> list[Pair]:
    """The pairs of one layer with several of the other side that nothing else fits."""
    found: dict[tuple[str, str], Pair] = {}
    for rule in list_rules():
        if (rule.torch_count, rule.keras_count) != (1, 1) and not rule.parallel and not rule.between:
            for pair in _fitting(rule, fits):
                found.setdefault((pair.torch, pair.keras), pair)
    uses = Counter(path for pair in found.values() for path in _layers(pair))
    return [pair for pair in found.values() if all(uses[path] == 1 for path in _layers(pair))]


def _layers(pair: Pair) -> Iterator[tuple[str, str]]:
    yield from (("torch", path) for path in pair.torch.split(" + "))
    yield from (("keras", path) for path in pair.keras.split(" + "))


def _fitting(rule: Rule, fits: Fits) -> Iterator[Pair]:
    theirs = list(_rows(fits.keras_layers, rule.keras, rule.keras_count, "keras"))
    for torch in _rows(fits.torch_layers, rule.torch, rule.torch_count, "torch") if theirs else ():
        if not may_apply(rule, torch):
            continue
        for keras in theirs:
            try:
                pair = make_pair(rule, torch, keras, _EVIDENCE)
            except RuleError:  # the configurations, or the number of layers, exclude each other
                continue
            if _is_whole(pair, torch, keras):
                yield pair


def _rows(layers: Sequence[LayerView], kind: str, number: int, side: Side) -> Iterator[LayerView]:
    """The layers of a class, or rows of as many as a rule takes, as one with numbered roles; none shares a part."""
    ordered = [layer for layer in sorted(layers, key=_first_call) if kind in layer.kinds]
    for length in (number,) if number else range(2, _LONGEST + 1):
        for start in range(len(ordered) - length + 1):
            row = ordered[start : start + length]
            yield row[0] if length == 1 else numbered(row, side)


def _first_call(layer: LayerView) -> int:
    return layer.calls[0] if layer.calls else 0


def _is_whole(pair: Pair, torch: LayerView, keras: LayerView) -> bool:
    """Whether every tensor of both has a place, and the shapes fit."""
    ours = {tensor.path: tensor for tensor in torch.tensors}
    theirs = {tensor.path: tensor for tensor in keras.tensors}
    given = {path for mapping in pair.weights for path in mapping.torch}
    made = {path for mapping in pair.weights for path in mapping.keras}
    wanted = {path for path, tensor in theirs.items() if not tensor.is_seed}
    if not (given == set(ours) and made == wanted):
        return False
    return not any(misfit(mapping, ours, theirs) for mapping in pair.weights)


__all__ = ["row_pairs"]
