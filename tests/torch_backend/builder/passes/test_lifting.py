"""An argument of a block that follows from another one is written as a formula, not as one more argument."""

from typing import Any

import pytest

from keras3conv.builder.passes.lifting import Arguments
from keras3conv.builder.program.structure import Argument

FORMULAS: dict[str, tuple[str, list[Any], list[Any], str]] = {
    "a multiple": ("filters", [2, 3], [64, 96], "32 * filters"),
    "a quotient": ("filters", [64, 96], [2, 3], "filters // 32"),
    "a fraction": ("units", [96, 192], [128, 256], "4 * units // 3"),
    "a square": ("size", [2, 4], [4, 16], "size ** 2"),
    "an inverse root": ("units", [64, 100], [64**-0.5, 0.1], "units ** -0.5"),
    "the inverse root of a part": ("units", [48, 192], [0.25, 0.125], "(units // 3) ** -0.5"),
    "the root of a part": ("units", [16, 20], [2.0, 5**0.5], "(units // 4) ** 0.5"),
}

OTHERS: dict[str, tuple[str, list[Any], list[Any]]] = {
    "strides": ("strides", [1, 2], [64, 128]),
    "a kernel": ("kernel_size", [3, 5], [96, 160]),
    "a fraction with large numbers": ("units", [17, 34], [19, 38]),
    "another ratio": ("units", [2, 4], [3, 7]),
    "a number near an inverse root": ("units", [64, 100], [0.125, 0.1000001]),
    "negative numbers": ("units", [2, 4], [-2, -4]),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_value_that_follows_from_an_argument_is_a_formula(name: str) -> None:
    known, given, values, formula = FORMULAS[name]
    arguments = Arguments(with_multiples=True)
    arguments.of(given, "layer", known)
    assert arguments.of(values, "layer", "other") == Argument(formula)
    rows = zip(given, values, strict=True)
    assert all(eval(formula, {known: one}) == value for one, value in rows)  # noqa: S307 - our own text


@pytest.mark.parametrize("name", OTHERS)
def test_a_value_that_only_happens_to_fit_is_an_argument(name: str) -> None:
    known, given, values = OTHERS[name]
    arguments = Arguments(with_multiples=True)
    arguments.of(given, "layer", known)
    assert arguments.of(values, "layer", "other") == Argument("other")


def test_a_tuple_of_one_number_shares_its_argument() -> None:
    arguments = Arguments(with_multiples=True)
    assert arguments.of([(4,), (6,)], "layer", "units") == (Argument("units"),)
    assert arguments.of([4, 6], "layer", "other") == Argument("units")
