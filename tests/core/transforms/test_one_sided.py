"""Transforms of values that only one framework stores: zeros, constants, unused rows, and scales stored minus one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from keras3conv.errors import TransformError
from keras3conv.transforms import (
    Blocks,
    Diagonal,
    Dilate,
    Drop,
    Fill,
    Lead,
    Shift,
    Skip,
    Thin,
    Trail,
    Transform,
    Trim,
    from_json,
)

floats = arrays_of.arrays(np.float32, (5,), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(floats, st.sampled_from([1, -1, 3, 1000]))
def test_shift_rounds_a_value_only_once(values: np.ndarray, by: int) -> None:
    (shifted,) = Shift(by)((values,))
    (again,) = Shift(by)(Shift(by).inverse((shifted,)))
    assert again.tobytes() == shifted.tobytes()


def test_shift_is_lossy_in_both_directions() -> None:
    assert not Shift(1).lossless
    assert not Shift(1).inverse.lossless
    small = np.array([1e-9], np.float32)
    (back,) = Shift(1).inverse(Shift(1)((small,)))
    assert back[0] == 0


def test_shift_computes_16_bit_numbers_in_float32() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.array([0.01], ml_dtypes.bfloat16)
    (shifted,) = Shift(1)((value,))
    assert shifted.dtype == np.float32
    assert shifted[0] == np.float32(1) + np.float32(value[0])
    assert Shift(1)((np.ones(1, np.float64),))[0].dtype == np.float64


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_shift_rejects_dtypes_that_are_not_floating_point(dtype: str) -> None:
    with pytest.raises(TransformError, match=f"takes floating-point numbers, not {dtype}"):
        Shift(1)((np.ones(2, dtype),))


def test_skip_removes_the_first_rows_and_its_inverse_inserts_zeros() -> None:
    table = np.arange(1, 9).reshape(4, 2)
    (kept,) = Skip(0, 1)((table,))
    assert kept.tolist() == [[3, 4], [5, 6], [7, 8]]
    assert not Skip(0, 1).lossless
    assert Lead(0, 1).lossless
    (back,) = Skip(0, 1).inverse((kept,))
    assert back.tolist() == [[0, 0], [3, 4], [5, 6], [7, 8]]


def test_trim_removes_the_last_rows_and_its_inverse_appends_zeros() -> None:
    table = np.arange(1, 9).reshape(4, 2)
    (kept,) = Trim(0, 1)((table,))
    assert kept.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert not Trim(0, 1).lossless
    assert Trail(0, 1).lossless
    (back,) = Trim(0, 1).inverse((kept,))
    assert back.tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]


def test_diagonal_places_each_group_in_its_own_block() -> None:
    kernel = np.arange(1, 9).reshape(4, 2)
    (whole,) = Diagonal(0, 1, 2)((kernel,))
    assert whole.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]


def test_dilate_inserts_zeros_between_elements() -> None:
    (wide,) = Dilate(0, 3)((np.array([1, 2, 3]),))
    assert wide.tolist() == [1, 0, 0, 2, 0, 0, 3]


ZEROS: list[tuple[Transform, tuple[int, ...]]] = [(Blocks(0, 1, 2), (4, 6)), (Thin(1, 2), (3, 5))]


@pytest.mark.parametrize(("transform", "shape"), ZEROS, ids=str)
@pytest.mark.parametrize("value", [1.0, -0.0, np.nan])
def test_removing_a_value_that_is_not_zero_is_an_error(
    transform: Transform, shape: tuple[int, ...], value: float
) -> None:
    (stored,) = transform.inverse((np.ones(transform.shapes((shape,))[0], np.float32),))
    assert transform.inverse(transform((stored,)))[0].tobytes() == stored.tobytes()
    zeros = np.argwhere(stored == 0)
    stored[tuple(zeros[0])] = value
    with pytest.raises(TransformError, match="would lose 1 values that are not zero"):
        transform((stored,))


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_drop_removes_a_constant_array_and_fill_makes_it_again(value: int, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    drop = Drop(value, (2, 3))
    array = np.full((2, 3), value, kind)
    assert drop((array,)) == ()
    (made,) = drop.inverse(())
    assert made.astype(kind).tobytes() == array.tobytes()
    assert np.can_cast(made.dtype, kind, "safe")
    assert drop.inverse.inverse == drop
    assert drop.shapes(((2, 3),)) == ()
    assert Fill(value, (2, 3)).shapes(()) == ((2, 3),)
    for transform in (drop, drop.inverse):
        assert from_json(json.loads(json.dumps(transform.to_json()))) == transform


def test_drop_rejects_an_array_with_another_value() -> None:
    with pytest.raises(TransformError, match="would lose 1 values that are not 1"):
        Drop(1, (3,))((np.array([1, 1, 2]),))
