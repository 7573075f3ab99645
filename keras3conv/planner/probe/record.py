"""Define the record of the torch run: the inputs and outputs of every layer call, and the weights they depend on."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from keras3conv.model.views import ModelView
from keras3conv.numerics.fingerprint import EXACT, Fingerprint
from keras3conv.transforms import Array

ROUNDED = 1e-5
"""The largest relative error between equal values if torch computed a function in float32."""

NEAR = 1e-2
"""The largest relative error between two layers with the same weights that differ in a constant, such as an epsilon.

With different weights, the error is as large as the values themselves.
"""

MANY = 8
"""The maximum number of calls of one torch layer whose outputs are compared."""


@dataclass(frozen=True, kw_only=True)
class TorchCall:
    """One call of one torch layer in the run with random weights.

    Attributes:
        path: The layer.
        index: The position of the call among all calls, ordered by the time when they began.
        inputs: The fingerprints (sums of powers of the values) of the input arrays.
        outputs: The returned arrays.
        dependencies: The tensors from which the inputs were computed, as bits of `TorchRun.tensor_bits`.
        limit: The largest relative error at which a value counts as equal to an output.
    """

    path: str
    index: int
    inputs: tuple[Fingerprint, ...] = ()
    outputs: tuple[Array, ...] = ()
    dependencies: int = 0
    limit: float = EXACT


@dataclass(frozen=True, kw_only=True)
class TorchRun:
    """The recorded run of the torch module with random weights, with which the Keras run is compared.

    Attributes:
        view: The view of the torch model, with the call order and the shapes of the run.
        weights: The probe's weights, by path; and the values of the buffers in `kept`.
        kept: The paths of the buffers with the module's own values, which Keras may have as variables.
        calls: The calls of each layer that ran, by its path.
        outputs: The outputs of the module, by name.
        output_dependencies: The tensors from which the outputs were computed, as an integer with one bit per tensor.
        tensor_bits: The bit of each tensor, by path; a set of tensors is an integer in which these bits are set.
        limit: The largest relative error at which a value counts as equal to an output.
        integers: The integers in the attributes of the modules and of their configurations.
        float32_functions: The functions that torch computed in float32 because it has no float64 kernel for them, each
            with the path of the layer that called it.
    """

    view: ModelView
    weights: Mapping[str, Array]
    calls: Mapping[str, tuple[TorchCall, ...]]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    output_dependencies: int = 0
    tensor_bits: Mapping[str, int] = field(default_factory=dict)
    limit: float = EXACT
    float32_functions: tuple[tuple[str, str], ...] = ()
    integers: frozenset[int] = frozenset()
    kept: frozenset[str] = frozenset()

    def calls_of(self, path: str) -> tuple[TorchCall, ...]:
        """Return the recorded calls of a layer, of many calls only the first `MANY`."""
        return self.calls.get(path, ())[:MANY]

    def paths_with_input(self, fingerprint: Fingerprint, limit: float) -> list[str]:
        """Return the paths of the torch layers with an input of this fingerprint, in the order of the first calls.

        Args:
            fingerprint: The fingerprint.
            limit: The largest relative difference at which fingerprints count as equal.
        """
        squares, entries = self._inputs
        size = fingerprint.sums[1]
        margin = 4 * limit * abs(size) + 1e-290
        found = entries[bisect_left(squares, size - margin) : bisect_right(squares, size + margin)]
        places = {place: path for place, path, entry in found if entry.agrees(fingerprint, limit)}
        return list(dict.fromkeys(path for _, path in sorted(places.items())))

    @cached_property
    def _inputs(self) -> tuple[list[float], list[tuple[int, str, Fingerprint]]]:
        """The fingerprints of all recorded layer inputs, sorted by their sum of squares, for a binary search.

        The first list has the sums. The second list has, for each sum, the number of the call, the path of the layer
        and the fingerprint.
        """
        entries = [
            (call.index, path, entry)
            for path in self.calls
            for call in self.calls_of(path)
            for entry in call.inputs
            if not entry.has_nan
        ]
        entries.sort(key=lambda found: found[2].sums[1])
        return [entry.sums[1] for *_, entry in entries], entries

    def is_used(self, path: str) -> bool:
        """Return whether an output of the module depends on the tensor with this path."""
        return bool(self.tensor_bits.get(path, 0) & self.output_dependencies)

    def bits_of(self, paths: Iterable[str]) -> int:
        """Return the set of the torch tensors with these paths, as an integer in which each tensor has one bit."""
        bits = 0
        for path in paths:
            bits |= self.tensor_bits.get(path, 0)
        return bits
