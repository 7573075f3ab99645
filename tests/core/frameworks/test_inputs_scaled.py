"""Measurements are scaled by the same factor on both sides; codes (indices, masks, time steps) are not scaled."""

import numpy as np

from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.inputs_scaled import nudged, resized, sizes_of
from keras3conv.transforms import Array

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5)).astype("float32")
TIMES = np.array([[999.0], [1.0]], "float32")
MASK = np.array([[0.0, -1e9, 0.0], [0.0, 0.0, -1e9]], "float32")
TOKENS = np.array([[3, 1, 4], [1, 5, 9]])


def last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def test_a_measurement_is_scaled_by_one_power_of_two_on_both_sides() -> None:
    made = resized(Inputs(torch=(PIXELS,), keras={"image": last(PIXELS)}, note=""), 2.0**-18)
    (ours,), theirs = made.torch, made.keras["image"]
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(last(ours), theirs)
    assert np.array_equal(ours * np.float32(2.0**25), PIXELS)
    assert 2.0**-19 < np.sqrt(np.mean(ours**2)) < 2.0**-17


def test_masks_time_steps_and_integers_are_not_scaled() -> None:
    given = Inputs(torch={"mask": MASK, "time": TIMES, "tokens": TOKENS}, keras=[MASK, TIMES, TOKENS], note="")
    made = resized(given, 2.0**-18)
    for before, ours, theirs in zip(given.keras, made.torch.values(), made.keras, strict=True):
        assert np.array_equal(before, ours)
        assert np.array_equal(before, theirs)
    assert sizes_of(given) == ()


def test_inputs_with_different_values_on_both_sides_are_not_scaled() -> None:
    made = resized(Inputs(torch=PIXELS, keras=last(PIXELS) / 255, note=""), 2.0**-18)
    assert np.array_equal(made.torch, PIXELS)
    assert np.array_equal(made.keras, last(PIXELS) / 255)


def test_inputs_are_matched_by_value_in_any_order() -> None:
    table = np.random.default_rng(1).standard_normal((2, 7))
    made = resized(Inputs(torch=(PIXELS, table), keras=[table, last(PIXELS)], note=""), 1.0)
    assert np.array_equal(made.torch[1], made.keras[0])
    assert np.array_equal(last(made.torch[0]), made.keras[1])
    assert not np.array_equal(made.torch[0], PIXELS)


def test_nudged_inputs_differ_by_the_factor() -> None:
    made = nudged(Inputs(torch=PIXELS, keras=last(PIXELS), note=""), 1.5)
    assert np.array_equal(made.torch, PIXELS * np.float32(1.5))
    assert np.array_equal(last(made.torch), made.keras)
