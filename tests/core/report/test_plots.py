"""Plots of a report: drawn as SVG, and sketched in text."""

import math

import pytest

from keras3conv.report.plot import draw
from keras3conv.report.sketch import sketch
from keras3conv.report.values import Plot, Series


def plot(*values: float | None, name: str = "float32") -> Plot:
    labels = tuple(f"l{place}" for place in range(len(values)))
    return Plot(title="t", labels=labels, series=(Series(name=name, values=values),), unit="u")


def test_a_sketch_of_many_layers_keeps_the_worst_of_each_group() -> None:
    values = [1e-9] * 500
    values[300] = 1e-3
    row = sketch(plot(*values))[1].split()[-1]
    assert len(row) == 72
    assert row.count("█") == 1


def test_a_zero_is_drawn_at_the_bottom_edge_and_named_in_the_legend() -> None:
    drawing = draw(plot(1e-7, 0.0, 1e-6))
    assert drawing.zero == drawing.bottom == drawing.lines[0].dots[1].y
    assert drawing.remarks == ("bottom edge: a difference of zero (1 of 3 values)",)


def test_a_plot_without_a_difference_says_so() -> None:
    said = "every difference is zero (2 values)"
    assert draw(plot(0.0, 0.0)).remarks == (said,)
    assert sketch(plot(0.0, 0.0))[-1].strip() == said


def test_nan_and_infinity_are_drawn_at_the_top_edge_as_failures() -> None:
    drawing = draw(plot(1e-7, math.nan, math.inf))
    assert [dot.failed for dot in drawing.lines[0].dots] == [False, True, True]
    assert drawing.infinite == drawing.lines[0].dots[1].y < drawing.top
    assert drawing.remarks == ("top edge: not finite (2 values)",)


def test_a_plotted_line_has_a_gap_at_missing_values() -> None:
    drawing = draw(plot(1e-7, 1e-7, None, 1e-7, 1e-7))
    assert drawing.lines[0].path.count("M") == 2
    assert len(drawing.lines[0].dots) == 4


def test_larger_errors_are_drawn_higher_and_decades_have_equal_height() -> None:
    low, middle, high = (dot.y for dot in draw(plot(1e-9, 1e-6, 1e-3)).lines[0].dots)
    assert low > middle > high
    assert low - middle == pytest.approx(middle - high)


def test_the_noise_floor_is_an_area_without_dots() -> None:
    drawing = draw(plot(1e-7, 2e-7, name="noise floor of torch"))
    assert drawing.lines[0].style == "floor"
    assert drawing.lines[0].area.endswith("Z")
    assert drawing.lines[0].dots == ()


@pytest.mark.parametrize("values", [(), (0.0,), (None,), (1.0,), (5e-324, 1.7e308), (1e-7,) * 2, (math.inf,)])
def test_degenerate_plots_are_drawn_inside_their_frame(values: tuple[float | None, ...]) -> None:
    drawing = draw(plot(*values))
    for dot in drawing.lines[0].dots:
        assert 0 <= dot.y <= drawing.bottom
        assert drawing.left <= dot.x <= drawing.right
    assert all(0 <= tick.place <= drawing.bottom for tick in drawing.rows)
    assert sketch(plot(*values))


def limited(*limits: float | None) -> Plot:
    labels = tuple(f"l{place}" for place in range(len(limits)))
    series = (
        Series(name="difference", values=(1e-7,) * len(limits)),
        Series(name="limit: 8 x the noise floor", values=limits),
    )
    return Plot(title="t", labels=labels, series=series, unit="u")


def test_the_limit_is_a_line_of_its_own_without_dots_and_inside_the_drawing() -> None:
    drawing = draw(limited(8e-7, 8e-5))
    limit = drawing.lines[1]
    assert (limit.style, limit.area, limit.dots) == ("limit", "", ())
    heights = [float(point.split()[1]) for point in limit.path.removeprefix("M").split(" L")]
    assert drawing.top <= heights[1] < heights[0] < drawing.lines[0].dots[0].y <= drawing.bottom


def test_a_limit_of_zero_or_an_unknown_one_is_no_remark_on_the_differences() -> None:
    drawing = draw(limited(0.0, None))
    assert drawing.remarks == ()
    assert drawing.lines[1].path == ""


def test_a_sketch_has_no_row_for_the_limit() -> None:
    lines = sketch(limited(8e-7, 8e-5))
    assert len(lines) == 2
    assert lines[1].endswith("▁▁")
