"""Arrays are compared in blocks, in any memory layout, and every NaN is detected."""

import numpy as np
import pytest

from keras3conv.numerics.fingerprint import factor_between, fingerprint_of, has_nan, relative_error
from keras3conv.numerics.probe_values import Pool

SHAPE = (2, 48, 40, 36)
"""A shape with more numbers than three blocks."""


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE)


@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)])
def test_the_error_is_that_of_the_whole_arrays_in_every_layout(layout: tuple[int, ...]) -> None:
    expected = values().transpose(layout)
    found = np.array(values() + 1e-9 * values(1), order="C").transpose(layout)
    whole = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
    assert relative_error(found, expected) == whole
    assert relative_error(np.array(found, order="C"), expected) == whole


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 47, 39, 35), (1, 0, 20, 3)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_value_that_is_not_finite_makes_the_error_infinite(place: tuple[int, ...], bad: float) -> None:
    spoilt = values()
    spoilt[place] = bad
    assert relative_error(spoilt, values()) == np.inf
    assert relative_error(values(), spoilt) == np.inf
    assert has_nan(spoilt) == np.isnan(bad)


def test_one_different_value_is_found_anywhere() -> None:
    other = values()
    other[1, 47, 39, 35] += 1e-6
    assert relative_error(other, values()) == pytest.approx(1e-6 / np.max(np.abs(values())), rel=1e-6)


def test_the_error_of_different_shapes_and_of_empty_arrays_is_infinite() -> None:
    assert relative_error(np.ones((2, 3)), np.ones((3, 2))) == np.inf
    assert relative_error(np.ones((0, 3)), np.ones((0, 3))) == np.inf
    assert not has_nan(np.ones((0, 3)))


def test_booleans_integers_and_complex_numbers_are_compared() -> None:
    assert relative_error(np.array([True, False]), np.array([True, False])) == 0.0
    assert relative_error(np.array([3, 4]), np.array([3, 5])) == pytest.approx(0.2)
    assert relative_error(np.array([1 + 2j]), np.array([1 + 1j])) == pytest.approx(1 / np.sqrt(2))


def test_a_fingerprint_is_equal_in_every_layout_and_with_zero_padding() -> None:
    moved, padded = np.array(values().transpose(0, 2, 3, 1), order="C"), np.pad(values(), 1)
    assert fingerprint_of(values()).agrees(fingerprint_of(moved), 1e-12)
    assert fingerprint_of(values()).agrees(fingerprint_of(padded), 1e-12)
    assert not fingerprint_of(values()).agrees(fingerprint_of(values(1)), 1e-4)


def test_a_fingerprint_covers_the_whole_array() -> None:
    array = values()
    sums = fingerprint_of(array).sums
    assert sums == pytest.approx((array.sum(), (array**2).sum(), (array**3).sum()), rel=1e-9)


def test_a_fingerprint_reports_nan_values() -> None:
    spoilt = values()
    spoilt[1, 2, 3, 4] = np.nan
    assert fingerprint_of(spoilt).has_nan
    assert not fingerprint_of(values()).has_nan


def test_the_factor_between_two_arrays_is_found_in_every_layout() -> None:
    moved = np.array(-2.5 * values().transpose(0, 2, 3, 1), order="C")
    assert factor_between(moved, values().transpose(0, 2, 3, 1)) == pytest.approx(-2.5)
    assert factor_between(values(1), values()) is None
    assert factor_between(np.zeros(SHAPE), values()) is None


def test_a_single_number_is_no_multiple_of_another() -> None:
    assert factor_between(np.array([[3.0]]), np.array([[2.0]])) is None
    assert factor_between(np.array([[3.0, 6.0]]), np.array([[2.0, 4.0]])) == pytest.approx(1.5)


def test_no_two_tensors_of_a_pool_and_no_two_rows_are_equal() -> None:
    pool = Pool()
    first, second = pool.between(-1.0, 1.0, (2000, 1024)), pool.between(-1.0, 1.0, (2000, 1024))
    assert not np.any(first == second, axis=1).all()
    assert len(np.unique(first[:, 0])) > 1900
    assert len(np.unique(first[:, :4], axis=0)) == len(first)
    assert abs(first.mean()) < 1e-2
    assert first.min() >= -1.0


def test_a_pool_draws_values_between_its_limits() -> None:
    drawn = Pool().between(0.5, 1.5, (4000,))
    assert drawn.min() >= 0.5
    assert drawn.max() <= 1.5
    assert drawn.std() == pytest.approx(1 / np.sqrt(12), rel=0.1)
    assert Pool().between(-1.0, 1.0, ()).shape == ()
