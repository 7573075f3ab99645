"""Compute the geometry of a plot for the HTML page.

The x axis is the depth in the model, the y axis is a log scale in decades. If needed, a strip below the scale shows
zeros (bit-identical), and a strip above the scale shows NaN and infinity.
"""

import math
from dataclasses import dataclass

from keras3conv.messages import count
from keras3conv.report.values import Plot, Series

WIDTH = 960.0
"""The width of a drawing, in units of its SVG view box."""

_LEFT, _RIGHT, _TOP, _SCALE, _STRIP = 64.0, 14.0, 14.0, 220.0, 24.0
_NAMED_LABELS = 20  # with more labels the axis shows numbers, because names would overlap
_NAME_LENGTH = 20
_MOST_TICKS = 7
_COLORS = 5
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick of an axis: its position in the drawing and its label."""

    place: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A measured value: its position in the drawing, and its tooltip.

    `edge` is True for zeros, NaN and infinity, which the log scale does not have: they are drawn at an edge of the
    drawing.
    """

    x: float
    y: float
    text: str
    edge: bool
    failed: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series in a drawing: the SVG path through its values, and a dot for each value.

    The noise floor (torch's own rounding error) has a filled area, but no dots; the limit has neither.
    """

    name: str
    style: str
    path: str
    area: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The geometry of a plot for the HTML template, in units of an SVG view box."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    named: bool
    zero: float | None
    infinite: float | None
    failed: tuple[float, ...]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Scale:
    """The vertical scale of a plot: maps values to y positions in the drawing.

    The log scale goes from the exponent `low` to `high` of ten. Zeros are in a strip below it, NaN and infinity above
    it.
    """

    low: int
    high: int
    top: float
    has_zero: bool
    labels: int

    @property
    def bottom(self) -> float:
        return self.top + _SCALE

    @property
    def edge(self) -> float:
        """The y position of the bottom edge of the drawing, where zeros are drawn."""
        return self.bottom + (_STRIP if self.has_zero else 0.0)

    def x(self, place: int) -> float:
        inner = WIDTH - _LEFT - _RIGHT - 20
        share = place / (self.labels - 1) if self.labels > 1 else 0.5
        return round(_LEFT + 10 + inner * share, 1)

    def y(self, value: float) -> float:
        if not math.isfinite(value):
            return _TOP
        if value == 0:
            return self.edge
        return self.height(math.log10(value))

    def height(self, power: float) -> float:
        """Return the y position of a power of ten. The argument is the exponent: the power itself could overflow."""
        return round(self.bottom - _SCALE * (power - self.low) / (self.high - self.low), 1)


def draw(plot: Plot) -> Drawing:
    """Return the geometry of a plot for the HTML page."""
    values = _values_of(plot)
    low, high = _decades(values)
    infinite = any(not math.isfinite(value) for value in values)
    scale = _Scale(low, high, _TOP + (_STRIP if infinite else 0.0), 0.0 in values, len(plot.labels))
    named = len(plot.labels) <= _NAMED_LABELS
    step = max(1, math.ceil((high - low) / _MOST_TICKS))
    measured = [series for series in plot.series if series.is_measured]
    styles = {id(series): f"line{number % _COLORS}" for number, series in enumerate(measured)}
    columns = _columns(plot, scale, named)
    judged_by = {id(series): "limit" if series.is_limit else "floor" for series in plot.series}
    lines = [_line(plot, series, scale, (judged_by | styles)[id(series)]) for series in plot.series]
    return Drawing(
        width=WIDTH,
        height=scale.edge + (_room(columns) if named else 42),
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=scale.top,
        bottom=scale.edge,
        rows=tuple(Tick(place=scale.height(power), text=_power(power)) for power in range(high, low - 1, -step)),
        columns=columns,
        named=named,
        zero=scale.edge if scale.has_zero else None,
        infinite=_TOP if infinite else None,
        failed=tuple(scale.x(place) for place in plot.failed),
        lines=tuple(lines),
        remarks=remarks_on(plot),
    )


def _values_of(plot: Plot) -> list[float]:
    """Return the measured values of all series."""
    return [value for series in plot.series for value in series.values if value is not None]


def _decades(values: list[float]) -> tuple[int, int]:
    positive = [value for value in values if 0 < value < math.inf]
    if not positive:
        return -8, 0
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return (low, high) if high - low > 1 else (low - 1, low + 1)


def _power(power: int) -> str:
    return "1" if power == 0 else "10" + str(power).translate(_SUPERSCRIPTS)


def _columns(plot: Plot, scale: _Scale, named: bool) -> tuple[Tick, ...]:
    number = len(plot.labels)
    if named:
        return tuple(Tick(place=scale.x(place), text=_short(name)) for place, name in enumerate(plot.labels))
    sizes = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    step = next(size for size in sizes if number <= 12 * size)
    places = [0, *range(step - 1, number, step)]
    return tuple(Tick(place=scale.x(place), text=str(place + 1)) for place in dict.fromkeys(places))


def _room(names: tuple[Tick, ...]) -> float:
    """Return the height of the space below the x axis for the layer names, which are rotated by 38 degrees."""
    return 28 + 4.0 * max((len(tick.text) for tick in names), default=0)


def _short(name: str) -> str:
    """Return "…" and the end of a long name, as the names of neighbouring layers differ at the end."""
    return name if len(name) <= _NAME_LENGTH else "…" + name[1 - _NAME_LENGTH :]


def _line(plot: Plot, series: Series, scale: _Scale, style: str) -> Line:
    runs = _runs(series, scale)
    return Line(
        name=series.name,
        style=style,
        path=" ".join(map(_path, runs)),
        area=" ".join(_area(run, scale.bottom) for run in runs) if series.is_floor else "",
        dots=_dots(plot, series, scale) if series.is_measured else (),
    )


def _runs(series: Series, scale: _Scale) -> list[list[tuple[float, float]]]:
    """Return the points of a series as one list for each sequence of adjacent finite, positive values.

    A single value becomes a short dash.
    """
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(series.values):
        if value is not None and 0 < value < math.inf:
            runs[-1].append((scale.x(place), scale.y(value)))
        elif runs[-1]:
            runs.append([])
    return [_dash(*run[0]) if len(run) == 1 else run for run in runs if run]


def _dash(x: float, y: float) -> list[tuple[float, float]]:
    return [(x - 3, y), (x + 3, y)]


def _area(run: list[tuple[float, float]], bottom: float) -> str:
    return f"{_path([(run[0][0], bottom), *run, (run[-1][0], bottom)])} Z"


def _path(points: list[tuple[float, float]]) -> str:
    """Return the SVG path that connects points with lines."""
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points)


def _dots(plot: Plot, series: Series, scale: _Scale) -> tuple[Dot, ...]:
    failed = set(plot.failed)
    return tuple(
        Dot(
            x=scale.x(place),
            y=scale.y(value),
            text=f"{label}: {'0, bit-identical' if value == 0 else format(value, '.3g')}",
            edge=value == 0 or not math.isfinite(value),
            failed=place in failed or not math.isfinite(value),
        )
        for place, (label, value) in enumerate(zip(plot.labels, series.values, strict=True))
        if value is not None
    )


def remarks_on(plot: Plot, zero: str = "bottom edge", infinite: str = "top edge") -> tuple[str, ...]:
    """Return remarks on the values that the scale does not have.

    Args:
        plot: The plot.
        zero: The mark of a difference of zero in the drawing.
        infinite: The mark of a value that is not finite.
    """
    values = [value for series in plot.series if series.is_measured for value in series.values]
    remarks = []
    zeros = values.count(0.0)
    if zeros and zeros == len(values):
        remarks.append(f"every difference is zero ({count(zeros, 'value')})")
    elif zeros:
        remarks.append(f"{zero}: a difference of zero ({zeros:,} of {count(len(values), 'value')})")
    if odd := sum(value is not None and not math.isfinite(value) for value in values):
        remarks.append(f"{infinite}: not finite ({count(odd, 'value')})")
    if gaps := values.count(None):
        remarks.append(f"{count(gaps, 'value')} missing: the table notes why")
    return tuple(remarks)
