"""Round the angles of sines and cosines while torch runs, to find out if a difference comes from their rounding."""

from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from keras3conv.transforms import Array

_SINES = frozenset({torch.sin, torch.cos, torch.Tensor.sin, torch.Tensor.cos, torch.sin_, torch.cos_})

_BITS = 12
"""The number of significant bits that an angle keeps."""


class RoundedSines(TorchFunctionMode):
    """Rounds the angle of every sine and cosine to 12 bits, and collects the angles before.

    Two models whose angles differ by the rounding of float32 then compute with equal angles. The mode covers Keras
    models on the torch backend, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._angles: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function; the angle of a sine or cosine is rounded first."""
        if func in _SINES and args[0].is_floating_point():
            angle = args[0]
            self._angles.append(torch.unique(angle.detach().double()))
            args = (angle + (_rounded(angle) - angle).detach(), *args[1:])  # the derivative is that of the angle
        return func(*args, **(kwargs or {}))

    def take_angles(self) -> Array:
        """Return the different angles so far, sorted, and forget them."""
        found = torch.unique(torch.cat(self._angles)).cpu().numpy() if self._angles else np.zeros(0)
        self._angles.clear()
        return np.asarray(found)


def _rounded(angle: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = torch.frexp(angle)
    return torch.ldexp(torch.round(mantissa * 2.0**_BITS) / 2.0**_BITS, exponent)
