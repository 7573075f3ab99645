"""Compute weights that a torch checkpoint stores as several tensors: weight norm and spectral norm.

For example, "conv.weight_g" and "conv.weight_v" become one tensor "conv.weight" in the view of the checkpoint, as in a
live module. The stored tensors are recognized by their shapes and by their names, which `torch.nn.utils` or
`torch.nn.utils.parametrizations` gives to them. Tensors that only have similar names are unchanged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from keras3conv.errors import MalformedCheckpoint
from keras3conv.formats.torch.names import layers_of
from keras3conv.model.views import ModelView, Reader, TensorRef
from keras3conv.model.wrappers import common_prefix
from keras3conv.transforms import Array

_WEIGHT_NORM = (("parametrizations.{}.original0", "parametrizations.{}.original1"), ("{}_g", "{}_v"))
_SPECTRAL_NORM = (
    ("parametrizations.{}.original", "parametrizations.{}.0._u", "parametrizations.{}.0._v"),
    ("{}_orig", "{}_u", "{}_v"),
)

_FIRST = tuple(patterns[0] for patterns in (*_WEIGHT_NORM, *_SPECTRAL_NORM))
_ENDS = tuple(pattern.partition("{}")[2] for pattern in _FIRST)
"""The suffix of the name of the first stored tensor, for each kind of computed weight."""


@dataclass(frozen=True)
class Parts:
    """A weight that is stored as several tensors.

    Attributes:
        path: The name of the weight.
        names: The names of the stored tensors: magnitude and direction (weight norm), or the unnormalized weight and
            the vectors u and v (spectral norm).
        tensor: The stored tensor with the shape and dtype of the weight.
    """

    path: str
    names: tuple[str, ...]
    tensor: TensorRef


def joined(view: ModelView, planned: ModelView | None = None) -> ModelView:
    """Return a view of a checkpoint that has one tensor for each weight that is stored as several tensors.

    Args:
        view: The view of the stored tensors.
        planned: The tensors in a plan; a weight that the plan has as several tensors is not joined.
    """
    if not any(tensor.path.endswith(_ENDS) for tensor in view.tensors()):
        return view
    tensors = {tensor.path: tensor for tensor in view.tensors()}
    apart = {tensor.path for tensor in planned.tensors()} if planned is not None else set()
    prefix = common_prefix(tensors, apart) if apart else ""
    found = {
        parts.path: parts
        for parts in _found(tensors)
        if not apart.issuperset(name.removeprefix(prefix) for name in parts.names)
    }
    if not found:
        return view
    weight_of = {name: parts for parts in found.values() for name in parts.names}
    kept: dict[str, TensorRef] = {}
    for path, tensor in tensors.items():
        if path in weight_of:
            weight = _weight(weight_of[path])
            kept.setdefault(weight.path, weight)
        else:
            kept[path] = tensor
    return replace(view, layers=layers_of(kept.values()), reader=_reader(view.reader, found))


def vectors(view: ModelView) -> tuple[str, ...]:
    """Return the paths of the vectors u and v of every spectral norm, which torch does not train.

    Args:
        view: The view of the stored tensors, of a checkpoint or of a live module.
    """
    found = _found({tensor.path: tensor for tensor in view.tensors()})
    return tuple(name for parts in found for name in parts.names[1:] if len(parts.names) > 2)


def _found(tensors: Mapping[str, TensorRef]) -> Iterator[Parts]:
    ends: dict[str, list[str]] = {}
    for path in tensors:
        if path.endswith(_ENDS):
            for pattern, end in zip(_FIRST, _ENDS, strict=True):
                if path.endswith(end):
                    ends.setdefault(pattern, []).append(path)
    for kinds, is_whole in ((_WEIGHT_NORM, _is_weight_norm), (_SPECTRAL_NORM, _is_spectral_norm)):
        for patterns in kinds:
            for path in ends.get(patterns[0], ()):
                owner, name = _named(path, patterns[0])
                names = tuple(f"{owner}{pattern.format(name)}" for pattern in patterns)
                whole = bool(name) and f"{owner}{name}" not in tensors and all(part in tensors for part in names)
                if whole and is_whole(*(tensors[part] for part in names)):
                    tensor = tensors[names[1] if kinds is _WEIGHT_NORM else names[0]]
                    yield Parts(f"{owner}{name}", names, tensor)


def _named(path: str, pattern: str) -> tuple[str, str]:
    """Return the prefix of the layer ("block.conv.") and the name of the weight that a stored tensor belongs to.

    Args:
        path: The path of the stored tensor.
        pattern: The form of its name, with "{}" for the name of the weight, such as "{}_g".

    Returns:
        The prefix and the name; two empty texts if the path does not have this form.
    """
    before, after = pattern.split("{}")
    if not path.endswith(after):
        return "", ""
    inner = path.removesuffix(after)
    owner, found, name = inner.rpartition(before) if before else ("", "", inner)
    if before and (not found or (owner and not owner.endswith("."))):
        return "", ""
    if not before:
        owner, dot, name = inner.rpartition(".")
        owner += dot
    return owner, ("" if "." in name else name)


def _is_weight_norm(length: TensorRef, direction: TensorRef) -> bool:
    """Return True if the shape of a magnitude fits a direction: it is a scalar, or has one number per index of an axis.

    Args:
        length: The stored tensor that may be the magnitude.
        direction: The stored tensor that may be the direction.
    """
    if length.shape == ():
        return len(direction.shape) > 0
    sizes = [(size, whole) for size, whole in zip(length.shape, direction.shape, strict=False) if size != 1]
    return len(length.shape) == len(direction.shape) and len(sizes) < 2 and all(size == whole for size, whole in sizes)


def _is_spectral_norm(weight: TensorRef, u: TensorRef, v: TensorRef) -> bool:
    return len(u.shape) == len(v.shape) == 1 and bool(_axes(weight.shape, u.shape[0], v.shape[0]))


def _axes(shape: tuple[int, ...], rows: int, columns: int) -> list[int]:
    """Return the axes that may be the output axis of a spectral norm: those as long as the left singular vector u."""
    return [axis for axis, size in enumerate(shape) if size == rows and rows * columns == prod(shape)]


def _weight(parts: Parts) -> TensorRef:
    name = parts.path.rpartition(".")[2]
    return replace(parts.tensor, path=parts.path, role=name, trainable=True, storage="", location="", is_computed=True)


def _reader(read: Reader, parts: Mapping[str, Parts]) -> Reader:
    def reader(path: str) -> Array:
        if path not in parts:
            return read(path)
        values = [read(name) for name in parts[path].names]
        wide = [value.astype(np.float64) for value in values]
        with np.errstate(divide="ignore", invalid="ignore"):
            made = weight_norm(*wide) if len(wide) == 2 else spectral_norm(*wide)
        if not np.isfinite(made).all():
            raise MalformedCheckpoint(
                f"the weight {path}, computed from {', '.join(parts[path].names)}, has values that are NaN or infinite"
            )
        return made.astype(values[len(values) == 2].dtype)

    return reader


def weight_norm(length: Array, direction: Array) -> Array:
    """Return `g * v / |v|`, with a norm over all axes along which the magnitude g has size 1."""
    axes = tuple(axis for axis in range(direction.ndim) if length.ndim == 0 or length.shape[axis] == 1)
    norm = np.sqrt(np.sum(direction**2, axis=axes, keepdims=length.ndim > 0))
    return np.asarray(direction * (length / norm))


def spectral_norm(weight: Array, u: Array, v: Array) -> Array:
    """Return the weight of a layer with spectral norm: `W / (u @ W @ v)`, with W as a matrix of outputs and inputs.

    If several axes can be that of the outputs, it is the one for which W @ v is closest to a multiple of u.

    Args:
        weight: The unnormalized weight W, of any rank.
        u: The stored left singular vector.
        v: The stored right singular vector.
    """
    axes = _axes(weight.shape, len(u), len(v))
    products = [np.moveaxis(weight, axis, 0).reshape(len(u), -1) @ v for axis in axes]
    likeness = [abs(u @ product) / (np.linalg.norm(product) or np.inf) for product in products]
    return np.asarray(weight / (u @ products[int(np.argmax(likeness))]))
