"""Make the random inputs on which a module is compared with the Keras model that it was converted from."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Program
from keras3conv.builder.to_torch.indices import index_inputs
from keras3conv.errors import ModelError
from keras3conv.formats.safe.source import dtype_named
from keras3conv.frameworks.shared.inputs_random import SEED, padded, random_codes, random_mask
from keras3conv.model.graph import Graph, Ref, Size, Tensor, mapped
from keras3conv.transforms import Array

_SIZES = {"batch": 2, "length": 9, "depth": 16, "height": 64, "width": 96}
"""The sizes that replace dynamic sizes in the validation; an image size can be halved often, as a U-Net does."""

_UP_TO_THE_TRACE = 170
"""The number to add to `_SIZES` for a model that crops its input: the sums are at least the sizes of the trace."""


def finite_proof_inputs(module: Any, graph: Graph, program: Program) -> tuple[tuple[Array, ...], Any]:
    """Return random inputs for the validation of a module; they are from 0 to 1 if others give infinite values.

    A model of images may return infinite values or NaN for the numbers of a normal distribution, which prove nothing: a
    repeated square, a logarithm.

    Args:
        module: The torch module.
        graph: The graph of the Keras model.
        program: The torch program, which has the axis orders of the inputs.
    """
    from keras3conv.frameworks.torch import module as torch_side

    usual, unit = (proof_inputs(graph, program, unit=unit) for unit in (False, True))

    def is_finite(inputs: tuple[Array, ...]) -> bool:
        outputs = torch_side.run(module, inputs, watch=False).outputs.values()
        return all(bool(np.isfinite(array).all()) for array in outputs if array.dtype.kind == "f")

    try:
        return unit if not is_finite(usual[0]) and is_finite(unit[0]) else usual
    except ModelError:  # the sizes of the inputs may be too small; the caller tries larger ones
        return usual


def proof_inputs(
    graph: Graph, program: Program, *, larger: bool = False, unit: bool = False
) -> tuple[tuple[Array, ...], Any]:
    """Return random inputs for the validation, in two forms: for the torch module and for the Keras model.

    Args:
        graph: The graph of the Keras model.
        program: The torch program, which has the axis orders of its inputs.
        larger: Whether to use dynamic sizes that are at least those of the trace, for a model that crops its input to a
            fixed size.
        unit: Whether floating-point inputs are from 0 to 1; else they are from a normal distribution.
    """
    grown = _Grown(margin=graph.margin + (_UP_TO_THE_TRACE if larger else 0), multiple=graph.multiple)
    generator = np.random.default_rng(SEED)
    rows = [t.shape[0] for layer in graph.view.layers for t in layer.tensors if t.role == "embeddings"]
    inputs, specs = graph.inputs, graph.view.input_specs
    if len(specs) == len(inputs):  # an Embedding takes integers, whatever the dtype of the input
        inputs = tuple(replace(tensor, dtype=spec.dtype) for tensor, spec in zip(inputs, specs, strict=True))
    indices = index_inputs(graph)
    arrays = {
        tensor.name: _random(tensor, generator, min(rows, default=2), grown, are_indices=tensor.name in indices)
        for tensor in inputs
    }
    if unit:
        arrays = {name: _from_0_to_1(array) for name, array in arrays.items()}
    if len(specs) == len(inputs):
        for place, (tensor, spec) in enumerate(zip(inputs, specs, strict=True)):
            arrays[tensor.name] = padded(arrays[tensor.name], spec.padding, place=place)
    keras = mapped(graph.input_structure, lambda leaf: arrays[leaf.name] if isinstance(leaf, Ref) else leaf)
    torch = tuple(np.ascontiguousarray(arrays[value.name].transpose(value.order)) for value in program.inputs)
    return torch, keras


def _from_0_to_1(array: Array) -> Array:
    """Return an array with the numbers of a normal distribution moved between 0 and 1; integers are unchanged."""
    return array if array.dtype.kind != "f" else (1 / (1 + np.exp(-array))).astype(array.dtype)


def _random(tensor: Tensor, generator: np.random.Generator, rows: int, grown: "_Grown", *, are_indices: bool) -> Array:
    shape = tuple(_number(size, grown) for size in tensor.shape)
    if tensor.dtype == "bool":
        return random_mask(shape)
    if "int" in tensor.dtype or are_indices:
        return random_codes(generator, rows, shape).astype(dtype_named(tensor.dtype))
    made = generator.standard_normal(shape).astype(dtype_named(tensor.dtype))
    # The module computes in float32; the Keras model rounds its inputs, so they are rounded for both.
    return made.astype(np.float32) if tensor.dtype in ("float16", "bfloat16") else made


@dataclass(frozen=True, kw_only=True)
class _Grown:
    """The numbers by which the dynamic sizes of inputs are made larger; that of the batch is not.

    Attributes:
        margin: The number that is added.
        multiple: The number to whose next multiple the sum is rounded up.
    """

    margin: int
    multiple: int

    def of(self, symbol: str) -> int:
        """Return the number that replaces a dynamic size in the validation."""
        if symbol == "batch":
            return _size(symbol)
        return -(-(_size(symbol) + self.margin) // self.multiple) * self.multiple


def _number(size: int | Size, grown: _Grown) -> int:
    if isinstance(size, int):
        return size
    sizes = [grown.of(symbol) for symbol in size.symbols]
    return size.factor * int(np.prod(sizes)) + size.offset


def _size(symbol: str) -> int:
    """Return the number that replaces a dynamic size in the validation, such as 9 for "length" and 7 for "length_2"."""
    name, _, place = symbol.partition("_")
    step = -2 if name == "length" else 16
    return _SIZES[name] + step * (int(place or 1) - 1)
