"""What a backward pass gives, on either side."""

from collections.abc import Mapping
from dataclasses import dataclass

from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Backward:
    """The gradients of a weighted sum of the outputs, and what the pass left behind.

    Attributes:
        gradients: Of every tensor that was asked for, by path, in its own layout; zero where no output depends on it.
        states: The values of the other tensors afterwards: in training the moving statistics.
    """

    gradients: Mapping[str, Array]
    states: Mapping[str, Array]
