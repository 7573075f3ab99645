"""Find candidates that combine several torch layers in sequence to one Keras layer, such as a separable convolution."""

from collections.abc import Iterator, Sequence

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import misfit
from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import fingerprint_of
from keras3conv.planner.probe.option import Candidate, whole_tensor
from keras3conv.planner.probe.record import TorchRun
from keras3conv.rules.applying import may_apply
from keras3conv.rules.library import list_rules, lookup
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered

_SAME_LIMIT = 1e-9


def sequence_candidates(
    starts: Sequence[LayerView], layers: Sequence[LayerView], run: TorchRun, keras: LayerView
) -> Iterator[Candidate]:
    """Yield as candidates the sequences of torch layers that a rule pairs with one Keras layer, if the shapes fit.

    Rules with code between the torch layers are not used: no recorded output includes the effect of that code.

    Args:
        starts: The torch layers that a sequence may start with.
        layers: The torch layers that can be paired.
        run: The recorded torch run.
        keras: The Keras layer.
    """
    lengths = {rule.torch_count for rule in list_rules() if rule.torch_count > 1 and rule.keras in keras.kinds}
    for length in sorted(lengths):
        for first in starts:
            known = [rule for rule in lookup(first.kinds, keras.kinds, (length, 1)) if _is_sequence(rule, length)]
            for sequence in _sequences(first, layers, run, length) if known else ():
                yield from _candidates(known, sequence, keras)


def _is_sequence(rule: Rule, length: int) -> bool:
    return rule.torch_count == length and not rule.between and not rule.parallel


def _candidates(known: Sequence[Rule], sequence: tuple[LayerView, ...], keras: LayerView) -> Iterator[Candidate]:
    combined = numbered(sequence, "torch")
    sources = {tensor.path: whole_tensor(tensor) for tensor in combined.tensors}
    for rule in known:
        if all(rule.torch in layer.kinds for layer in sequence) and may_apply(rule, combined):
            mappings = make_pair(rule, combined, keras, ()).weights
            if mappings and all(_fits(mapping, combined, keras) for mapping in mappings):
                yield Candidate(
                    kind="layer", layers=sequence, keras=keras, rule=rule, mappings=mappings, sources=sources
                )


def _fits(mapping: WeightMapping, torch: LayerView, keras: LayerView) -> bool:
    torch_tensors = {tensor.path: tensor for tensor in torch.tensors}
    keras_tensors = {tensor.path: tensor for tensor in keras.tensors}
    exist = all(path in torch_tensors for path in mapping.torch) and all(
        path in keras_tensors for path in mapping.keras
    )
    return exist and not misfit(mapping, torch_tensors, keras_tensors)


def _sequences(
    first: LayerView, layers: Sequence[LayerView], run: TorchRun, length: int
) -> Iterator[tuple[LayerView, ...]]:
    """Yield the sequences of torch layers, from `first` on, in which each layer receives its predecessor's output."""
    if length == 1:
        yield (first,)
        return
    for layer in layers:
        if layer is not first and _follows(run, first, layer):
            yield from ((first, *rest) for rest in _sequences(layer, layers, run, length - 1))


def _follows(run: TorchRun, first: LayerView, second: LayerView) -> bool:
    before, after = run.calls_of(first.path), run.calls_of(second.path)
    if not before or len(before) != len(after):
        return False
    return all(
        bool(one.outputs and other.inputs) and other.inputs[0].agrees(fingerprint_of(one.outputs[0]), _SAME_LIMIT)
        for one, other in zip(before, after, strict=True)
    )
