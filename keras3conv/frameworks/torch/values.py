"""Between numpy and the tensors of torch: the same dtype, and where it can be the same memory."""

import numpy as np
import torch

from keras3conv.transforms import Array

_EXTENSION_DTYPES = {
    torch.bfloat16: ("bfloat16", torch.int16),
    torch.float8_e4m3fn: ("float8_e4m3fn", torch.int8),
    torch.float8_e5m2: ("float8_e5m2", torch.int8),
}


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor as an array of the same dtype, sharing memory where it can."""
    tensor = tensor.detach().cpu()
    if tensor.dtype in _EXTENSION_DTYPES:
        import ml_dtypes

        name, storage = _EXTENSION_DTYPES[tensor.dtype]
        bits: Array = tensor.view(storage).numpy()
        return bits.view(getattr(ml_dtypes, name))
    array: Array = tensor.resolve_conj().resolve_neg().numpy()
    return array


def to_torch(array: Array) -> torch.Tensor:
    """An array as a tensor of the same dtype, sharing memory where it can."""
    if not array.flags.writeable:
        array = array.copy()
    for dtype, (name, storage) in _EXTENSION_DTYPES.items():
        if array.dtype.name == name:
            integers = np.asarray(array, order="C").view(np.dtype(str(storage).removeprefix("torch.")))
            return torch.from_numpy(integers).view(dtype)
    return torch.from_numpy(array)
