"""The recorded torch run: every call of every layer, and the tensors that its input was computed from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from keras3conv.model.views import ModelView
from keras3conv.numerics.fingerprint import EXACT, Fingerprint
from keras3conv.transforms import Array

ROUNDED = 1e-5
"""The largest relative error of equal values where torch has a function in float32 only."""

NEAR = 1e-2
"""The largest relative error of two layers with the same weights that differ in a constant, such as an epsilon.

Other weights give an error as large as the values themselves.
"""

MANY = 8
"""The number of calls that are compared, of a layer that runs more often."""


@dataclass(frozen=True, kw_only=True)
class TorchCall:
    """One call of one torch layer under the probe's weights.

    Attributes:
        path: The layer.
        index: The position of the call among all calls, by the time when it began.
        inputs: The fingerprints of its input arrays.
        outputs: The arrays that it returned.
        dependencies: The tensors that its inputs were computed from; bits, as in `TorchRun.tensor_bits`.
        limit: The largest relative error of values that equal its outputs.
    """

    path: str
    index: int
    inputs: tuple[Fingerprint, ...] = ()
    outputs: tuple[Array, ...] = ()
    dependencies: int = 0
    limit: float = EXACT


@dataclass(frozen=True, kw_only=True)
class TorchRun:
    """The run of the torch module that the probe compares with.

    Attributes:
        view: The torch side, with the call order and the shapes of the run.
        weights: The probe's weights, by path.
        calls: The calls of each layer that ran, by its path.
        outputs: The outputs of the module, by name.
        output_dependencies: The tensors that the outputs were computed from, as bits.
        tensor_bits: The bit that stands for each tensor.
        limit: The largest relative error of values that equal the outputs.
        float32_functions: The functions that torch computed in float32 for lack of a float64 kernel, each with the
            path of its layer.
    """

    view: ModelView
    weights: Mapping[str, Array]
    calls: Mapping[str, tuple[TorchCall, ...]]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    output_dependencies: int = 0
    tensor_bits: Mapping[str, int] = field(default_factory=dict)
    limit: float = EXACT
    float32_functions: tuple[tuple[str, str], ...] = ()

    def calls_of(self, path: str) -> tuple[TorchCall, ...]:
        """Return the first calls of a layer."""
        return self.calls.get(path, ())[:MANY]

    def bits_of(self, paths: Iterable[str]) -> int:
        """Return the bits of several tensors, combined."""
        bits = 0
        for path in paths:
            bits |= self.tensor_bits.get(path, 0)
        return bits
