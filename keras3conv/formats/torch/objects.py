"""Describe the objects in the pickle of a torch checkpoint: tensors, storages, and placeholders for all others.

The pickle of a tensor is a call of a function of torch, by name. The functions here take the arguments of these calls,
check them, and return descriptions; they call nothing in torch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.errors import MalformedCheckpoint, UnsafeCheckpoint, quoted
from keras3conv.formats.safe.source import check_shape
from keras3conv.messages import with_article
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

_SIZES = {
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


def create(kind: Any, arguments: Any, where: str) -> Any:
    """Return a dict for a new object of a dict class in a pickle, and a `Placeholder` for any other class.

    Args:
        kind: The class that the pickle names.
        arguments: The arguments with which the pickle creates the object.
        where: The name of the file, for messages.
    """
    if not isinstance(kind, Global) or kind in _DICTS or type(arguments) is not tuple:
        return call(kind, arguments, where)
    return _placeholder(kind, arguments, where)


def call(function: Any, arguments: Any, where: str) -> Any:
    """Return the tensor description or container that a call in a pickle creates; else a `Placeholder`.

    Args:
        function: The class or function that the pickle names.
        arguments: The arguments of the call.
        where: The name of the file, for messages.
    """
    if type(arguments) is not tuple:
        raise MalformedCheckpoint(f"{where}: the pickle is damaged: a call in it has no arguments")
    known = _CALLS.get(function.name) if isinstance(function, Global) else None
    if known is None:
        return _placeholder(function, arguments, where)
    try:
        return known(*arguments)
    except (TypeError, ValueError, OverflowError, MalformedCheckpoint) as error:
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: it calls {function.name} with wrong arguments: {error}"
        ) from None


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
    if module not in ("torch", "torch.storage", "torch.cuda") or type(key) is not str or not _is_size(count):
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: {quoted(reference[1:])} does not describe the storage of a tensor"
        )
    if name not in _STORAGES:
        raise MalformedCheckpoint(f"{where}: the pickle has a storage of the unknown class {quoted(name)}")
    dtype = _STORAGES[name]
    itemsize = ({"": 1} | _QUANTIZED | _SIZES)[dtype]
    found = Storage(key, dtype, itemsize, count * itemsize)
    if not view or view[0] is None:
        return found
    part = view[0]
    if type(part) is not tuple or len(part) != 3 or not _is_size(part[1]) or not _is_size(part[2]):
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: {quoted(part)} does not describe a part of the storage {quoted(key)}"
        )
    if part[1] + part[2] > count:
        raise MalformedCheckpoint(
            f"{where}: the pickle is damaged: a part of the tensor storage {quoted(key)} extends beyond its {count:,} "
            "values"
        )
    return replace(found, size=part[2] * itemsize, offset=part[1] * itemsize)


def _placeholder(function: Any, arguments: Any, where: str) -> Placeholder:
    if not isinstance(function, Global):
        kind = with_article(type(function).__name__)
        raise MalformedCheckpoint(f"{where}: the pickle is damaged: it calls {kind}, not a class or a function")
    if function.name.startswith("copyreg.") or function.name.startswith("copy_reg."):
        function = next((entry for entry in arguments if isinstance(entry, Global)), function)
    return Placeholder(function.name)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def _sizes(values: Any) -> Shape:
    if type(values) not in (tuple, list) or not all(map(_is_size, values)):
        raise ValueError(f"{quoted(values)} are not the sizes of a tensor")
    return tuple(values)


def _dtype(value: Any) -> str:
    name = value.name.removeprefix("torch.") if isinstance(value, Global) else ""
    if name not in _SIZES:
        raise ValueError(f"a tensor has the unknown dtype {quoted(name or value)}")
    return name


def _tensor(place: Any, offset: Any, shape: Any, strides: Any, flags: Any = None, dtype: str = "") -> Any:
    if not isinstance(place, Storage) or not _is_size(offset):
        raise ValueError(f"{quoted((place, offset))} are not the storage and the offset of a tensor")
    name = dtype or place.dtype
    if name not in _SIZES:
        return OddTensor("quantized, or of another unsupported dtype")
    sizes, steps = _sizes(shape), _sizes(strides)
    check_shape(sizes, "a tensor")
    if len(sizes) != len(steps):
        raise ValueError(f"a tensor has {len(sizes)} sizes, but {len(steps)} strides")
    marks = flags if isinstance(flags, dict) else {}
    return StoredTensor(
        storage=place,
        dtype=name,
        itemsize=_SIZES[name],
        shape=sizes,
        strides=steps,
        offset=offset,
        is_conjugate=marks.get("conj") is True,
        is_negative=marks.get("neg") is True,
    )


def _tensor_v1(place: Any, offset: Any, shape: Any, strides: Any) -> Any:
    return _tensor(place, offset, shape, strides)


def _tensor_v2(
    place: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, flags: Any = None
) -> Any:
    return _tensor(place, offset, shape, strides, flags)


def _tensor_v3(
    place: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, dtype: Any, flags: Any = None
) -> Any:
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else ""
    return _tensor(place, offset, shape, strides, flags, _dtype(dtype)) if name in _SIZES else OddTensor(f"of {name}")


def _without_values(dtype: Any, shape: Any, strides: Any, *_: Any) -> Any:
    name = _dtype(dtype)
    return StoredTensor(storage=None, dtype=name, itemsize=_SIZES[name], shape=_sizes(shape), strides=_sizes(strides))


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, StoredTensor | OddTensor | Placeholder):
        raise ValueError(f"a parameter must contain a tensor, but contains {quoted(data)}")
    return data


_TENSOR_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def _typed(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """Return the tensor that a pickle restores with attributes, or as an instance of a subclass of Tensor.

    Args:
        function: The function that rebuilds a plain tensor.
        kind: The class of the tensor; for any other class than those of plain tensors, a placeholder is returned.
        arguments: The arguments of `function`.
        _: The attributes of the tensor, which are ignored.
    """
    if not isinstance(kind, Global) or not isinstance(function, Global):
        raise ValueError(f"a tensor is rebuilt from {quoted((function, kind))}, which are not a function and a class")
    if kind.name not in _TENSOR_TYPES or not function.name.startswith("torch._utils._rebuild_"):
        return Placeholder(kind.name)
    return call(function, arguments, "a tensor")


def _dict(*arguments: Any) -> dict[Any, Any]:
    pairs = next((entry for entry in arguments if isinstance(entry, list | dict)), [])
    if isinstance(pairs, dict):
        return dict(pairs)
    if not all(type(pair) in (tuple, list) and len(pair) == 2 and type(pair[0]) is str for pair in pairs):
        raise ValueError("a dict is built from items that are not pairs of a text and a value")
    return {key: value for key, value in pairs}  # noqa: C416  # the keys were checked to be text


def _encoded(text: Any, encoding: Any = "utf-8") -> Any:
    """Return bytes from a text and its encoding; pickle protocol 2 stores bytes in this form."""
    if encoding not in ("latin1", "latin-1") or type(text) is not str:
        return Placeholder("_codecs.encode")
    return text.encode("latin-1")


def _odd(kind: str) -> Callable[..., OddTensor]:
    return lambda *_: OddTensor(kind)


_DICTS = {Global("collections.OrderedDict"), Global("collections.defaultdict"), Global("collections.Counter")}
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor_v1,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_values,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type": _typed,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch._utils._rebuild_sparse_tensor": _odd("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _odd("sparse"),
    "torch._utils._rebuild_qtensor": _odd("quantized"),
    "torch._utils._rebuild_nested_tensor": _odd("nested"),
    "torch._utils._rebuild_device_tensor_from_numpy": _odd("of a device that torch saves as numpy arrays"),
    "torch._utils._rebuild_wrapper_subclass": _odd("of a subclass of torch.Tensor"),
    "torch.Size": lambda sizes=(): _sizes(sizes),
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _dict,
    "collections.Counter": _dict,
    "builtins.dict": _dict,
    "__builtin__.dict": _dict,
    "builtins.set": lambda values=(): list(values),
    "__builtin__.set": lambda values=(): list(values),
    "_codecs.encode": _encoded,
}
"""The functions, named in a pickle, that create a container or a tensor; every other call becomes a placeholder."""
