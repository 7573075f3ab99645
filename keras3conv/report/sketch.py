"""Draw a plot as text: a row of block characters for every series."""

import math
from itertools import pairwise

from keras3conv.report.cells import visible
from keras3conv.report.plot import remarks_on
from keras3conv.report.values import Plot, Series

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 72
_LEAST_BLOCKS = 16


def sketch(plot: Plot, width: int = 110) -> list[str]:
    """Return a plot as lines of text: a heading, a row of block characters for every series, and remarks.

    The limit has no row: eight heights are too few to show by how much a difference stays below it.

    Args:
        plot: The plot.
        width: The largest width of a row; long names can make it wider, because a row has some blocks at least.
    """
    shown = [series for series in plot.series if not series.is_limit]
    values = [value for series in shown for value in series.values if value is not None]
    positive = [value for value in values if 0 < value < math.inf]
    scale = f"log scale from {min(positive):.2g} to {max(positive):.2g}" if positive else "log scale"
    lines = [f"{visible(plot.title)} ({visible(plot.unit)}, {scale})"]
    names = max((len(visible(series.name)) for series in shown), default=0)
    blocks = min(_WIDTH, max(_LEAST_BLOCKS, width - names - 4))
    lines += [f"  {visible(series.name):<{names}}  {_blocks(series, positive, blocks)}".rstrip() for series in shown]
    if remarks := remarks_on(plot, zero="·", infinite="×"):
        lines.append("  " + "; ".join(remarks))
    return lines


def _blocks(series: Series, positive: list[float], most: int) -> str:
    number = len(series.values)
    width = min(number, most)
    cuts = [round(place * number / width) for place in range(width + 1)] if width else []
    return "".join(_block(series.values[start:stop], positive) for start, stop in pairwise(cuts))


def _block(values: tuple[float | None, ...], positive: list[float]) -> str:
    """Return the block character whose height shows the largest of some values.

    Args:
        values: The values; None if one was not measured.
        positive: All positive values of the plot, which decide the height of a block.
    """
    known = [value for value in values if value is not None]
    if not known:
        return " "
    if any(not math.isfinite(value) for value in known):
        return "×"
    if max(known) == 0:
        return "·"
    low, high = math.log(min(positive)), math.log(max(positive))
    share = (math.log(max(known)) - low) / (high - low) if high > low else 0.0
    return _BLOCKS[round(share * (len(_BLOCKS) - 1))]
