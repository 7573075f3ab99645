"""Write a checkpoint for `torch.load` with `weights_only=True`, one tensor at a time.

`torch.save` needs all tensors in memory at once, and writes the file name into the archive. This writer first writes
the pickle, which needs only shapes and dtypes, and then the values. The same tensors always give the same bytes.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import FileError, MissingExtra
from keras3conv.formats.safe.source import check_shape, dtype_named
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import contiguous

_ALIGNMENT = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PREFIX = "archive"
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
    """A storage in the pickle, without values."""

    def __init__(self, key: str, tensor: TensorRef) -> None:
        self.key, self.tensor = key, tensor


class _Tensor:
    """A tensor in the pickle, which is pickled as the call with which torch rebuilds a tensor."""

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


def write(path: Path, tensors: Sequence[TensorRef], read: Reader) -> None:
    """Write a state dict; tensors with an equal `storage` stay tied."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("writing a torch checkpoint", "torch", "torch") from None
    storages: dict[str, _Storage] = {}
    state: OrderedDict[str, _Tensor] = OrderedDict()
    for tensor in tensors:
        if tensor.dtype not in _CLASSIC and not hasattr(torch, tensor.dtype):
            raise FileError(f"{tensor.path}: torch has no dtype {tensor.dtype}")
        shared = f"{tensor.storage} {tensor.shape}" if tensor.storage else f"\0{tensor.path}"
        storage = storages.setdefault(shared, _Storage(str(len(storages)), tensor))
        state[tensor.path] = _Tensor(storage, tensor)
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _add(archive, "data.pkl", buffer.getvalue())
        _add(archive, "byteorder", b"little")
        for storage in storages.values():
            array = contiguous(read(storage.tensor.path))
            _add(archive, f"data/{storage.key}", array.reshape(-1).view(np.uint8).data)
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    """Add a member whose data starts at a multiple of 64 bytes, so that readers can memory-map it."""
    info = zipfile.ZipInfo(f"{_PREFIX}/{name}", _EPOCH)
    start = archive.start_dir + 30 + len(info.filename) + 4
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    info.file_size = len(data)
    archive.writestr(info, data)
