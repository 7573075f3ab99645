"""Torch layers that run one after the other and are one layer in Keras: a depthwise convolution and a pointwise one."""

from collections.abc import Iterator, Sequence

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import misfit
from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import print_of
from keras3conv.planner.probe.option import Option, whole
from keras3conv.planner.probe.record import TorchRun
from keras3conv.rules.applying import may_apply
from keras3conv.rules.library import list_rules, lookup
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered

_SAME = 1e-9


def row_options(layers: Sequence[LayerView], run: TorchRun, keras: LayerView) -> Iterator[Option]:
    """The rows of torch layers that a rule pairs with one Keras layer, and whose shapes fit.

    Rules that say there is code between the layers are left out: what that computes, nobody looks at.

    Args:
        layers: The torch layers that can be paired.
        run: The run of the torch module.
        keras: The Keras layer.
    """
    counts = {rule.torch_count for rule in list_rules() if rule.torch_count > 1 and rule.keras in keras.kinds}
    for number in sorted(counts):
        for first in layers:
            known = [rule for rule in lookup(first.kinds, keras.kinds, (number, 1)) if _is_of_a_row(rule, number)]
            for row in _rows(first, layers, run, number) if known else ():
                yield from _options(known, row, keras)


def _is_of_a_row(rule: Rule, number: int) -> bool:
    return rule.torch_count == number and not rule.between and not rule.parallel


def _options(known: Sequence[Rule], row: tuple[LayerView, ...], keras: LayerView) -> Iterator[Option]:
    together = numbered(row, "torch")
    sources = {tensor.path: whole(tensor) for tensor in together.tensors}
    for rule in known:
        if all(rule.torch in layer.kinds for layer in row) and may_apply(rule, together):
            mappings = make_pair(rule, together, keras, ()).weights
            if mappings and all(_fits(mapping, together, keras) for mapping in mappings):
                yield Option(kind="layer", layers=row, keras=keras, rule=rule, mappings=mappings, sources=sources)


def _fits(mapping: WeightMapping, torch: LayerView, keras: LayerView) -> bool:
    ours = {tensor.path: tensor for tensor in torch.tensors}
    theirs = {tensor.path: tensor for tensor in keras.tensors}
    known = all(path in ours for path in mapping.torch) and all(path in theirs for path in mapping.keras)
    return known and not misfit(mapping, ours, theirs)


def _rows(first: LayerView, layers: Sequence[LayerView], run: TorchRun, number: int) -> Iterator[tuple[LayerView, ...]]:
    """The rows of so many layers that begin with this one: each is given what the one before it returned."""
    if number == 1:
        yield (first,)
        return
    for layer in layers:
        if layer is not first and _follows(run, first, layer):
            yield from ((first, *rest) for rest in _rows(layer, layers, run, number - 1))


def _follows(run: TorchRun, first: LayerView, second: LayerView) -> bool:
    before, after = run.of(first.path), run.of(second.path)
    if not before or len(before) != len(after):
        return False
    return all(
        bool(one.outputs and other.prints) and other.prints[0].agrees(print_of(one.outputs[0]), _SAME)
        for one, other in zip(before, after, strict=True)
    )
