"""Describe the objects in the pickle of a torch checkpoint: names, tensors, storages, and placeholders."""

from dataclasses import dataclass, replace
from typing import Any

from keras3conv.errors import MalformedCheckpoint, UnsafeCheckpoint, quoted
from keras3conv.formats.safe.source import check_shape
from keras3conv.transforms import Shape

_MAX_NAME = 500

DANGEROUS = frozenset(
    {"builtins", "code", "ctypes", "importlib", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil", "socket"}
    | {"subprocess", "sys", "__builtin__", "_pickle", "webbrowser"}
)
"""The modules that no legitimate checkpoint refers to.

A pickle that names them is refused, though nothing would run.
"""

_HARMLESS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range"}
    | {"set", "slice", "str", "tuple", "unicode", "xrange"}
)
"""The names of `builtins` that a checkpoint may contain; dicts and sets are loaded, the others become placeholders."""

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
"""The dtype of each storage class; empty for a storage whose tensors name their own dtypes."""

_QUANTIZED = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}
"""The bytes of an element of each quantized storage class; quantized tensors are not read."""

ITEMSIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
"""The bytes of an element by dtype; not taken from numpy, in which bfloat16 and float8 would need ml_dtypes."""


@dataclass(frozen=True)
class Global:
    """A class or function that the pickle names, such as "torch._utils._rebuild_tensor_v2"."""

    name: str


@dataclass(frozen=True)
class Placeholder:
    """An object in a pickle whose class is not loaded; it has no attributes and no items."""

    name: str


@dataclass(frozen=True, eq=False)
class OddKey:
    """A dict key in a pickle that is neither text nor a number; each one is unequal to all others."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Storage:
    """A storage of a torch checkpoint: the values to which one or several tensors refer.

    Attributes:
        key: The name of the storage in the file.
        dtype: The dtype; empty if the tensors name their own dtypes.
        itemsize: The size of an element in bytes; 1 if the tensors name their own dtypes.
        size: The number of bytes.
        offset: The position of the first byte in the storage with this key; not 0 for a part of that storage.
    """

    key: str
    dtype: str
    itemsize: int
    size: int
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor in a checkpoint: its shape, dtype and strides, and its position in a storage.

    Attributes:
        storage: The storage; None for a tensor on the meta device, which has no values.
        dtype: The name of the dtype.
        itemsize: The size of an element in bytes.
        shape: The shape.
        strides: The strides in elements.
        offset: The offset of the first element in the storage, in elements.
        is_conjugate: Whether the tensor is the complex conjugate of the stored values.
        is_negative: Whether the tensor is the negative of the stored values.
    """

    storage: Storage | None
    dtype: str
    itemsize: int
    shape: Shape
    strides: Shape = ()
    offset: int = 0
    is_conjugate: bool = False
    is_negative: bool = False

    @property
    def size(self) -> int:
        """The number of bytes that all elements of the tensor take."""
        return check_shape(self.shape, "a tensor") * self.itemsize

    @property
    def reach(self) -> int:
        """The number of storage elements from the first to the last element of the tensor."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True)
class OddTensor:
    """A tensor that is not a plain array of numbers; `kind` is "sparse", "quantized" or another word for it."""

    kind: str


def named(module: Any, name: Any, where: str) -> Global:
    """Return the description of the class or function that a pickle names, without importing it.

    Raises:
        UnsafeCheckpoint: The name is one that no real checkpoint needs, but an attack may.
        MalformedCheckpoint: The name is not text, or too long.
    """
    if type(module) is not str or type(name) is not str or len(module) + len(name) > _MAX_NAME:
        raise MalformedCheckpoint(
            f"{where}: the pickle names a class whose name is not text, or is too long: {quoted((module, name))}"
        )
    full = f"{module}.{name}"
    is_harmless = module in ("builtins", "__builtin__") and name in _HARMLESS
    if module.partition(".")[0] in DANGEROUS and not is_harmless:
        raise UnsafeCheckpoint(f"reading {where} would run code: it contains {full}")
    return Global(full)


def storage(reference: Any, where: str) -> Storage:
    """Return the storage that the pickle refers to; raise `MalformedCheckpoint` for other objects.

    Args:
        reference: The reference in the pickle: a tuple of "storage", the class, the key, the device and the size.
        where: The name of the file, for messages.
    """
    if type(reference) is not tuple or len(reference) not in (5, 6) or reference[0] not in ("storage", b"storage"):
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: it refers to {quoted(reference)}, which is not the storage of a tensor"
        )
    _, kind, key, _, count, *view = reference
    module, _, name = kind.name.rpartition(".") if isinstance(kind, Global) else ("", "", "")
    if module not in ("torch", "torch.storage", "torch.cuda") or type(key) is not str or not is_size(count):
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: {quoted(reference[1:])} does not describe the storage of a tensor"
        )
    if name not in _STORAGES:
        raise MalformedCheckpoint(f"{where}: the pickle has a storage of the unknown class {quoted(name)}")
    dtype = _STORAGES[name]
    itemsize = ({"": 1} | _QUANTIZED | ITEMSIZES)[dtype]
    found = Storage(key, dtype, itemsize, count * itemsize)
    if not view or view[0] is None:
        return found
    part = view[0]
    if type(part) is not tuple or len(part) != 3 or not is_size(part[1]) or not is_size(part[2]):
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: {quoted(part)} does not describe a part of the storage {quoted(key)}"
        )
    if part[1] + part[2] > count:
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: a part of the tensor storage {quoted(key)} extends beyond its {count:,} "
            "values"
        )
    return replace(found, size=part[2] * itemsize, offset=part[1] * itemsize)


def is_size(value: Any) -> bool:
    """Return whether a value of a pickle is a whole number that can be a size or an offset."""
    return type(value) is int and 0 <= value < 1 << 60
