import numpy as np

from keras3conv.numerics.rows import has_equal_rows, in_row_order, row_order


def test_rows_are_found_in_any_order() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    other = rows.transpose(2, 0, 1, 3)
    order = row_order(rows, other)
    assert order is not None
    np.testing.assert_array_equal(in_row_order(rows, order, other.shape), other)


def test_rows_that_differ_in_one_value_have_no_order() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    other = rows.transpose(2, 0, 1, 3).copy()
    other[0, 0, 0, 0] += 0.1
    assert row_order(rows, other) is None


def test_values_that_are_exchanged_between_rows_have_no_order() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 5))
    other = rows.copy()
    other[[0, 1], 2] = rows[[1, 0], 2]
    assert row_order(rows, other) is None


def test_equal_rows_take_any_of_their_places() -> None:
    rows = np.repeat(np.random.default_rng(0).standard_normal((3, 5)), 2, axis=0)
    other = rows[::-1].reshape(2, 3, 5)
    order = row_order(rows, other)
    assert order is not None
    np.testing.assert_array_equal(in_row_order(rows, order, other.shape), other)


def test_an_array_with_other_rows_keeps_its_order() -> None:
    array = np.arange(12.0).reshape(2, 6)
    assert in_row_order(array, np.array([1, 0, 2]), (3, 4)) is array


def test_rows_whose_order_rounding_decides_are_recognised() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 4, 3))
    assert not has_equal_rows(rows)
    rows[1, 2] = rows[0, 1] * (1 + 1e-16)
    assert has_equal_rows(rows)
