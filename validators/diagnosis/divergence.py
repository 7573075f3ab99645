"""Rerun torch up to the point at which two models differ, with changes, until a limit of work is reached."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.numerics.difference import FLOAT64_LIMIT
from keras3conv.transforms import Array, Shape

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.calls import Change, Key, Operation
    from keras3conv.frameworks.torch.replay import Replayed, Stage, Target

SEARCH_VALUES = 1_000_000_000
"""The number of values that the runs of one search may compute: about a minute on a processor of 2024.

Each hypothesis costs a run of the torch module. The limit counts work and no time, so that the cause that a report
names does not depend on the speed of the machine.
"""

_VALUES_OF_A_CALL = 3000
"""Calling a torch function costs about as much as computing this number of values."""


@dataclass(kw_only=True)
class Runs:
    """Counts the reruns of the torch module in a search for a cause, up to a limit."""

    allowed: int
    made: int = 0

    @property
    def are_used_up(self) -> bool:
        """True if the search may make no further run."""
        return self.made >= self.allowed

    def restart(self) -> None:
        """Allow the search to make the full number of runs again."""
        self.made = 0


def runs_within_limit(operations: "Iterable[Operation]") -> Runs:
    """Return the limit for the reruns of these operations: they may compute at most `SEARCH_VALUES` numbers in all."""
    values = sum(_VALUES_OF_A_CALL + prod(operation.result or ()) for operation in operations)
    return Runs(allowed=SEARCH_VALUES // max(1, values))


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The point at which the runs of torch and Keras differ, and the data to recompute torch's value there.

    Attributes:
        stage: The torch module with its inputs and tensors.
        target: The layer call at which a rerun stops, or the end of the model.
        torch_value: Torch's value, in Keras' layout.
        keras_value: Keras' value.
        extract: Returns torch's value at the point from a rerun.
        float64: Whether the runs are in float64.
        flattened: The shape, without the batch axis, that torch flattened to get the layer's input; None if the input
            is not flattened.
        limit: The relative difference in float64 that may remain if no second cause is found: that of constants which
            one side rounds to float32.
        runs: The number of runs that the search has made and may make.
    """

    stage: "Stage"
    target: "Target"
    torch_value: Array
    keras_value: Array
    extract: "Callable[[Replayed], Array]"
    float64: bool
    flattened: Shape | None = None
    limit: float = FLOAT64_LIMIT
    runs: Runs = field(default_factory=lambda: Runs(allowed=0))

    def rerun(
        self,
        changes: "Mapping[Key, Change]",
        tensors: "Mapping[str, Array] | None" = None,
        *,
        float64: bool | None = None,
    ) -> Array | None:
        """Rerun torch with changes, and return its value where the models differ; None if torch raises.

        Args:
            changes: The changes of operations.
            tensors: Other values of tensors, by path.
            float64: Whether to run in float64; None for the dtype of the other runs.
        """
        self.runs.made += 1
        precise = self.float64 if float64 is None else float64
        try:
            return self.extract(self.stage.replay(self.target, changes=changes, tensors=tensors or {}, float64=precise))
        except ModelError:
            return None


def largest_difference(first: Array, second: Array) -> float:
    """Return the largest absolute difference of two arrays.

    The result is infinity if the shapes differ or a difference is not finite.
    """
    if first.shape != second.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        largest = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64)), initial=0.0))
    return largest if np.isfinite(largest) else float("inf")
