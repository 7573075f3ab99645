"""Find the torch modules with layers inside that may be one Keras layer of a class without a rule."""

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.probe.weights import is_weight
from keras3conv.rules.library import known_classes


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
    wanted = {_sizes(tensors) for tensors in own if len(tensors) > 1}
    if not wanted:
        return ()
    inside = _tensors_by_module([layer for layer in torch if layer.tensors])
    views = (LayerView(path=path, tensors=tensors) for path, tensors in inside.items())
    return tuple(view for view in views if _sizes(view.tensors) in wanted)


def _sizes(tensors: Iterable[TensorRef]) -> tuple[int, ...]:
    return tuple(sorted(prod(tensor.shape) for tensor in tensors))


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
