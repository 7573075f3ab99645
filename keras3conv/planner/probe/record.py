"""What the probe knows of the torch side: every call of every layer, and which tensors its input was computed from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keras3conv.model.views import LayerView, ModelView
from keras3conv.numerics.fingerprint import EXACT, Print
from keras3conv.transforms import Array

ROUNDED = 1e-5
"""The same where torch has a function in float32 only."""


NEAR = 1e-2
"""The same weights in two layers that differ in a constant; other weights are as far apart as the values themselves."""


MANY = 8
"""Of a layer that runs more often, this many calls are looked at."""


@dataclass(frozen=True, kw_only=True)
class TorchCall:
    """One call of one torch layer under the probe's weights.

    Attributes:
        path: The layer.
        place: When the call began.
        prints: The prints of the arrays that it was given.
        outputs: What it returned.
        depends: The tensors that what it was given was computed from; bits, as in `TorchRun.bits`.
        limit: How far the same values may be from its outputs.
    """

    path: str
    place: int
    prints: tuple[Print, ...] = ()
    outputs: tuple[Array, ...] = ()
    depends: int = 0
    limit: float = EXACT


@dataclass(frozen=True, kw_only=True)
class TorchRun:
    """The run of the torch module that the probe compares with.

    Attributes:
        view: The torch side, with what the run told of its layers.
        weights: The probe's weights, by path.
        calls: The calls of every layer that ran, by its path.
        outputs: What the module returned, by name.
        depends: The tensors that the outputs were computed from, as bits.
        bits: The bit of every tensor.
        limit: How far the same values may be from the outputs.
        narrowed: The functions that torch computed in float32, having no kernel for float64, and their layers.
    """

    view: ModelView
    weights: Mapping[str, Array]
    calls: Mapping[str, tuple[TorchCall, ...]]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    depends: int = 0
    bits: Mapping[str, int] = field(default_factory=dict)
    limit: float = EXACT
    narrowed: tuple[tuple[str, str], ...] = ()

    def of(self, path: str) -> tuple[TorchCall, ...]:
        """The calls of a layer, the first few."""
        return self.calls.get(path, ())[:MANY]

    def bits_of(self, layer: LayerView) -> int:
        """The bits of all tensors of a layer."""
        found = 0
        for tensor in layer.tensors:
            found |= self.bits.get(tensor.path, 0)
        return found
