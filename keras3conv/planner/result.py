"""The result that the probe hands to the planner."""

from dataclasses import dataclass

from keras3conv.alignment import Pair
from keras3conv.model import ModelView


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The result of the probe.

    Attributes:
        torch: The torch side, with the call order and the shapes of the run.
        keras: The Keras side, likewise.
        pairs: The pairs that it found.
        notes: The notes for the plan.
    """

    torch: ModelView
    keras: ModelView
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
