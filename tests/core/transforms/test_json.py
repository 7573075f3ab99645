"""JSON form of the transforms: one frozen form per class, errors for other data, new classes without a reader."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from keras3conv.errors import TransformError
from keras3conv.transforms import (
    Array,
    Arrays,
    Axes,
    Beside,
    Blocks,
    Chain,
    ComplexParts,
    Concat,
    Copies,
    Diagonal,
    Dilate,
    Drop,
    Each,
    Equal,
    Fill,
    FromComplexParts,
    Lead,
    Same,
    Shape,
    Shapes,
    Shift,
    Skip,
    Split,
    Spread,
    Stack,
    Sum,
    Take,
    Thin,
    Trail,
    Transform,
    Trim,
    Unstack,
    from_json,
)
from keras3conv.transforms.base import OneArray
from tests.support.transform_cases import Case, cases

FORMS: list[tuple[Transform, dict[str, Any]]] = [
    (Axes("o i -> i o"), {"axes": "o i -> i o"}),
    (Axes("(a b) -> b a", a=2), {"axes": "(a b) -> b a", "sizes": {"a": 2}}),
    (Same(), {"same": True}),
    (ComplexParts(), {"complexparts": True}),
    (FromComplexParts(), {"fromcomplexparts": True}),
    (Take(0, (1, 0)), {"take": [1, 0], "axis": 0}),
    (Split(1, (2, 3)), {"split": [2, 3], "axis": 1}),
    (Concat(1, (2, 3)), {"concat": [2, 3], "axis": 1}),
    (Stack(0, 2), {"stack": 2, "axis": 0}),
    (Unstack(0, 2), {"unstack": 2, "axis": 0}),
    (Sum(2), {"sum": 2}),
    (Spread(2), {"spread": 2}),
    (Copies(2), {"copies": 2}),
    (Equal(3), {"equal": 3}),
    (Shift(-1), {"shift": -1}),
    (Skip(0, 2), {"skip": 2, "axis": 0}),
    (Lead(0, 2), {"lead": 2, "axis": 0}),
    (Trim(0, 2), {"trim": 2, "axis": 0}),
    (Trail(0, 2), {"trail": 2, "axis": 0}),
    (Diagonal(2, 3, 4), {"diagonal": 4, "rows": 2, "columns": 3}),
    (Blocks(2, 3, 4), {"blocks": 4, "rows": 2, "columns": 3}),
    (Dilate(0, 2), {"dilate": 2, "axis": 0}),
    (Thin(0, 2), {"thin": 2, "axis": 0}),
    (Drop(1, (4, 3)), {"drop": 1, "shape": [4, 3]}),
    (Fill(0, ()), {"fill": 0, "shape": []}),
    (Chain(), {"chain": []}),
    (Chain(Same(), Sum(2)), {"chain": [{"same": True}, {"sum": 2}]}),
    (Each(Axes("o i -> i o")), {"each": {"axes": "o i -> i o"}}),
    (Beside(Same(), Shift(1)), {"beside": [{"same": True}, {"shift": 1}]}),
]


@pytest.mark.parametrize(("transform", "form"), FORMS, ids=lambda value: str(value)[:40])
def test_the_json_form_of_every_class_is_frozen(transform: Transform, form: dict[str, Any]) -> None:
    assert json.dumps(transform.to_json()) == json.dumps(form)
    assert from_json(form) == transform
    assert repr(from_json(form)) == repr(transform)


@given(cases)
def test_reading_the_written_json_returns_an_equal_transform(case: Case) -> None:
    transform = from_json(json.loads(json.dumps(case[0].to_json())))
    assert transform == case[0]
    assert hash(transform) == hash(case[0])


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
        {"transform": True},
        {"onearray": True},
    ],
    ids=str,
)
def test_data_that_is_not_the_form_of_a_transform_is_rejected(data: Any) -> None:
    with pytest.raises(TransformError):
        from_json(data)


def test_the_error_for_an_unknown_form_lists_the_known_classes() -> None:
    with pytest.raises(TransformError) as caught:
        from_json({"rotate": 90})
    known = str(caught.value).partition("the known transforms are ")[2].split(", ")
    assert {next(iter(form)) for _, form in FORMS} <= {*known}
    assert not {"transform", "onearray"} & {*known}


@dataclass(frozen=True)
class Flip(OneArray):
    """A new transform that is its own inverse."""

    axes: tuple[int, ...]

    @property
    def inverse(self) -> "Flip":
        return self

    def _shape(self, shape: Shape) -> Shape:
        return shape

    def _apply(self, array: Array, shape: Shape) -> Array:
        return np.flip(array, self.axes)


@dataclass(frozen=True)
class Append(Transform):
    """A new transform whose inverse is the class that follows."""

    value: int
    inner: Transform

    def shapes(self, shapes: Shapes) -> Shapes:
        return (*self.inner.shapes(shapes), ())

    def __call__(self, arrays: Arrays) -> Arrays:
        return (*self.inner(arrays), np.array(self.value))


@dataclass(frozen=True)
class Removed(Transform, inverse_of=Append):
    value: int
    inner: Transform

    def shapes(self, shapes: Shapes) -> Shapes:
        return self.inner.inverse.shapes(shapes[:-1])

    def __call__(self, arrays: Arrays) -> Arrays:
        return self.inner.inverse(arrays[:-1])


NEW: list[tuple[Transform, dict[str, Any]]] = [
    (Flip((0, 1)), {"flip": [0, 1]}),
    (Append(3, Axes("a b -> b a")), {"append": {"axes": "a b -> b a"}, "value": 3}),
    (Chain(Flip((0,)), Append(1, Flip((1,)))), {"chain": [{"flip": [0]}, {"append": {"flip": [1]}, "value": 1}]}),
]


@pytest.mark.parametrize(("transform", "form"), NEW, ids=str)
def test_a_new_dataclass_needs_no_reader_and_no_writer(transform: Transform, form: dict[str, Any]) -> None:
    assert transform.to_json() == form
    assert from_json(json.loads(json.dumps(form))) == transform
    assert from_json(transform.inverse.to_json()) == transform.inverse


@pytest.mark.parametrize(("transform", "form"), NEW, ids=str)
def test_the_inverse_of_a_new_dataclass_is_derived(transform: Transform, form: dict[str, Any]) -> None:
    array = np.arange(6).reshape(2, 3)
    results = transform((array,))
    (back,) = transform.inverse(results)
    assert transform.inverse.inverse == transform
    assert transform.lossless
    assert back.tolist() == array.tolist()
    assert transform.shapes(((2, 3),)) == tuple(result.shape for result in results)
    assert transform.inverse.shapes(transform.shapes(((2, 3),))) == ((2, 3),)


def test_the_classes_of_a_pair_are_the_inverses_of_each_other() -> None:
    assert Append(1, Same()).inverse == Removed(1, Same())
    assert Removed(1, Same()).inverse == Append(1, Same())


def test_a_class_without_an_inverse_explains_what_to_define() -> None:
    @dataclass(frozen=True)
    class Unpaired(OneArray):
        def _shape(self, shape: Shape) -> Shape:
            return shape

        def _apply(self, array: Array, shape: Shape) -> Array:
            return array

    with pytest.raises(
        TransformError,
        match=(
            r"has no inverse: define the property `inverse` in Unpaired, or define the inverse as a class: "
            r"class UnUnpaired\(Transform, inverse_of=Unpaired\)"
        ),
    ):
        _ = Unpaired().inverse


def test_a_field_of_a_type_without_a_json_form_is_named() -> None:
    @dataclass(frozen=True)
    class Scale(Same):
        factor: complex

    with pytest.raises(TransformError, match="has the type <class 'complex'>, which cannot be written as JSON"):
        from_json({"scale": 2})


def test_a_second_class_of_the_same_name_is_rejected() -> None:
    with pytest.raises(TransformError, match="two transform classes have the name Take"):
        type("Take", (Same,), {})
    assert from_json({"take": [0], "axis": 0}) == Take(0, (0,))
