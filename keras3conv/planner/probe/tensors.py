"""Make candidates of single torch tensors: every assignment of tensors to Keras variables that their sizes allow."""

from collections.abc import Iterator, Sequence
from itertools import permutations, product

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.probe.layouts import transforms_between
from keras3conv.planner.probe.option import Candidate, Kind, whole_tensor
from keras3conv.rules.neutral import may_be_same
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Skip


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
        mapping = WeightMapping(torch=(table.path,), keras=(variable.path,), transform=Skip(0, more))
        yield Candidate(
            kind="tensors",
            layers=(layer,),
            keras=keras,
            rule=None,
            mappings=(mapping,),
            sources={table.path: whole_tensor(table)},
        )


def tensor_candidates(
    layers: tuple[LayerView, ...], own: Sequence[TensorRef], keras: LayerView, wanted: Sequence[TensorRef], kind: Kind
) -> Iterator[Candidate]:
    """Yield a candidate for every assignment of torch tensors to Keras variables, and for every possible transform.

    Args:
        layers: The torch layers to record in the candidates.
        own: The torch tensors to assign.
        keras: The Keras layer.
        wanted: The variables of the Keras layer that need values, as many as `own`.
        kind: The kind of the candidates.
    """
    for order in permutations(own):
        if not all(may_be_same(torch.role, to.role, torch.shape) for torch, to in zip(order, wanted, strict=True)):
            continue
        ways = [
            list(transforms_between(torch.shape, tensor.shape)) for torch, tensor in zip(order, wanted, strict=True)
        ]
        for transforms in product(*ways):
            mappings = tuple(
                WeightMapping(torch=(torch.path,), keras=(tensor.path,), transform=transform)
                for torch, tensor, transform in zip(order, wanted, transforms, strict=True)
            )
            sources = {tensor.path: whole_tensor(tensor) for tensor in own}
            yield Candidate(kind=kind, layers=layers, keras=keras, rule=None, mappings=mappings, sources=sources)
