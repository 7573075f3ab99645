"""Pair a tensor that stacks the weights of several layers, such as all experts, with the tensors of these layers.

The first axis of the tensor has one index for each layer: (experts, inputs, outputs). Slice 0 is paired with
"experts.0", slice 1 with "experts.1", and so on. The models did not run, so this order is not confirmed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from keras3conv.alignment.binding import pair_of_tensors
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.planner.evidence.series import in_series
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Stack, Transform, Unstack

_EVIDENCE = Evidence(kind="definition order", detail="the number in a layer's name is its index on the first axis")

_ROLES = ("weight", "kernel", "bias")

Members = tuple[TensorRef, ...]
"""The tensors of the layers that correspond to the slices of one tensor, by the number of the layer."""


def stacked_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pairs of a tensor of one side with the tensors of "experts.0", "experts.1", ... of the other side.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        pairs: The pairs made so far.
    """
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    for packed_view, view in ((torch, keras), (keras, torch)):
        series = _series(view, placed)
        wholes = [tensor for tensor in _free(packed_view, placed) if any(_fits(tensor, one) for one in series)]
        for shape in dict.fromkeys(tensor.shape for tensor in wholes):
            packed = [tensor for tensor in wholes if tensor.shape == shape]
            parts = [members for members in series if _fits(packed[0], members)]
            if len(packed) == len(parts):
                yield from _in_order(packed, parts, view.side)


def _free(view: ModelView, placed: set[str]) -> Iterator[TensorRef]:
    for layer in view.layers:
        yield from (tensor for tensor in layer.tensors if tensor.path not in placed and not tensor.is_seed)


def _series(view: ModelView, placed: set[str]) -> list[Members]:
    """Return each series of tensors whose layers are numbered from 0 or 1 on: the kernels of "experts/0", "experts/1".

    Args:
        view: The model to search.
        placed: The paths of the tensors that are in a pair.
    """
    families: dict[tuple[str, str], dict[int, TensorRef]] = {}
    for tensor in _free(view, placed):
        layer = tensor.path.removesuffix(tensor.role)
        for found in re.finditer(r"\d+", layer) if tensor.role in _ROLES else ():
            name = f"{layer[: found.start()]}#{layer[found.end() :]}"
            families.setdefault((name, tensor.role), {})[int(found[0])] = tensor
    without_gap = (of for of in families.values() if min(of) in (0, 1) and max(of) - min(of) == len(of) - 1)
    return [tuple(of[number] for number in sorted(of)) for of in without_gap if len(of) > 1]


def _fits(packed: TensorRef, members: Members) -> bool:
    """Return whether the slices of a tensor along its first axis have the shapes of the weights or biases of layers.

    A slice may be the transpose of a weight. Square weights do not fit, because their shapes do not show the transpose.

    Args:
        packed: The tensor whose slices may be the tensors of the layers.
        members: The weights or the biases of the layers, in the order of the layers' numbers.
    """
    count, *rest = packed.shape or (0,)
    first = members[0].shape
    if len(members) != count or any(tensor.shape != first for tensor in members):
        return False
    return tuple(rest) == first if len(first) == 1 else sorted(rest) == sorted(first) and rest[0] != rest[1]


def _in_order(packed: Sequence[TensorRef], parts: Sequence[Members], side: Side) -> Iterator[Pair]:
    """Yield the pair of each packed tensor with the tensors that it stacks: by similar names, then by their order.

    Args:
        packed: Tensors of one side that stack the weights of several layers.
        parts: As many series of tensors of the other side; a series has the tensors of "experts.0", "experts.1", ....
        side: The side of the series: "torch" or "keras".
    """
    wholes = {tensor.path: tensor for tensor in packed}
    members = {of[0].path: of for of in parts}
    views = [LayerView(path=path) for path in wholes], [LayerView(path=path) for path in members]
    for match in in_series(*(views if side == "keras" else views[::-1])):
        whole, part = (match.torch, match.keras) if side == "keras" else (match.keras, match.torch)
        yield _pair(wholes[whole.path], members[part.path], side)


def _pair(packed: TensorRef, members: Members, side: Side) -> Pair:
    number, paths = len(members), tuple(tensor.path for tensor in members)
    turned = (Each(Axes("o i -> i o")),) if packed.shape[1:] != members[0].shape else ()
    steps: tuple[Transform, ...] = (Unstack(0, number), *turned) if side == "keras" else (*turned, Stack(0, number))
    if side == "keras":
        mapping = WeightMapping(torch=(packed.path,), keras=paths, transform=Chain(*steps))
    else:
        mapping = WeightMapping(torch=paths, keras=(packed.path,), transform=Chain(*steps))
    return pair_of_tensors([mapping], [_EVIDENCE])
