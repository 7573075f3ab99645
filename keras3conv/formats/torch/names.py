"""State-dict keys as layers: what stands before the last dot owns what stands after it."""

from collections.abc import Iterable

from keras3conv.model.views import LayerView, TensorRef

_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


def layers_of(tensors: Iterable[TensorRef]) -> tuple[LayerView, ...]:
    """One layer for every prefix of the keys, in the order in which they first appear."""
    owned: dict[str, list[TensorRef]] = {}
    for tensor in tensors:
        owned.setdefault(tensor.path.rpartition(".")[0], []).append(tensor)
    return tuple(LayerView(path=path, tensors=tuple(group)) for path, group in owned.items())


def is_trainable(role: str) -> bool:
    """Whether an optimiser would change a tensor with this role; the buffers of normalisation layers are known."""
    return role not in _BUFFERS
