"""What the probe hands to the planner."""

from dataclasses import dataclass

from keras3conv.alignment import Pair
from keras3conv.model import ModelView


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What the probe found.

    Attributes:
        torch: The torch side, with what the run told.
        keras: The Keras side, likewise.
        pairs: The pairs that it found.
        notes: What the plan says of it.
    """

    torch: ModelView
    keras: ModelView
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
