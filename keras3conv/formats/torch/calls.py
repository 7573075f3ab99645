"""Check the calls in the pickle of a torch checkpoint, and return descriptions of what they create.

The pickle of a tensor is a call of a function of torch, by name. Nothing in torch is called here.
"""

from collections.abc import Callable
from typing import Any

from keras3conv.errors import MalformedCheckpoint, quoted
from keras3conv.formats.safe.source import check_shape
from keras3conv.formats.torch.objects import ITEMSIZES, Global, OddTensor, Placeholder, Storage, StoredTensor, is_size
from keras3conv.messages import with_article
from keras3conv.transforms import Shape


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


def _placeholder(function: Any, arguments: Any, where: str) -> Placeholder:
    if not isinstance(function, Global):
        kind = with_article(type(function).__name__)
        raise MalformedCheckpoint(f"{where}: the pickle is damaged: it calls {kind}, not a class or a function")
    if function.name.startswith(("copyreg.", "copy_reg.")):
        function = next((entry for entry in arguments if isinstance(entry, Global)), function)
    return Placeholder(function.name)


def _sizes(values: Any) -> Shape:
    if type(values) not in (tuple, list) or not all(map(is_size, values)):
        raise ValueError(f"{quoted(values)} are not the sizes of a tensor")
    return tuple(values)


def _dtype(value: Any) -> str:
    name = value.name.removeprefix("torch.") if isinstance(value, Global) else ""
    if name not in ITEMSIZES:
        raise ValueError(f"a tensor has the unknown dtype {quoted(name or value)}")
    return name


def _tensor(place: Any, offset: Any, shape: Any, strides: Any, flags: Any = None, dtype: str = "") -> Any:
    if not isinstance(place, Storage) or not is_size(offset):
        raise ValueError(f"{quoted((place, offset))} are not the storage and the offset of a tensor")
    name = dtype or place.dtype
    if name not in ITEMSIZES:
        return OddTensor("quantized, or of another unsupported dtype")
    sizes, steps = _sizes(shape), _sizes(strides)
    check_shape(sizes, "a tensor")
    if len(sizes) != len(steps):
        raise ValueError(f"a tensor has {len(sizes)} sizes, but {len(steps)} strides")
    marks = flags if isinstance(flags, dict) else {}
    return StoredTensor(
        storage=place,
        dtype=name,
        itemsize=ITEMSIZES[name],
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
    return _tensor(place, offset, shape, strides, flags, name) if name in ITEMSIZES else OddTensor(f"of {name}")


def _without_values(dtype: Any, shape: Any, strides: Any, *_: Any) -> Any:
    name = _dtype(dtype)
    sizes, steps = _sizes(shape), _sizes(strides)
    return StoredTensor(storage=None, dtype=name, itemsize=ITEMSIZES[name], shape=sizes, strides=steps)


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, StoredTensor | OddTensor | Placeholder):
        raise ValueError(f"a parameter must contain a tensor, but contains {quoted(data)}")
    return data


_TENSOR_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def _typed(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """Return the tensor that a pickle restores with attributes, or as an instance of a subclass of Tensor.

    The attributes are ignored. For any other class than those of plain tensors, return a placeholder.
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
