"""The laws of the transforms, driven by hypothesis."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

from keras3conv.errors import TransformError
from keras3conv.transforms import from_json
from keras3conv.transforms_axes import Axes
from keras3conv.transforms_base import Arrays, Shapes, Transform
from keras3conv.transforms_blocks import Concat, Split, Stack, Take, Unstack
from keras3conv.transforms_chain import Chain, Each, Same
from keras3conv.transforms_constant import Drop, Fill
from keras3conv.transforms_rows import Lead, Skip
from keras3conv.transforms_shift import Shift
from keras3conv.transforms_sums import Spread, Sum
from keras3conv.transforms_zeros import Blocks, Diagonal, Dilate, Thin
from tests.transform_cases import NAMESPACE, Case, cases, seeds


def values(given_shapes: Shapes, seed: int, dtype: str = "float32") -> Arrays:
    """Random bits, with both zeros among them."""
    random = np.random.default_rng(seed)
    choices = np.array([0.0, -0.0, 1e-40, 3.5], dtype)
    return tuple(
        np.where(random.random(shape) < 0.2, random.choice(choices, shape), random.normal(size=shape).astype(dtype))
        for shape in given_shapes
    )


def bits(arrays: Arrays) -> list[tuple[Any, ...]]:
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]


@given(cases, seeds)
def test_there_and_back_from_the_keras_side_gives_the_same_bits(case: Case, seed: int) -> None:
    transform, given_shapes = case
    results = transform(values(given_shapes, seed))
    assert bits(transform(transform.inverse(results))) == bits(results)


@given(cases, seeds)
def test_a_lossless_transform_gives_the_same_bits_from_the_torch_side_too(case: Case, seed: int) -> None:
    transform, given_shapes = case
    assume(transform.lossless)
    arrays = values(given_shapes, seed)
    assert bits(transform.inverse(transform(arrays))) == bits(arrays)


@given(cases)
def test_the_inverse_of_the_inverse_is_the_transform(case: Case) -> None:
    assert case[0].inverse.inverse == case[0]


@given(cases, seeds)
def test_shapes_are_known_without_data(case: Case, seed: int) -> None:
    transform, given_shapes = case
    results = transform(values(given_shapes, seed))
    assert transform.shapes(given_shapes) == tuple(array.shape for array in results)
    assert all(isinstance(array, np.ndarray) for array in results)


@given(cases)
def test_json_brings_an_equal_transform_back(case: Case) -> None:
    assert from_json(json.loads(json.dumps(case[0].to_json()))) == case[0]


@given(cases)
def test_the_repr_is_the_call_that_makes_it(case: Case) -> None:
    assert eval(repr(case[0]), NAMESPACE) == case[0]  # noqa: S307 - the text is this test's own


@given(cases)
def test_equal_transforms_have_equal_hashes(case: Case) -> None:
    assert hash(from_json(case[0].to_json())) == hash(case[0])


@given(cases, seeds)
def test_arguments_are_never_changed(case: Case, seed: int) -> None:
    arrays = values(case[1], seed)
    before = bits(arrays)
    case[0](arrays)
    assert bits(arrays) == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_every_dtype_is_kept(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for transform in (Axes("a b -> b a"), Take(0, (1, 0)), Split(0, (1, 1)), Chain(Spread(2), Sum(2)), Spread(3)):
        assert {array.dtype for array in transform((np.ones((2, 3), kind),))} == {kind}


def test_a_pattern_moves_axes_as_it_reads() -> None:
    kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    (moved,) = Axes("o i h w -> h w i o")((kernel,))
    assert moved[4, 6, 2, 1] == kernel[1, 2, 4, 6]


def test_a_bracket_is_row_major() -> None:
    (moved,) = Axes("(c m) 1 w -> w c m", m=2)((np.arange(6 * 5).reshape(6, 1, 5),))
    assert moved.shape == (5, 3, 2)
    assert moved[4, 1, 0] == (1 * 2 + 0) * 5 + 4


def test_take_puts_blocks_in_the_given_order() -> None:
    (taken,) = Take(0, (2, 0, 1))((np.arange(6),))
    assert taken.tolist() == [4, 5, 0, 1, 2, 3]


def test_split_and_unstack_take_parts_in_order() -> None:
    first, second = Split(1, (1, 2))((np.arange(6).reshape(2, 3),))
    assert first.tolist() == [[0], [3]]
    assert second.tolist() == [[1, 2], [4, 5]]
    assert [part.tolist() for part in Unstack(-1, 2)((np.arange(4).reshape(2, 2),))] == [[0, 2], [1, 3]]


def test_a_sum_says_that_it_is_lossy_and_goes_back_into_the_first() -> None:
    assert not Sum(2).lossless
    assert not Chain(Sum(2), Same()).lossless
    assert Spread(2).lossless
    (total,) = Sum(2)((np.array([1.0, 2.0]), np.array([0.5, 0.25])))
    assert total.tolist() == [1.5, 2.25]
    assert [array.tolist() for array in Spread(2)((total,))] == [[1.5, 2.25], [0.0, 0.0]]


def test_a_spread_zero_keeps_its_sign() -> None:
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
def test_nothing_is_copied_where_a_view_will_do(transform: Transform, given_shapes: Shapes) -> None:
    arrays = values(given_shapes, 0)
    results = transform(arrays)
    assert all(any(np.shares_memory(result, array) for array in arrays) for result in results)


REFUSED: list[tuple[Callable[[], Transform], str]] = [
    (lambda: Axes("o i -> o"), "i is on one side only"),
    (lambda: Axes("o -> o i"), "i is on one side only"),
    (lambda: Axes("o o -> o o"), "a name appears twice on one side"),
    (lambda: Axes("o i"), "there is no '->'"),
    (lambda: Axes("a -> b -> a"), "unexpected '-'"),
    (lambda: Axes("(a b -> a b"), "a bracket is not closed"),
    (lambda: Axes("a) b -> a b"), "unexpected ')'"),
    (lambda: Axes("((a b)) -> a b", a=1), "unexpected '('"),
    (lambda: Axes("(a 1) -> a"), "unexpected '1'"),
    (lambda: Axes("a ... -> ... a"), "unexpected '.'"),
    (lambda: Axes("A B -> B A"), "unexpected 'A'"),
    (lambda: Axes("(a b) -> b a"), "give the size of a or b"),
    (lambda: Axes("b a -> (a b)"), "give the size of a or b"),
    (lambda: Axes("a b -> b a", c=2), "a size is given for c, which is not in it"),
    (lambda: Axes("(a b) -> b a", a=0), "a has no elements"),
    (lambda: Take(0, (0, 0, 1)), "the order is not a permutation"),
    (lambda: Take(0, (1, 2)), "the order is not a permutation"),
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
    (lambda: Lead(0, 0), "changes nothing"),
    (lambda: Dilate(0, 1), "changes nothing"),
    (lambda: Thin(0, 1), "changes nothing"),
    (lambda: Diagonal(0, 0, 2), "needs two axes, and two groups or more"),
    (lambda: Blocks(0, 1, 1), "needs two axes, and two groups or more"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_reversed_is_refused_when_it_is_made(make: Callable[[], Transform], message: str) -> None:
    with pytest.raises(TransformError) as caught:
        make()
    assert message in str(caught.value)


MISFITS: list[tuple[Transform, Shapes, str]] = [
    (Axes("a b -> b a"), ((2, 3, 4),), "takes 2 axes, the array has 3: (2, 3, 4)"),
    (Axes("a 1 -> a"), ((2, 3),), "does not fit shape (2, 3): '1' is 3"),
    (Axes("(a b) -> a b", b=4), ((6,),), "does not fit shape (6,): 'a b' is 6"),
    (Axes("(a b) -> a b", a=2, b=4), ((6,),), "does not fit shape (6,): 'a b' is 6"),
    (Axes("a -> a"), ((2,), (2,)), "takes 1 arrays, not 2"),
    (Take(0, (1, 0)), ((3,),), "axis 0 is not a multiple of 2"),
    (Take(2, (1, 0)), ((2, 2),), "there is no axis 2"),
    (Split(0, (1, 1)), ((3,),), "axis 0 is not 2"),
    (Concat(0, (1, 1)), ((1,), (2,)), "does not fit shapes (1,), (2,)"),
    (Concat(0, (1, 1)), ((1, 2), (1, 3)), "does not fit shapes (1, 2), (1, 3)"),
    (Concat(0, (1, 1)), ((1,),), "takes 2 arrays, not 1"),
    (Stack(0, 2), ((1,), (2,)), "they differ"),
    (Stack(3, 2), ((1,), (1,)), "there is no axis 3"),
    (Unstack(0, 2), ((3,),), "axis 0 is not 2"),
    (Sum(2), ((1,), (2,)), "they differ"),
    (Each(Split(0, (1, 1))), ((2,),), "makes 2 arrays of one"),
    (Skip(0, 2), ((2, 3),), "nothing is left of axis 0"),
    (Diagonal(0, 1, 2), ((3, 2),), "axis 0 is not 2 groups"),
    (Diagonal(0, -2, 2), ((2, 2),), "axis 0 is not 2 groups"),
    (Blocks(0, 1, 2), ((2, 3),), "axis 1 is not 2 groups"),
    (Thin(0, 2), ((4,),), "axis 0 is no whole steps and one"),
    (Drop(1, (3,)), ((4,),), "does not fit shape (4,)"),
    (Fill(1, (3,)), ((3,),), "takes 0 arrays, not 1"),
]


@pytest.mark.parametrize(("transform", "given_shapes", "message"), MISFITS, ids=[case[2] for case in MISFITS])
def test_arrays_that_do_not_fit_are_refused_with_and_without_data(
    transform: Transform, given_shapes: Shapes, message: str
) -> None:
    for call in (lambda: transform.shapes(given_shapes), lambda: transform(values(given_shapes, 0))):
        with pytest.raises(TransformError) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "axes",
        [],
        {},
        {"rotate": 90},
        {"axes": "a b -> b a", "same": True},
        {"axes": 3},
        {"axes": "a b -> b a", "sizes": {"a": "2"}},
        {"take": "10", "axis": 0},
        {"take": [1, 0]},
        {"take": [1, 0], "axis": "0"},
        {"split": [1.5, 2], "axis": 0},
        {"stack": 2.0, "axis": 0},
        {"sum": "2"},
        {"chain": {"same": True}},
        {"chain": [{"same": True}, {"unknown": 1}]},
        {"each": "o i -> i o"},
        {"shift": 1.5},
        {"skip": 2},
        {"diagonal": 2, "rows": 0},
        {"drop": 1, "shape": "3"},
    ],
    ids=str,
)
def test_json_that_is_no_transform_is_refused(data: Any) -> None:
    with pytest.raises(TransformError):
        from_json(data)


def test_a_pattern_has_one_spelling() -> None:
    assert Axes("o  i->i o") == Axes("o i -> i o") == Axes("(o) i -> i (o)")
    assert Axes("o i->i o").inverse.inverse == Axes("o i->i o")
