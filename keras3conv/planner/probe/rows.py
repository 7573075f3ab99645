"""Make candidates of single torch tensors, and of torch layers in sequence that are one Keras layer (SeparableConv)."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import misfit
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import fingerprint_of
from keras3conv.planner.probe.layouts import likely_first
from keras3conv.planner.probe.nearness import name_distance
from keras3conv.planner.probe.option import Candidate, Kind, variable_candidate, whole_tensor
from keras3conv.planner.probe.record import TorchRun
from keras3conv.rules.applying import may_apply
from keras3conv.rules.library import list_rules, lookup
from keras3conv.rules.neutral import may_be_same
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered
from keras3conv.transforms import Skip

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


def last_rows(layer: LayerView, table: TensorRef, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
    """Yield as candidate the last rows of a torch position table that has more rows than a Keras variable.

    Some torch position tables begin with rows that belong to no position.

    Args:
        layer: The torch layer that owns the table.
        table: The torch tensor.
        keras: The Keras layer.
        variable: A variable of the Keras layer.
    """
    more = table.shape[0] - variable.shape[0] if table.shape and variable.shape else 0
    if more > 0 and len(table.shape) > 1 and table.shape[1:] == variable.shape[1:]:
        yield variable_candidate([(layer, table)], keras, variable, Skip(0, more), kind="tensors")


def tensor_candidates(
    layers: tuple[LayerView, ...],
    torch_tensors: Sequence[TensorRef],
    keras: LayerView,
    variables: Sequence[TensorRef],
    kind: Kind,
) -> Iterator[Candidate]:
    """Yield a candidate for every assignment of torch tensors to Keras variables, and for every possible transform.

    Args:
        layers: The torch layers to record in the candidates.
        torch_tensors: The torch tensors to assign.
        keras: The Keras layer.
        variables: The variables of the Keras layer that need values, as many as `torch_tensors`.
        kind: The kind of the candidates.
    """
    for order in _orders(torch_tensors, variables):
        ways = [likely_first(torch, tensor.shape) for torch, tensor in zip(order, variables, strict=True)]
        for transforms in product(*ways):
            mappings = tuple(
                WeightMapping(torch=(torch.path,), keras=(tensor.path,), transform=transform)
                for torch, tensor, transform in zip(order, variables, transforms, strict=True)
            )
            sources = {tensor.path: whole_tensor(tensor) for tensor in torch_tensors}
            yield Candidate(kind=kind, layers=layers, keras=keras, rule=None, mappings=mappings, sources=sources)


def _orders(torch_tensors: Sequence[TensorRef], variables: Sequence[TensorRef]) -> Iterator[tuple[TensorRef, ...]]:
    """Yield the orders of torch tensors in which each has the size of its Keras variable, similar names first."""
    if not variables:
        yield ()
        return
    first, *others = variables
    fitting = [
        tensor
        for tensor in torch_tensors
        if prod(tensor.shape) == prod(first.shape) and may_be_same(tensor.role, first.role, tensor.shape)
    ]
    for tensor in sorted(fitting, key=lambda tensor: name_distance(tensor.path, first.path)):
        rest = [other for other in torch_tensors if other is not tensor]
        yield from ((tensor, *order) for order in _orders(rest, others))
