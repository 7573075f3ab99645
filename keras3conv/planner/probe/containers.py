"""Find the torch modules with layers inside that may be one Keras layer of a class without a rule.

One side may have in one tensor what the other side has in several: the query, key and value of an attention, or the
gates of a recurrent cell.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.probe.layouts import same_sizes
from keras3conv.planner.probe.option import Candidate, whole_tensor
from keras3conv.planner.probe.rows import tensor_candidates
from keras3conv.planner.probe.weights import is_weight
from keras3conv.rules.library import known_classes
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Chain, Concat, Split, Transform
from keras3conv.transforms.combine import each_of

_MOST_PARTS = 4
"""The largest number of equal parts of a tensor: the gates of an LSTM."""

_MOST_LAYERS = 8
"""The largest number of torch layers that are tried as one Keras layer, without a module that contains them."""


def containers_like(torch: Iterable[LayerView], keras: Iterable[LayerView]) -> tuple[LayerView, ...]:
    """Return the torch modules whose tensors have the sizes of the variables of a Keras layer without a rule.

    Such a Keras layer owns all its variables, while the torch module may own some and have the others in layers:

        self.linear = nn.Linear(6, 12, bias=False)
        self.bias = nn.Parameter(torch.zeros(12))

    The view of a module has the tensors of the whole module, each tied tensor once.

    Args:
        torch: The torch layers that can be paired.
        keras: The Keras layers that can be paired.
    """
    known = known_classes()[1]
    own = ([tensor for tensor in layer.tensors if not tensor.is_seed] for layer in keras if not known & {*layer.kinds})
    wanted = {_sizes(tensors): tensors for tensors in own if len(tensors) > 1}
    if not wanted:
        return ()
    inside = _tensors_by_module([layer for layer in torch if layer.tensors])
    views = (LayerView(path=path, tensors=tensors) for path, tensors in inside.items())
    return tuple(view for view in views if any(have_sizes([view], tensors) for tensors in wanted.values()))


def _sizes(tensors: Iterable[TensorRef]) -> tuple[int, ...]:
    return tuple(sorted(prod(tensor.shape) for tensor in tensors))


def have_sizes(layers: Iterable[LayerView], variables: Sequence[TensorRef]) -> bool:
    """Return whether the weights of torch layers have the sizes of these Keras variables, cut or joined if needed."""
    return _parts(_weights(layers), variables) is not None


def consecutive_layers(layers: Sequence[LayerView], variables: Sequence[TensorRef]) -> Iterator[tuple[LayerView, ...]]:
    """Yield the sequences of torch layers that may be one Keras layer with these variables.

    A torch block may have the layers of an attention among its others, without a module for the attention.

    Args:
        layers: The torch layers, in call order.
        variables: The variables of the Keras layer.
    """
    total = sum(prod(tensor.shape) for tensor in variables)
    sizes = [sum(prod(tensor.shape) for tensor in _weights([layer])) for layer in layers]
    for start in range(len(layers)):
        for stop in range(start + 2, min(start + _MOST_LAYERS, len(layers)) + 1):
            if sum(sizes[start:stop]) == total and have_sizes(layers[start:stop], variables):
                yield tuple(layers[start:stop])


def _weights(layers: Iterable[LayerView]) -> list[TensorRef]:
    return [tensor for layer in layers for tensor in layer.tensors if is_weight(tensor)]


def module_candidates(
    layers: tuple[LayerView, ...], keras: LayerView, variables: Sequence[TensorRef]
) -> Iterator[Candidate]:
    """Yield the candidates in which the variables of a Keras layer have the values of all weights of torch layers.

    Args:
        layers: The torch layers, or the view of a module that contains them. The output of the last one is expected.
        keras: The Keras layer.
        variables: The variables of the Keras layer that need values.
    """
    tensors = _weights(layers)
    parts = _parts(tensors, variables)
    if parts is None:
        return
    torch_parts, keras_parts = ({tensor.path: part for tensor, part in one.items()} for one in parts)
    for candidate in tensor_candidates(layers, list(parts[0]), keras, list(parts[1]), "tensors"):
        ends = [(torch_parts[one.torch[0]], keras_parts[one.keras[0]], one.transform) for one in candidate.mappings]
        if not any(first.count > 1 and second.count > 1 for first, second, _ in ends):
            yield replace(
                candidate,
                mappings=tuple(_joined(ends)),
                sources={tensor.path: whole_tensor(tensor) for tensor in tensors},
            )


@dataclass(frozen=True)
class _Part:
    """One of the equal parts of a tensor along an axis; the whole tensor if `count` is 1."""

    tensor: TensorRef
    axis: int = 0
    index: int = 0
    count: int = 1

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of all parts of the tensor along the axis."""
        return (self.tensor.shape[self.axis] // self.count,) * self.count


_Parts = Mapping[TensorRef, _Part]
"""The parts, each by the tensor that it would be."""


def _parts(torch: Sequence[TensorRef], keras: Sequence[TensorRef]) -> tuple[_Parts, _Parts] | None:
    """Divide the tensors of one side that are several tensors of the other side.

    Args:
        torch: The tensors of a torch module.
        keras: The variables of a Keras layer.

    Returns:
        The torch parts and the Keras parts, which have the same sizes; None if there are no such parts.
    """
    divided = _divided(torch, keras, first_axis=True), _divided(keras, torch, first_axis=False)
    shapes = [[tensor.shape for tensor in parts] for parts in divided]
    return divided if same_sizes(*shapes) else None


def _divided(tensors: Sequence[TensorRef], others: Sequence[TensorRef], *, first_axis: bool) -> _Parts:
    """Divide each tensor whose size no tensor of the other side has, if the other side has several of equal parts.

    Args:
        tensors: The tensors.
        others: The tensors of the other side.
        first_axis: Whether the rows are divided, as in torch; else the columns.
    """
    sizes = [prod(tensor.shape) for tensor in others]
    found: dict[TensorRef, _Part] = {}
    for tensor in tensors:
        size, count = prod(tensor.shape), 1
        if size not in sizes:
            fitting = (k for k in range(2, _MOST_PARTS + 1) if size % k == 0 and sizes.count(size // k) >= k)
            count = next(fitting, 1)
        axes = [axis for axis, length in enumerate(tensor.shape) if length % count == 0]
        if count == 1 or not axes:
            found[tensor] = _Part(tensor)
            continue
        stacked = [axis for axis in axes if tensor.shape[axis] == count]
        axis = (stacked or axes)[0 if stacked or first_axis else -1]
        length = tensor.shape[axis] // count
        shape = (*tensor.shape[:axis], length, *tensor.shape[axis + 1 :])
        for index in range(count):
            name = f"[{index * length}:{(index + 1) * length}]"
            part = replace(tensor, path=tensor.path + name, role=tensor.role + name, shape=shape)
            found[part] = _Part(tensor, axis, index, count)
    return found


def _joined(mappings: Iterable[tuple[_Part, _Part, Transform]]) -> Iterator[WeightMapping]:
    """Join the mappings between parts to mappings between tensors.

    Args:
        mappings: For each Keras part the torch part, the Keras part, and the transform. At least one of the two parts
            is a whole tensor.
    """
    groups: dict[str, list[tuple[_Part, _Part, Transform]]] = {}
    for mapping in mappings:
        divided = mapping[0] if mapping[0].count > 1 else mapping[1]
        groups.setdefault(divided.tensor.path, []).append(mapping)
    for group in groups.values():
        group.sort(key=lambda mapping: (mapping[0].index, mapping[1].index))
        torch, keras, transform = group[0]
        each = each_of([entry[2] for entry in group])
        if torch.count > 1:
            transform = Chain(Split(torch.axis, torch.lengths), each)
        elif keras.count > 1:
            transform = Chain(each, Concat(keras.axis, keras.lengths))
        yield WeightMapping(
            torch=tuple(dict.fromkeys(entry[0].tensor.path for entry in group)),
            keras=tuple(dict.fromkeys(entry[1].tensor.path for entry in group)),
            transform=transform,
        )


def _tensors_by_module(layers: Sequence[LayerView]) -> dict[str, tuple[TensorRef, ...]]:
    """Return the weights inside each torch module that contains one of the layers, by the path of the module."""
    found: dict[str, dict[str, TensorRef]] = {}
    paths = {path for layer in layers for path in _parents(layer.path)}
    for layer in layers:
        for path in (layer.path, *_parents(layer.path)) if layer.path in paths else _parents(layer.path):
            tensors = found.setdefault(path, {})
            for tensor in filter(is_weight, layer.tensors):
                tensors.setdefault(tensor.storage or tensor.path, tensor)
    return {path: tuple(tensors.values()) for path, tensors in found.items()}


def _parents(path: str) -> Iterator[str]:
    """Yield the path of each module that contains a module: "block.mlp" and "block" for "block.mlp.fc", then ""."""
    while path:
        path = path.rpartition(".")[0]
        yield path
