"""Write a checkpoint for `torch.load` with `weights_only=True`, one tensor at a time.

`torch.save` needs all tensors in memory at once, and writes the file name into the archive. This writer first writes
the pickle, which needs only shapes and dtypes, and then the values. The same tensors always give the same bytes.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras3conv.errors import FileError, MissingExtra
from keras3conv.formats.safe.source import Source, check_shape, dtype_named
from keras3conv.formats.safe.streaming import Extent, Layout, size_of
from keras3conv.formats.safe.zip import scan
from keras3conv.formats.torch.container import Member, write_container
from keras3conv.model.views import TensorRef

_CLASSIC = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}


class _Storage:
    """A storage (the values that tensors refer to) in the pickle, without its values."""

    def __init__(self, key: str, tensor: TensorRef) -> None:
        self.key, self.tensor = key, tensor


class _Tensor:
    """A tensor for the pickle, where it becomes a call of torch's function that rebuilds a tensor."""

    def __init__(self, storage: _Storage, tensor: TensorRef) -> None:
        self.storage, self.tensor = storage, tensor

    def __reduce__(self) -> tuple[Any, ...]:
        import torch

        shape, strides = self.tensor.shape, [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * max(size, 1))
        arguments: tuple[Any, ...] = (self.storage, 0, shape, tuple(strides[: len(shape)]), False, OrderedDict())
        if self.tensor.dtype in _CLASSIC:
            return torch._utils._rebuild_tensor_v2, arguments
        return torch._utils._rebuild_tensor_v3, (*arguments, getattr(torch, self.tensor.dtype))


class _Pickler(pickle.Pickler):
    """Pickles storages as references, because their values are separate members of the archive."""

    def persistent_id(self, obj: Any) -> Any:
        """Return the reference to a storage; None for other objects."""
        import torch

        if not isinstance(obj, _Storage):
            return None
        count = check_shape(obj.tensor.shape, obj.tensor.path)
        if obj.tensor.dtype in _CLASSIC:
            return "storage", getattr(torch, _CLASSIC[obj.tensor.dtype]), obj.key, "cpu", count
        size = count * dtype_named(obj.tensor.dtype).itemsize
        return "storage", torch.storage.UntypedStorage, obj.key, "cpu", size


def extents(source: Source) -> dict[str, Extent]:
    """Return the byte range of each storage's values in a file, by the name of the archive member."""
    return {member.name: Extent(member.start, member.size) for member in scan(source).values()}


def lay_out(path: Path, tensors: Sequence[TensorRef]) -> Layout:
    """Write a checkpoint without its values, and return the byte ranges for them.

    Args:
        path: The file to write.
        tensors: The tensors of the state dict; tensors with the same `storage` are tied.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("writing a torch checkpoint", "torch") from None
    storages: dict[str, _Storage] = {}
    state: OrderedDict[str, _Tensor] = OrderedDict()
    for tensor in tensors:
        if tensor.dtype not in _CLASSIC and not hasattr(torch, tensor.dtype):
            raise FileError(f"{tensor.path} has the dtype {tensor.dtype}, which this version of torch does not have")
        shared = f"{tensor.storage} {tensor.shape}" if tensor.storage else f"\0{tensor.path}"
        storage = storages.setdefault(shared, _Storage(str(len(storages)), tensor))
        state[tensor.path] = _Tensor(storage, tensor)
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(state)
    members = [Member("data.pkl", buffer.getvalue()), Member("byteorder", b"little")]
    members += [
        Member(f"data/{storage.key}", size_of(storage.tensor), storage.tensor.path) for storage in storages.values()
    ]
    return write_container(path, [*members, Member("version", b"3\n")])
