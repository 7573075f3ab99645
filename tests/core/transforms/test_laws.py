"""Laws of the transforms, checked on random cases, and the errors for wrong patterns and shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

from keras3conv.errors import TransformError
from keras3conv.transforms import (
    Arrays,
    Axes,
    Beside,
    Blocks,
    Chain,
    Concat,
    Diagonal,
    Dilate,
    Drop,
    Each,
    Fill,
    Lead,
    Same,
    Shapes,
    Shift,
    Skip,
    Split,
    Spread,
    Stack,
    Sum,
    Take,
    Thin,
    Transform,
    Trim,
    Unstack,
)
from tests.support.transform_cases import NAMESPACE, Case, cases, seeds


def values(given_shapes: Shapes, seed: int, dtype: str = "float32") -> Arrays:
    """Return random arrays that contain both zeros and a subnormal number."""
    random = np.random.default_rng(seed)
    choices = np.array([0.0, -0.0, 1e-40, 3.5], dtype)
    return tuple(
        np.where(random.random(shape) < 0.2, random.choice(choices, shape), random.normal(size=shape).astype(dtype))
        for shape in given_shapes
    )


def bits(arrays: Arrays) -> list[tuple[Any, ...]]:
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]


@given(cases, seeds)
def test_inverse_then_transform_keeps_the_bits_of_every_result(case: Case, seed: int) -> None:
    transform, given_shapes = case
    results = transform(values(given_shapes, seed))
    assert bits(transform(transform.inverse(results))) == bits(results)


@given(cases, seeds)
def test_transform_then_inverse_keeps_the_bits_if_lossless(case: Case, seed: int) -> None:
    transform, given_shapes = case
    assume(transform.lossless)
    arrays = values(given_shapes, seed)
    assert bits(transform.inverse(transform(arrays))) == bits(arrays)


@given(cases)
def test_the_inverse_of_the_inverse_equals_the_transform(case: Case) -> None:
    assert case[0].inverse.inverse == case[0]


@given(cases, seeds)
def test_shapes_without_data_equal_the_shapes_of_the_results(case: Case, seed: int) -> None:
    transform, given_shapes = case
    results = transform(values(given_shapes, seed))
    assert transform.shapes(given_shapes) == tuple(array.shape for array in results)
    assert all(isinstance(array, np.ndarray) for array in results)


@given(cases)
def test_repr_is_the_constructor_call(case: Case) -> None:
    assert eval(repr(case[0]), NAMESPACE) == case[0]  # noqa: S307 - the text comes from this test


@given(cases, seeds)
def test_arguments_are_not_modified(case: Case, seed: int) -> None:
    arrays = values(case[1], seed)
    before = bits(arrays)
    case[0](arrays)
    assert bits(arrays) == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_dtype_is_preserved(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for transform in (Axes("a b -> b a"), Take(0, (1, 0)), Split(0, (1, 1)), Chain(Spread(2), Sum(2)), Spread(3)):
        assert {array.dtype for array in transform((np.ones((2, 3), kind),))} == {kind}


def test_a_pattern_permutes_the_axes() -> None:
    kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    (moved,) = Axes("o i h w -> h w i o")((kernel,))
    assert moved[4, 6, 2, 1] == kernel[1, 2, 4, 6]


def test_a_bracket_merges_axes_in_row_major_order() -> None:
    (moved,) = Axes("(c m) 1 w -> w c m", m=2)((np.arange(6 * 5).reshape(6, 1, 5),))
    assert moved.shape == (5, 3, 2)
    assert moved[4, 1, 0] == (1 * 2 + 0) * 5 + 4


def test_take_reorders_blocks() -> None:
    (taken,) = Take(0, (2, 0, 1))((np.arange(6),))
    assert taken.tolist() == [4, 5, 0, 1, 2, 3]


def test_split_and_unstack_return_the_parts_in_order() -> None:
    first, second = Split(1, (1, 2))((np.arange(6).reshape(2, 3),))
    assert first.tolist() == [[0], [3]]
    assert second.tolist() == [[1, 2], [4, 5]]
    assert [part.tolist() for part in Unstack(-1, 2)((np.arange(4).reshape(2, 2),))] == [[0, 2], [1, 3]]


def test_sum_is_lossy_and_its_inverse_fills_the_first_array() -> None:
    assert not Sum(2).lossless
    assert not Chain(Sum(2), Same()).lossless
    assert Spread(2).lossless
    (total,) = Sum(2)((np.array([1.0, 2.0]), np.array([0.5, 0.25])))
    assert total.tolist() == [1.5, 2.25]
    assert [array.tolist() for array in Spread(2)((total,))] == [[1.5, 2.25], [0.0, 0.0]]


def test_spread_preserves_the_sign_of_zero() -> None:
    zeros = np.array([0.0, -0.0])
    (total,) = Sum(2)(Spread(2)((zeros,)))
    assert np.signbit(total).tolist() == [False, True]


VIEWS: list[tuple[Transform, Shapes]] = [
    (Axes("o i h w -> h w i o"), ((2, 3, 4, 5),)),
    (Axes("(c m) 1 w -> w c m", m=2), ((6, 1, 5),)),
    (Axes("a b c -> (a b) c", a=2, b=3), ((2, 3, 4),)),
    (Same(), ((2, 3), (4,))),
    (Split(0, (2, 1)), ((3, 4),)),
    (Unstack(1, 3), ((2, 3),)),
    (Unstack(0, 3), ((3,),)),
    (Each(Axes("o i -> i o")), ((2, 3), (2, 3))),
    (Chain(Split(0, (1, 2)), Each(Axes("o i -> i o"))), ((3, 4),)),
]


@pytest.mark.parametrize(("transform", "given_shapes"), VIEWS, ids=lambda value: str(value)[:40])
def test_results_are_views_where_possible(transform: Transform, given_shapes: Shapes) -> None:
    arrays = values(given_shapes, 0)
    results = transform(arrays)
    assert all(any(np.shares_memory(result, array) for array in arrays) for result in results)


REFUSED: list[tuple[Callable[[], Transform], str]] = [
    (lambda: Axes("o i -> o"), "i occurs on one side of the pattern only"),
    (lambda: Axes("o -> o i"), "i occurs on one side of the pattern only"),
    (lambda: Axes("o o -> o o"), "the name of an axis occurs twice on one side"),
    (lambda: Axes("o i"), "has no '->' between its two sides"),
    (lambda: Axes("a -> b -> a"), "unexpected '-'"),
    (lambda: Axes("(a b -> a b"), "a bracket in the pattern '(a b -> a b' is not closed"),
    (lambda: Axes("a) b -> a b"), "unexpected ')'"),
    (lambda: Axes("((a b)) -> a b", a=1), "unexpected '('"),
    (lambda: Axes("(a 1) -> a"), "unexpected '1'"),
    (lambda: Axes("a ... -> ... a"), "unexpected '.'"),
    (lambda: Axes("A B -> B A"), "unexpected 'A'"),
    (lambda: Axes("(a b) -> b a"), "give the size of a or b"),
    (lambda: Axes("b a -> (a b)"), "give the size of a or b"),
    (lambda: Axes("a b -> b a", c=2), "gives a size for c, but its pattern has no such axis"),
    (lambda: Axes("(a b) -> b a", a=0), "the size of a is 0"),
    (lambda: Take(0, (0, 0, 1)), "its order must contain each of 0 ... "),
    (lambda: Take(0, (1, 2)), "its order must contain each of 0 ... "),
    (lambda: Take(0, ()), "at least one array"),
    (lambda: Split(0, ()), "at least one array"),
    (lambda: Split(0, (3, -1)), "a size is negative"),
    (lambda: Concat(0, (3, -1)), "a size is negative"),
    (lambda: Stack(0, 0), "at least one array"),
    (lambda: Unstack(0, 0), "at least one array"),
    (lambda: Sum(0), "at least one array"),
    (lambda: Spread(0), "at least one array"),
    (lambda: Shift(0), "changes nothing"),
    (lambda: Skip(0, 0), "changes nothing"),
    (lambda: Trim(0, 0), "changes nothing"),
    (lambda: Lead(0, 0), "changes nothing"),
    (lambda: Dilate(0, 1), "changes nothing"),
    (lambda: Thin(0, 1), "changes nothing"),
    (lambda: Diagonal(0, 0, 2), "needs two different axes and at least two groups"),
    (lambda: Blocks(0, 1, 1), "needs two different axes and at least two groups"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_the_constructor_rejects_a_transform_without_an_inverse(make: Callable[[], Transform], message: str) -> None:
    with pytest.raises(TransformError) as caught:
        make()
    assert message in str(caught.value)


MISFITS: list[tuple[Transform, Shapes, str]] = [
    (Axes("a b -> b a"), ((2, 3, 4),), "takes an array with 2 axes, but this one has 3, with the shape (2, 3, 4)"),
    (Axes("a 1 -> a"), ((2, 3),), "does not fit shape (2, 3): the size of '1' is 3, not 1"),
    (Axes("(a b) -> a b", b=4), ((6,),), "does not fit shape (6,): the size of 'a b' is 6, not a multiple of 4"),
    (Axes("(a b) -> a b", a=2, b=4), ((6,),), "does not fit shape (6,): the size of 'a b' is 6, not 8"),
    (Axes("a -> a"), ((2,), (2,)), "takes 1 array, not 2"),
    (Take(0, (1, 0)), ((3,),), "the size of axis 0, 3, is not a multiple of 2"),
    (Take(2, (1, 0)), ((2, 2),), "there is no axis 2"),
    (Split(0, (1, 1)), ((3,),), "axis 0 has size 3, not 2"),
    (
        Concat(0, (1, 1)),
        ((1,), (2,)),
        "does not fit shapes (1,), (2,): the arrays cannot be joined: their sizes along axis 0 must be (1, 1)",
    ),
    (Concat(0, (1, 1)), ((1, 2), (1, 3)), "does not fit shapes (1, 2), (1, 3)"),
    (Concat(0, (1, 1)), ((1,),), "takes 2 arrays, not 1"),
    (Stack(0, 2), ((1,), (2,)), "the shapes must be equal"),
    (Stack(3, 2), ((1,), (1,)), "there is no axis 3"),
    (Unstack(0, 2), ((3,),), "axis 0 has size 3, not 2"),
    (Sum(2), ((1,), (2,)), "the shapes must be equal"),
    (Beside(Split(0, (1, 1))), ((2,),), "makes 2 arrays from one array"),
    (Beside(Same()), ((2,), (2,)), "takes 1 array, not 2"),
    (Each(Split(0, (1, 1))), ((2,),), "makes 2 arrays from one array"),
    (Skip(0, 2), ((2, 3),), "it leaves out 2 elements of axis 0, which has only 2"),
    (Diagonal(0, 1, 2), ((3, 2),), "the size of axis 0, 3, is not a multiple of 2"),
    (Diagonal(0, -2, 2), ((2, 2),), "rows and columns are the same axis"),
    (Blocks(0, 1, 2), ((2, 3),), "the size of axis 1, 3, is not a multiple of 2"),
    (Thin(0, 2), ((4,),), "the size of axis 0, 4, is not one more than a multiple of 2"),
    (Drop(1, (3,)), ((4,),), "does not fit shape (4,): the array to remove must have shape (3,)"),
    (Fill(1, (3,)), ((3,),), "takes 0 arrays, not 1"),
]


@pytest.mark.parametrize(("transform", "given_shapes", "message"), MISFITS, ids=[case[2] for case in MISFITS])
def test_wrong_shapes_are_rejected_with_and_without_data(
    transform: Transform, given_shapes: Shapes, message: str
) -> None:
    for call in (lambda: transform.shapes(given_shapes), lambda: transform(values(given_shapes, 0))):
        with pytest.raises(TransformError) as caught:
            call()
        assert message in str(caught.value)


def test_equivalent_spellings_of_a_pattern_are_equal() -> None:
    assert Axes("o  i->i o") == Axes("o i -> i o") == Axes("(o) i -> i (o)")
    assert Axes("o i->i o").inverse.inverse == Axes("o i->i o")
