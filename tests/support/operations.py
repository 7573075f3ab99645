"""Convert a small model of a single Keras operation and compare both sides in float64 and float32."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np

import keras3conv as k3c
from keras3conv.builder.conversion import Conversion
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.transforms import Array

Function = Callable[..., Any]

SIZES = (4, 9)
"""The sizes of the batch and of a dynamic axis when both models run; the graph was traced with other sizes."""

IMAGE = (6, 5, 4)
"""The shape of an image, whose channels are the second axis in torch."""

VOLUME = (3, 6, 5, 4)
SEQUENCE = (None, 4)
VECTOR = (4,)


@dataclass(frozen=True)
class Given:
    """An input of a model: its shape without the batch, its dtype and the range of its values."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    low: float = -2.0
    high: float = 2.0

    def symbol(self, name: str) -> keras.KerasTensor:
        """Return the symbolic input of a functional model."""
        return keras.Input(self.shape, dtype=self.dtype, name=name)

    def array(self, generator: np.random.Generator) -> Array:
        """Return random values for this input."""
        shape = tuple(SIZES[place] if size is None else size for place, size in enumerate((None, *self.shape)))
        if self.dtype == "bool":
            return generator.random(shape) < 0.5
        if "int" in self.dtype:
            return generator.integers(int(self.low), int(self.high) + 1, shape).astype(self.dtype)
        return generator.uniform(self.low, self.high, shape).astype(self.dtype)


class Around(keras.layers.Layer):
    """A layer whose call applies a function to its inputs."""

    def __init__(self, function: Function, *, keeps_shape: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function
        self.keeps_shape = keeps_shape

    def compute_output_spec(self, inputs: list[Any]) -> Any:
        """Return the shape of the output, which Keras finds by calls with 83 and 89 examples if it is not known."""
        return keras.KerasTensor(inputs[0].shape) if self.keeps_shape else super().compute_output_spec(inputs)

    def call(self, inputs: list[Any]) -> Any:
        """Apply the function to the inputs."""
        return self.function(*inputs)


@dataclass(frozen=True)
class Case:
    """An operation with its inputs.

    Attributes:
        function: The operation, as a function of the inputs.
        inputs: Its inputs.
        inside: Whether it runs in the call of a layer instead of being part of a functional model.
        keeps_shape: Whether such a layer states that its output has the shape of the first input.
        by_numpy: The same operation in numpy, where Keras' torch backend differs from the other backends.
    """

    function: Function
    inputs: tuple[Given, ...]
    inside: bool = False
    keeps_shape: bool = False
    by_numpy: Function | None = None

    def model(self) -> keras.Model:
        """Return a functional model that consists of this operation."""
        symbols = [given.symbol(name) for name, given in zip("xyzvw", self.inputs, strict=False)]
        if self.inside:
            layer = Around(self.function, keeps_shape=self.keeps_shape, name="around")
            return keras.Model(symbols, layer(symbols))
        return keras.Model(symbols, self.function(*symbols))

    def arrays(self) -> list[Array]:
        """Return values for the inputs, the same ones every time."""
        generator = np.random.default_rng(11)
        return [given.array(generator) for given in self.inputs]


def case(
    function: Function, *inputs: Given | tuple[int | None, ...], inside: bool = False, by_numpy: Function | None = None
) -> Case:
    """Return a case; a plain shape is an input of floating-point numbers."""
    given = tuple(given if isinstance(given, Given) else Given(given) for given in inputs)
    return Case(function, given, inside=inside, by_numpy=by_numpy)


@dataclass(frozen=True)
class Pair:
    """A model of one operation and its conversion."""

    one: Case
    model: keras.Model
    conversion: Conversion

    def differences(self, module: Any = None) -> list[str]:
        """Return the differences between the two in float64 and in float32.

        Args:
            module: A module to compare instead of the converted one.
        """
        module = module or self.conversion.model
        return [difference for wide in (True, False) for difference in self._compared(module, wide)]

    def _compared(self, module: Any, wide: bool) -> Iterator[str]:
        promised = [tensor.dtype for tensor in keras.tree.flatten(self.model.output)]
        expected, made = self._run_keras(wide), self._run_torch(module, wide)
        if len(expected) != len(made):
            yield f"{len(made)} outputs, not {len(expected)}"
            return
        for place, (one, other) in enumerate(zip(expected, made, strict=True)):
            if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
                yield f"output {place}: {other.dtype}{other.shape}, not {one.dtype}{one.shape}"
                continue
            if not wide and other.dtype.name not in (promised[place], one.dtype.name):
                yield f"output {place}: {other.dtype}, not {one.dtype}"
            worst = _worst(one, other)
            if worst > (1e-12 if one.dtype != "float32" else 2e-5):
                yield f"output {place}: differs by {worst:.1e} of the largest value"

    def _run_keras(self, wide: bool) -> list[Array]:
        arrays = self.one.arrays()
        if self.one.by_numpy:
            outputs = self.one.by_numpy(*[_wide(array) if wide else array for array in arrays])
            return [np.asarray(one) for one in keras.tree.flatten(outputs)]
        if not wide:
            outputs = self.model(arrays, training=False)
            return [keras_side.to_numpy(one) for one in keras.tree.flatten(outputs)]
        with keras_side.precise(), keras_side.float64_mode(self.model):
            outputs = self.model([_wide(array) for array in arrays], training=False)
            return [keras_side.to_numpy(one) for one in keras.tree.flatten(outputs)]

    def _run_torch(self, module: Any, wide: bool) -> list[Array]:
        program = self.conversion.program
        pairs = zip(self.one.arrays(), program.inputs, strict=True)
        given = tuple(np.ascontiguousarray(array.transpose(value.order)) for array, value in pairs)
        outputs = torch_side.run(module, given, float64=wide).outputs
        return [
            array.transpose(np.argsort(order))
            for array, order in zip(outputs.values(), program.output_orders, strict=True)
        ]


def named(name: str, **settings: Any) -> Function:
    """Return the operation with this name in `keras.ops`, with some of its arguments set."""
    namespace, _, last = name.rpartition(".")
    home = getattr(keras.ops, namespace) if namespace else keras.ops

    def function(*tensors: Any) -> Any:
        return getattr(home, last)(*tensors, **settings)

    return function


@cache  # several tests convert the same case
def converted(one: Case) -> Pair:
    """Convert the model of a case, without a certificate."""
    model = one.model()
    return Pair(one, model, k3c.convert(model, validate=False))


def _worst(one: Array, other: Array) -> float:
    """Return the largest difference relative to the largest value; for integers and booleans how many differ."""
    if one.dtype.kind != "f":
        return float(np.count_nonzero(one != other))
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return float("inf")
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    scale = np.abs(one[finite]).max(initial=0.0) or 1.0
    return float(np.abs(one[finite] - other[finite]).max(initial=0.0) / scale)


def _wide(array: Array) -> Array:
    return array.astype("float64") if array.dtype == "float32" else array
