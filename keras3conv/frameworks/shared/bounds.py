"""Find the bounds of operations, such as the 6 of a ReLU6 or the limits of a clip, and test if values exceed them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from math import nan
from typing import Any

_IMPLICIT: Mapping[str, tuple[float, ...]] = {
    "relu6": (0.0, 6.0),
    "hard_tanh": (-1.0, 1.0),
    **dict.fromkeys(("hardsigmoid", "hardswish", "hard_sigmoid", "hard_silu"), (-3.0, 3.0)),
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "elu", "selu", "celu", "abs", "absolute"), (0.0,)),
}
"""The bounds of functions that have them built in: 0 and 6 for "relu6"."""

_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("clamp", "clip"), ("min", "max")),
    "clamp_min": ("min",),
    "clamp_max": ("max",),
    "hardtanh": ("min_val", "max_val"),
    "threshold": ("threshold",),
    **dict.fromkeys(("hardshrink", "softshrink"), ("lambd",)),
    **dict.fromkeys(("hard_shrink", "soft_shrink"), ("threshold",)),
    **dict.fromkeys(("minimum", "maximum", "gt", "lt", "ge", "le", "__gt__", "__lt__", "__ge__", "__le__"), ("other",)),
    **dict.fromkeys(("fmin", "fmax"), ("other",)),
    **dict.fromkeys(("greater", "greater_equal", "less", "less_equal"), ("other",)),
}
"""For each function, the names of its arguments that are bounds, in the order in which they follow the input."""

_ALIASES = {"min": "x_min", "max": "x_max", "other": "x2"}
"""The Keras names of arguments that are bounds, by their torch names."""

_DEFAULTS = {"min_val": -1.0, "max_val": 1.0, "lambd": 0.5}

_BOTH_SIGNS = frozenset(("hardshrink", "softshrink", "hard_shrink", "soft_shrink"))
"""The functions whose bound also applies with a negative sign, such as "softshrink"."""

_ELEMENTWISE = frozenset(("min", "max"))
"""The functions that compare two tensors elementwise, but reduce an axis if called with a single tensor."""


_UNKNOWN = 16.0
"""The factor by which to scale values if their distance from a bound is unknown."""

SLICE = "slice"
"""The function of a slice whose end (the 512 of `x[:, :512]`) is beyond the size of its axis."""

_NOT_FINITE = frozenset(("nan_to_num", "isnan", "isfinite", "isinf"))
"""Functions that compute something else for values that are not finite."""

FUNCTIONS = frozenset((*_IMPLICIT, *_ARGUMENTS, *_ELEMENTWISE, *_NOT_FINITE))
"""The names of functions that have a bound, beyond which they compute something else."""

_FARTHEST = 1e6
"""The absolute value above which a bound is ignored, such as the -1e9 of masked scores: no value is meant to reach it.
"""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound (the 6 of a ReLU6, a limit of a clip) in one call of a function, and the values in that call.

    Attributes:
        function: The name of the function.
        value: The bound.
        low: The smallest value that the function was called with.
        high: The largest value.
    """

    function: str
    value: float
    low: float
    high: float

    @property
    def is_passed(self) -> bool:
        """True if there are values on both sides of the bound."""
        return self.low < self.value < self.high

    @property
    def missing_factor(self) -> float:
        """The factor by which the values must be scaled to reach the bound: 2 for values from -3 to 3 and the bound 6.

        It is 1 if values exceed the bound already, or if no factor helps. It is large for a bound of 0 if all values
        have the same sign: the model then adds a constant of unknown size, which the scaled values must outweigh.
        """
        if self.function == SLICE:
            return 1.0
        if self.value == 0:
            return _UNKNOWN if self.low > 0 or self.high < 0 else 1.0
        reach = self.high if self.value > 0 else -self.low
        return abs(self.value) / reach if not self.is_passed and 0 < reach < abs(self.value) else 1.0

    def __str__(self) -> str:
        return f"{self.value:g} of {self.function} (values from {self.low:.2g} to {self.high:.2g})"


@dataclass(frozen=True)
class BoundsObserver:
    """Collects the bounds (limits of a clip, the 6 of a ReLU6) in the calls of functions during a run.

    Attributes:
        extremes: Returns the smallest and the largest value of a floating-point tensor; None for anything else.
        number: Returns a number, or the value of a tensor with one number; None for anything else.
        distances: Returns four numbers for two tensors, which may broadcast: the smallest and the largest element of
            their difference, and the smallest and the largest element of the second. None for other arguments.
        bounds: The bounds that were observed so far.
    """

    extremes: Callable[[Any], tuple[float, float] | None]
    number: Callable[[Any], float | None]
    distances: Callable[[Any, Any], tuple[float, float, float, float] | None] = lambda first, second: None
    bounds: list[Bound] = field(default_factory=list)

    def note(self, function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Record the bounds (such as the limits of a clip) in a call, before the call may overwrite its input.

        Args:
            function: The name of the function; a function without bounds is ignored.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
        """
        if function not in FUNCTIONS or not args:
            return
        first, others = args[0], args[1:]
        if others and self.extremes(first) is None:  # max(0, x)
            first, others = others[0], (first, *others[1:])
        values = self.extremes(first)
        if values is None:
            return
        if function in _NOT_FINITE:
            self.bounds.append(Bound(function=function, value=nan, low=values[0], high=values[1]))
            return
        for bound in _IMPLICIT.get(function, ()) or self._stated(function, first, others, kwargs):
            if abs(bound) <= _FARTHEST:
                self.bounds.append(Bound(function=function, value=bound, low=values[0], high=values[1]))

    def note_slices(self, shape: tuple[int, ...], index: Any) -> None:
        """Record the slices, such as `x[:, :512]`, that end beyond the size of their axis.

        They are bounds too: if the axis were longer, they would leave a part of it out.

        Args:
            shape: The shape of the array.
            index: The index, as `__getitem__` gets it.
        """
        parts = index if isinstance(index, tuple) else (index,)
        for size, part in zip(shape, takewhile(lambda part: part is not Ellipsis, parts), strict=False):
            if isinstance(part, slice) and isinstance(part.stop, int) and part.stop > size:
                self.bounds.append(Bound(function=SLICE, value=part.stop, low=0, high=size))

    def _stated(self, function: str, first: Any, others: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[float]:
        bounds = []
        for place, name in enumerate(_ARGUMENTS.get(function, ("other",))):
            given = kwargs.get(name, kwargs.get(_ALIASES.get(name, name), _DEFAULTS.get(name)))
            given = others[place] if place < len(others) else given
            if function in _ELEMENTWISE and not hasattr(given, "shape"):  # the number of an axis
                continue
            bound = self.number(given)
            bounds += self._of_tensor(first, given) if bound is None else [bound]
        return [*bounds, *(-bound for bound in bounds)] if function in _BOTH_SIGNS else bounds

    def _of_tensor(self, first: Any, bounds: Any) -> list[float]:
        """Choose one bound for a function whose bound is a tensor, with a number for each value.

        Return, in a list, the largest number if no value exceeds its bound, and the smallest if no value is below its
        bound. Return an empty list if there are values on both sides of their bounds.
        """
        found = self.distances(first, bounds)
        if found is None:
            return []
        smallest, largest, low, high = found
        return [] if smallest < 0 < largest else [high if largest <= 0 else low]
