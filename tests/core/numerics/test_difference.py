"""The comparison finds every difference, and values that prove nothing never pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras3conv.errors import InputError
from keras3conv.numerics import difference, parts
from keras3conv.numerics.difference import compare, resolution, same_bits
from keras3conv.numerics.judgement import (
    NOISE_FACTOR,
    Judgement,
    Tolerance,
    agreement,
    judge,
    judge_by_floor,
    worst_difference,
)
from keras3conv.transforms import Array

NAN, INFINITY = float("nan"), float("inf")


def float32(*values: float) -> np.ndarray:
    return np.array(values, "float32")


def test_equal_arrays_are_identical() -> None:
    diff = compare(float32(1, -2, 0), float32(1, -2, 0))
    assert diff.identical
    assert (diff.max_abs, diff.max_rel, diff.max_ulp, diff.scale) == (0, 0, 0, 2)
    assert str(diff) == "bit-identical (3 elements)"


def test_the_worst_element_is_found_and_counted() -> None:
    expected = np.zeros((2, 3))
    expected[0, 0] = -8
    actual = expected.copy()
    actual[1, 2], actual[0, 1] = 0.5, -0.25
    diff = compare(actual, expected)
    assert (diff.count, diff.differing, diff.max_abs, diff.max_rel, diff.worst) == (6, 2, 0.5, 0.0625, (1, 2))
    assert str(diff) == "2 of 6 elements differ (33.3 %), at most 0.5 (0.062 of the largest value) at (1, 2)"


def test_a_difference_from_zeros_has_no_infinite_share() -> None:
    diff = compare(float32(0, 0.1875), float32(0, 0))
    text = "1 of 2 elements differ (50 %), at most 0.188, where torch has only zeros, at (1,)"
    assert diff.described("torch") == text
    assert str(diff) == text.replace("torch", "the other side")


def test_relative_differences_are_relative_to_the_expected_side() -> None:
    assert compare(float32(3), float32(2)).max_rel == 0.5
    assert compare(float32(2), float32(3)).max_rel == pytest.approx(1 / 3)


@pytest.mark.parametrize("places", [1, 2, 7])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_distance_is_counted_in_units_in_the_last_place(dtype: str, places: int) -> None:
    one = np.ones(1, dtype)
    step = np.spacing(one)
    assert compare(one + places * step, one).max_ulp == places


def test_units_in_the_last_place_are_those_of_the_narrower_dtype() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = np.array([1 + 2**-7], ml_dtypes.bfloat16)
    assert compare(narrow, np.ones(1)).max_ulp == 1
    assert resolution(narrow) == 2**-7
    assert resolution(np.ones(1, "float32")) == 2**-23
    assert resolution(np.ones(1, "int8")) == 0


@pytest.mark.parametrize(("actual", "expected"), [(NAN, 1.0), (1.0, NAN), (INFINITY, 1.0), (1.0, -INFINITY)])
def test_a_value_that_is_finite_on_one_side_only_has_an_infinite_distance(actual: float, expected: float) -> None:
    diff = compare(float32(0, actual), float32(0, expected))
    assert (diff.differing, diff.nonfinite, diff.max_abs, diff.max_rel, diff.max_ulp) == (1, 1, *[INFINITY] * 3)
    assert diff.worst == (1,)


def test_opposite_infinities_have_an_infinite_distance() -> None:
    assert compare(float32(INFINITY), float32(-INFINITY)).max_abs == INFINITY


def test_two_nans_are_equal_and_are_counted_as_nonfinite() -> None:
    diff = compare(float32(NAN, INFINITY, 1), float32(NAN, INFINITY, 1))
    assert diff.identical
    assert diff.nonfinite == 2
    assert diff.scale == 1


def test_zeros_of_different_sign_differ_with_distance_zero() -> None:
    diff = compare(float32(1, -0.0), float32(1, 0.0))
    assert not diff.identical
    assert (diff.differing, diff.max_abs, diff.worst) == (1, 0, (1,))


def test_comparing_different_shapes_raises_instead_of_broadcasting() -> None:
    with pytest.raises(InputError, match=r"array of shape \(3, 1\) cannot be compared with one of shape \(3,\)"):
        compare(np.ones((3, 1)), np.ones(3))
    with pytest.raises(InputError):
        compare(np.ones(1), np.array(1.0))


def test_arrays_without_elements_prove_nothing() -> None:
    with pytest.raises(InputError, match=r"empty arrays cannot be compared: both have shape \(0, 3\)"):
        compare(np.ones((0, 3)), np.ones((0, 3)))


def test_an_imaginary_part_is_not_dropped() -> None:
    with pytest.raises(InputError, match="complex128"):
        compare(np.ones(1) + 1j, np.ones(1))


def test_integers_that_float64_cannot_tell_apart_differ() -> None:
    diff = compare(np.array([2**53 + 1]), np.array([2**53]))
    assert (diff.differing, diff.max_abs) == (1, 1)
    assert compare(np.array([7, 2]), np.array([3, 2])).max_abs == 4


def test_booleans_are_compared_as_numbers() -> None:
    assert compare(np.array([True, False]), np.array([True, True])).max_abs == 1


def test_a_single_number_has_an_empty_index() -> None:
    assert compare(np.array(1.5), np.array(1.0)).worst == ()


@given(st.lists(st.floats(width=32), min_size=1), st.lists(st.floats(width=32), min_size=1))
def test_a_diff_is_identical_only_if_the_bits_are(left: list[float], right: list[float]) -> None:
    size = min(len(left), len(right))
    actual, expected = float32(*left[:size]), float32(*right[:size])
    canonical = [np.where(np.isnan(array), np.float32(NAN), array) for array in (actual, expected)]
    assert compare(actual, expected).identical == same_bits(*canonical)


@given(st.lists(st.floats(), min_size=1, max_size=40), st.lists(st.floats(), min_size=1, max_size=40))
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float32", "float64"), ("float64", "float64")])
def test_few_passes_over_finite_values_find_what_many_passes_find(
    dtypes: tuple[str, str], left: list[float], right: list[float]
) -> None:
    size = min(len(left), len(right))
    with np.errstate(over="ignore"):
        actual, expected = (
            np.array(values[:size]).astype(dtype) for values, dtype in zip((left, right), dtypes, strict=True)
        )
    found = difference._measure_finite(actual, expected, (0,))
    assert found in (None, difference._measure_any(actual, expected, (0,)))
    if found is None:
        with np.errstate(all="ignore"):
            assert not np.isfinite(actual.astype(np.float64) - expected).all()


@pytest.mark.parametrize("shape", [(90,), (7, 13), (3, 5, 2, 4), (2, 1, 60), (60, 1, 2)])
@pytest.mark.parametrize("axes", ["as they are", "reversed", "first last", "both first last"])
def test_the_parts_of_an_array_are_compared_as_the_whole(
    shape: tuple[int, ...], axes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    actual = generator.standard_normal(shape)
    expected = actual + 1e-3 * generator.standard_normal(shape)
    if axes == "reversed":
        expected = np.asfortranarray(expected)
    if "first last" in axes:
        expected = _with_first_axis_last_in_memory(expected)
    if axes == "both first last":
        actual = _with_first_axis_last_in_memory(actual)
    whole = compare(actual, expected)
    assert abs(actual - expected)[whole.worst] == whole.max_abs == abs(actual - expected).max()
    monkeypatch.setattr(parts, "PART", 8)
    assert compare(actual, expected) == whole
    for place in np.ndindex(*shape):
        other = actual.copy(order="K")
        other[place] += 1.0
        assert compare(other, actual).worst == place


def _with_first_axis_last_in_memory(array: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)


def test_same_bits_compares_dtype_shape_zero_signs_and_nan_payloads() -> None:
    ones = float32(1, 1)
    assert same_bits(ones, np.ones((2, 2), "float32")[:, 0])
    assert not same_bits(ones, ones.astype("float64"))
    assert not same_bits(ones, ones.reshape(1, 2))
    assert not same_bits(float32(0.0), float32(-0.0))
    quiet, other = np.array([0x7FC00000, 0x7FC00001], "uint32").view("float32")
    assert not same_bits(np.asarray(quiet), np.asarray(other))


def judged(deviation: float, noise: float = 2.0**-20) -> Judgement:
    """Return the judgement of a target at a given deviation from a source with a given noise."""
    source = np.array([1.0, 0.5], "float32")
    return judge(source + np.float32(deviation), source, source.astype("float64") - noise)


def test_a_deviation_below_the_noise_floor_passes() -> None:
    judgement = judged(2.0**-20)
    assert judgement.passed
    assert judgement.floor == pytest.approx(2.0**-20)
    assert judgement.ratio == pytest.approx(1)


def test_a_deviation_above_the_noise_floor_fails() -> None:
    judgement = judged(1e-4)
    assert not judgement.passed
    assert judgement.ratio is not None
    assert judgement.ratio > NOISE_FACTOR
    assert "x the noise floor of 9.5e-07 (8 x allowed)" in str(judgement)


def test_the_limit_is_the_factor_times_the_floor() -> None:
    assert judged(NOISE_FACTOR * 2.0**-20).passed
    assert not judged((NOISE_FACTOR + 1) * 2.0**-20).passed


def test_a_source_without_error_still_has_half_a_unit_of_noise() -> None:
    judgement = judged(0.0, noise=0.0)
    assert judgement.floor == 2.0**-24
    assert judgement.passed
    assert str(judgement) == "bit-identical"


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_nan_and_infinity_on_all_sides_prove_nothing(value: float) -> None:
    judgement = judge(float32(1, value), float32(1, value), np.array([1, value]))
    assert not judgement.passed
    assert str(judgement) == "values that are not finite: they prove nothing"


def test_a_float64_run_that_is_not_finite_gives_no_noise_floor() -> None:
    judgement = judge(float32(1, 500), float32(1, 2), np.array([1, NAN]))
    assert judgement.floor == INFINITY
    assert not judgement.passed


def test_a_judgement_of_nan_fails() -> None:
    assert not Judgement(deviation=NAN, floor=1.0).passed
    assert not Judgement(deviation=0.0, floor=NAN).passed


def test_zeros_pass_only_against_zeros() -> None:
    zeros = np.zeros(3, "float32")
    assert judge(zeros, zeros, zeros.astype("float64")).passed
    assert not judge(zeros + np.float32(1e-30), zeros, zeros.astype("float64")).passed


def test_outputs_that_differ_are_never_called_bit_identical() -> None:
    generous = Tolerance(absolute=1.0, relative=0.0)
    unmeasured = judge_by_floor(compare(float32(1.25), float32(1.0)), None, generous)
    measured = Judgement(deviation=2e-7, floor=1e-7, differing=1)
    signs = judge_by_floor(compare(float32(-0.0), float32(0.0)), 1e-7)
    equal = judge_by_floor(compare(float32(1.0), float32(1.0)), None, generous)
    assert worst_difference([unmeasured]) == "at most 0.25 apart, within the tolerance"
    assert worst_difference([measured, unmeasured]) == "at most 0.25 apart, within the tolerance"
    assert worst_difference([measured, signs]) == "at most 2 x the noise floor (8 x allowed)"
    assert worst_difference([signs]) == "at most 0 x the noise floor (8 x allowed)"
    assert worst_difference([equal, None]) == "bit-identical"


def test_an_agreement_without_an_error_is_exact() -> None:
    assert (agreement(0.0), agreement(2.2e-16)) == ("exactly", "to 2.2e-16")
