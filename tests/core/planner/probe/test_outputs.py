"""Outputs are compared elementwise, in all memory layouts that a port may have."""

import numpy as np
import pytest

from keras3conv.planner.probe.outputs import compare_outputs
from keras3conv.transforms import Array

LIMIT = 1e-9
IMAGES = np.random.default_rng(0).standard_normal((2, 6, 6, 6))


@pytest.mark.parametrize(
    ("torch", "keras"),
    [
        (IMAGES, IMAGES),
        (IMAGES, np.moveaxis(IMAGES, 1, -1)),
        (IMAGES[:, :, :1, :1], IMAGES[:, :, 0, 0]),
        (IMAGES[:, :, 0, 0], IMAGES[:, None, None, :, 0, 0]),
        (IMAGES[:, :, 0, :4], np.moveaxis(IMAGES[:, :, 0, :4], 1, -1)),
    ],
)
def test_equal_outputs_in_a_known_layout_are_equal(torch: Array, keras: Array) -> None:
    assert compare_outputs({"0": torch}, {"0": keras}, LIMIT).result == "equal"


@pytest.mark.parametrize(
    "change",
    [
        lambda array: np.flip(array, 3),
        lambda array: np.flip(array, 1),
        lambda array: np.swapaxes(array, 2, 3),
        lambda array: np.roll(array, 1, 2),
        lambda array: -array,
    ],
)
def test_the_same_values_in_another_order_are_different(change: object) -> None:
    assert callable(change)
    comparison = compare_outputs({"0": change(IMAGES)}, {"0": np.moveaxis(IMAGES, 1, -1)}, LIMIT)
    assert comparison.result == "different"
    assert comparison.error > 0.1


def test_outputs_without_a_common_layout_are_not_compared() -> None:
    assert compare_outputs({"0": IMAGES}, {"0": IMAGES.reshape(2, -1)}, LIMIT).result == "unknown"
    assert compare_outputs({}, {"0": IMAGES}, LIMIT).result == "unknown"


def test_outputs_of_one_name_correspond_and_positions_are_matched_in_order() -> None:
    first, second = IMAGES[0], IMAGES[1]
    assert compare_outputs({"a": first, "b": second}, {"b": second, "a": first}, LIMIT).result == "equal"
    assert compare_outputs({"a": first, "b": second}, {"a": second, "b": first}, LIMIT).result == "different"
    assert compare_outputs({"0": first, "1": second}, {"0": second, "1": first}, LIMIT).result == "different"
    assert compare_outputs({"0": first, "1": second}, {"0": second}, LIMIT).result == "equal"


def test_masked_values_are_equal_where_both_are_infinite() -> None:
    masked = np.where(IMAGES > 1, -np.inf, IMAGES)
    assert compare_outputs({"0": masked}, {"0": masked.copy()}, LIMIT).result == "equal"
    assert compare_outputs({"0": masked}, {"0": IMAGES}, LIMIT).result == "different"
