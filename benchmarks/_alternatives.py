"""Measure two alternatives to this package: pair layers by order alone, or export Keras to torch through ONNX."""

import os
import tempfile
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

import keras3conv as k3c
from benchmarks._fidelity import Pair
from benchmarks._fidelity_process import entries
from benchmarks._torchvision import declare_operators
from keras3conv.errors import RAISED_BY_MODELS, Keras3ConvError

OPSET = 15
"""The newest opset of ONNX that onnx2torch reads in full."""


@dataclass(frozen=True, kw_only=True)
class ByOrder:
    """The result of a script that pairs the layers of two models by order.

    Attributes:
        name: The name of the pair of models.
        tensors: The number of Keras variables that belong to a torch tensor.
        right: How many of these variables the script pairs with the right tensor.
        note: The reason if the script paired none.
    """

    name: str
    tensors: int
    right: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ThroughOnnx:
    """The results of two ways from a Keras model to torch: `convert`, and ONNX.

    Attributes:
        name: The model.
        trainable: The number of trainable elements of the Keras model.
        converted: The number of trainable elements of the module that `convert` returns; None if it fails.
        onnx: The number of trainable elements of the module that onnx2torch returns; None if there is none.
        difference: The largest difference between an output of onnx2torch's module and of the Keras model.
        note: The reason if there is no module.
    """

    name: str
    trainable: int
    converted: int | None
    onnx: int | None = None
    difference: float | None = None
    note: str = ""


def by_order(name: str) -> ByOrder:
    """Pair the layers of two models by order alone, and compare the plan with the right one."""
    pair = _pair(name)
    right = k3c.align(pair.torch, pair.keras, inputs=pair.inputs, keras_inputs=pair.keras_inputs)
    expected = {(mapping.torch, mapping.keras, repr(mapping.transform)) for mapping in right.mappings if mapping.keras}
    tensors = sum(len(keras) for _, keras, _ in expected)
    try:
        plan = k3c.align_ordered(pair.torch, pair.keras)
    except Keras3ConvError as error:
        return ByOrder(name=name, tensors=tensors, right=0, note=_line(str(error)))
    found = {(mapping.torch, mapping.keras, repr(mapping.transform)) for mapping in plan.mappings}
    return ByOrder(name=name, tensors=tensors, right=sum(len(keras) for _, keras, _ in expected & found))


def through_onnx(name: str) -> ThroughOnnx | None:
    """Move a Keras model to torch with `convert` and through ONNX; None for a model that Keras cannot export."""
    model = _pair(name).keras
    if not getattr(model, "inputs", None):
        return None
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    try:
        converted = _trainable(k3c.convert(model).model)
    except Keras3ConvError as error:
        return ThroughOnnx(name=name, trainable=trainable, converted=None, note=_line(str(error)))
    try:
        module, difference = module_through_onnx(model)
    except (*RAISED_BY_MODELS, KeyError) as error:
        note = f"{type(error).__name__}: {_line(str(error))}"
        return ThroughOnnx(name=name, trainable=trainable, converted=converted, note=note)
    onnx = _trainable(module)
    return ThroughOnnx(name=name, trainable=trainable, converted=converted, onnx=onnx, difference=difference)


def module_through_onnx(model: Any) -> tuple[Any, float]:
    """Export a Keras model to ONNX; return onnx2torch's module for it, and the largest difference of an output."""
    import keras
    import torch

    declare_operators()
    onnx2torch = import_module("onnx2torch")
    values = [np.random.default_rng(0).random(_sizes(entry)).astype("float32") for entry in model.inputs]
    expected = keras.tree.flatten(model(values if len(values) > 1 else values[0]))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = os.path.join(folder, "model.onnx")  # noqa: PTH118 - Keras looks at the end of a text
        model.export(path, format="onnx", verbose=False, opset_version=OPSET)
        module = onnx2torch.convert(path)
    with torch.no_grad():
        outputs = module.eval()(*map(torch.from_numpy, values))
    found = outputs if isinstance(outputs, list | tuple) else [outputs]
    pairs = zip(found, expected, strict=True)
    return module, max(float(np.abs(a.numpy() - keras.ops.convert_to_numpy(b)).max()) for a, b in pairs)


def _sizes(entry: Any) -> tuple[int, ...]:
    return tuple(size or (2 if axis == 0 else 8) for axis, size in enumerate(entry.shape))


def _trainable(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _pair(name: str) -> Pair:
    return next(entry for entry in entries() if entry.name == name).build()


def _line(text: str) -> str:
    """Return the beginning of a message on one line, as a cell of a table."""
    return " ".join(text.split()).replace("|", "/")[:100]
