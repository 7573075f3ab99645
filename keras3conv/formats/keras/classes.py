"""Infer the class of a layer by its name and the shapes of its variables, for a Keras file that does not state it.

The shapes of the variables show a class only if no other class of Keras has variables of these shapes, or if the other
classes store the same values in the same order.
"""

import re
from collections.abc import Collection, Sequence
from math import prod

from keras3conv.formats.keras.names import class_of, roles
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.transforms import Shape

_ATTENTION = frozenset({"query_dense", "key_dense", "value_dense", "output_dense"})

_DENSE = re.compile(
    r"(^|_)(q|k|v|o|query|key|value|out|output|proj|projection|dense|linear|fc|gate|up|down|w[1-3qkvo])\d*$"
)
"""The names of layers without a bias that are Dense and no Embedding."""

_NORMS = {2: "LayerNormalization", 4: "BatchNormalization"}
"""The class of a layer that has only vectors of one size, by their number."""


def class_by_name(datasets: Sequence[Dataset], stored: str | None) -> str:
    """Return the class for which the stored name is the default layer name: "Conv2D" for "conv2d_3".

    Return an empty text if the name is no default name, or if the class has another number of variables.

    Args:
        datasets: The datasets of the variables of a layer.
        stored: The name of the layer in the file; None if the file has no names.
    """
    name = class_of(stored or "")
    known = roles(name, [dataset.shape for dataset in datasets])
    return name if not any(role.isdecimal() for role in known) else ""


def inferred_class(group: str, datasets: Sequence[Dataset], names: Sequence[str], tree: Tree) -> str:
    """Return the class of a layer in a user's layer, by its inner layers or by the shapes of its variables; else "".

    Args:
        group: The path of the group of the layer.
        datasets: The datasets of its variables.
        names: The names of the layer: that of its group, and its own.
        tree: The content of the file.
    """
    parts = [name for name in tree.groups[group] if name != "vars"]
    if not parts:
        shapes = [dataset.shape for dataset in datasets]
        return next(filter(None, (_class_of_shapes(name, shapes) for name in names)), "")
    kernels = []
    for name in ("query_dense", "key_dense"):
        found = (tree.datasets.get(f"{group}/{part}/vars/0") for part in parts if part.lstrip("_") == name)
        kernels.append(next((dataset.shape for dataset in found if dataset), ()))
    return _class_of_parts(parts, *kernels)


def _class_of_shapes(name: str, shapes: Sequence[Shape]) -> str:
    """Return the class of a layer by the shapes of its variables, in the order of the file; "" if it is unknown.

    Args:
        name: The name of the layer or of its attribute.
        shapes: The shapes of the variables.
    """
    if len(shapes) in _NORMS and len(set(shapes)) == 1 and len(shapes[0]) == 1:
        return _NORMS[len(shapes)]
    if len(shapes) == 1:
        return "Dense" if len(shapes[0]) == 2 and _DENSE.search(name.lower()) else ""
    return _with_bias(*shapes) if len(shapes) == 2 else ""


def _with_bias(kernel: Shape, bias: Shape) -> str:
    """Return the class of a layer with a kernel and a bias; "" if several classes have them."""
    rank = len(kernel) - 2
    if rank == 0:
        return "Dense" if bias == kernel[1:] else ""
    if rank == 1:
        return "EinsumDense" if bias == kernel[1:] else ""  # with a bias of one axis, it may be a Conv1D
    if rank not in (2, 3):
        return ""
    if rank == 2 and bias == (prod(kernel[2:]),) and kernel[2] > 1 and kernel[3] == 1:
        return "DepthwiseConv2D"
    # The kernel of a transposed convolution has the same axes, and is read and written in the same order.
    return f"Conv{rank}D" if bias == kernel[-1:] else f"Conv{rank}DTranspose" if bias == kernel[-2:-1] else ""


def _class_of_parts(attributes: Collection[str], query: Shape, key: Shape) -> str:
    """Return the class of an attention by the attributes that hold its projections; "" for any other layer.

    Args:
        attributes: The names of the groups inside the group of the layer.
        query: The shape of the kernel of the query; empty if there is none.
        key: The shape of the kernel of the key; empty if there is none.
    """
    if not {name.lstrip("_") for name in attributes} >= _ATTENTION or not len(query) == len(key) == 3:
        return ""
    return "MultiHeadAttention" if query[1] == key[1] else "GroupQueryAttention"
