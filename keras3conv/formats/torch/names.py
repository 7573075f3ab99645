"""Group the keys of a state dict into layers, by the part before the last dot."""

from collections.abc import Iterable
from functools import lru_cache

from keras3conv.model.views import LayerView, TensorRef, made

_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


def layers_of(tensors: Iterable[TensorRef]) -> tuple[LayerView, ...]:
    """Return a layer for each path before the last dot of a key: "conv1" for "conv1.weight" and "conv1.bias".

    The layers are in the order of their first tensors. If the tensors are sorted by name, as `safetensors.torch` saves
    them, this is not the order of the model.
    """
    owned: dict[str, list[TensorRef]] = {}
    last: dict[str, str] = {}
    is_sorted = True
    for tensor in tensors:
        is_sorted = is_sorted and last.get(tensor.dtype, "") <= tensor.path
        last[tensor.dtype] = tensor.path
        owner = tensor.path.rpartition(".")[0]
        if owner in owned:
            owned[owner].append(tensor)
        else:
            owned[owner] = [tensor]
    in_order = not is_sorted or len(owned) < 2
    return tuple(
        [
            made(LayerView, {"path": path, "tensors": tuple(group), "is_ordered": in_order})
            for path, group in owned.items()
        ]
    )


@lru_cache(4096)  # a file may have 100,000 tensors with the same few names
def is_trainable(role: str, dtype: str = "float32") -> bool:
    """Return True for parameters, by name and dtype; False for buffers, such as "running_mean", and for integers.

    Args:
        role: The name of the tensor in its layer.
        dtype: The name of its dtype.
    """
    return role not in _BUFFERS and not dtype.startswith(("int32", "int64", "bool"))
