"""The outputs ("opinions") of torch, Keras and their ONNX files are grouped, and the one that disagrees is named."""

import numpy as np
import pytest

from keras3conv.validators.onnx.opinions import (
    KERAS,
    KERAS_ONNX,
    TORCH,
    TORCH_ONNX,
    Verdict,
    agreeing_groups,
    compare_opinions,
    suspected_part,
    who_disagrees,
)

ALL = (TORCH, KERAS, TORCH_ONNX, KERAS_ONNX)
TRUTH = np.linspace(0.1, 1.0, 40)


def verdicts_on(wrong: tuple[str, ...], by: float = 1e-3, names: tuple[str, ...] = ALL) -> list[Verdict]:
    """Return the verdicts if the wrong opinions differ by the same amount."""
    right = TRUTH.astype(np.float32)
    opinions = {name: right + np.float32(by) if name in wrong else right for name in names}
    return compare_opinions("y", opinions, right, TRUTH)


def disagreements(verdicts: list[Verdict]) -> int:
    return sum(not verdict.agrees for verdict in verdicts)


def test_four_equal_opinions_are_one_group() -> None:
    verdicts = verdicts_on(())
    assert (agreeing_groups(verdicts), disagreements(verdicts)) == ([ALL], 0)
    assert who_disagrees(verdicts) == "torch, Keras, ONNX of torch and ONNX of Keras agree"
    assert suspected_part(verdicts, {}) == ""


@pytest.mark.parametrize(
    ("wrong", "line", "look"),
    [
        (
            (KERAS_ONNX,),
            "ONNX of Keras disagrees with torch, Keras and ONNX of torch",
            "look at the exporter (tf2onnx 1) or at onnxruntime",
        ),
        ((TORCH_ONNX,), "ONNX of torch disagrees with torch, Keras and ONNX of Keras", "(dynamo) or at onnxruntime"),
        ((KERAS,), "Keras disagrees with torch, ONNX of torch and ONNX of Keras", "look at the Keras backend"),
        ((TORCH,), "torch disagrees with Keras, ONNX of torch and ONNX of Keras", "look at how torch runs the module"),
        (
            (KERAS, KERAS_ONNX),
            "Keras and ONNX of Keras disagree with torch and ONNX of torch",
            "each model agrees with its own export: the two models differ",
        ),
        (
            (TORCH_ONNX, KERAS_ONNX),
            "ONNX of torch and ONNX of Keras disagree with torch and Keras",
            "the two models agree: look at the exporters, or at onnxruntime",
        ),
    ],
)
def test_the_disagreement_is_one_line_and_points_at_the_suspected_part(
    wrong: tuple[str, ...], line: str, look: str
) -> None:
    verdicts = verdicts_on(wrong)
    assert who_disagrees(verdicts) == line
    assert suspected_part(verdicts, {KERAS_ONNX: "tf2onnx 1", TORCH_ONNX: "dynamo"}).endswith(look)


def test_a_missing_export_gives_no_suspected_part() -> None:
    verdicts = verdicts_on((KERAS,), names=(TORCH, KERAS, TORCH_ONNX))
    assert who_disagrees(verdicts) == "Keras disagrees with torch and ONNX of torch"
    assert suspected_part(verdicts, {}) == ""


def test_an_opinion_that_agrees_with_two_disagreeing_ones_gives_no_groups() -> None:
    right = TRUTH.astype(np.float32)
    step = np.float32(3e-7)
    opinions = {TORCH: right - step, KERAS: right, TORCH_ONNX: right, KERAS_ONNX: right + step}
    verdicts = compare_opinions("y", opinions, right, TRUTH)
    assert [(verdict.first, verdict.second) for verdict in verdicts if not verdict.agrees] == [(TORCH, KERAS_ONNX)]
    assert who_disagrees(verdicts) == "torch and ONNX of Keras disagree, by little more than the noise floor"
    assert suspected_part(verdicts, {}) == ""


def test_the_limit_is_the_measured_noise() -> None:
    assert disagreements(verdicts_on((KERAS,), by=1e-7)) == 0
    assert disagreements(verdicts_on((KERAS,), by=1e-6)) == 3


def test_an_output_of_another_shape_disagrees() -> None:
    right = TRUTH.astype(np.float32)
    (verdict,) = compare_opinions("y", {TORCH: right, KERAS: right[:, None]}, right, TRUTH)
    assert not verdict.agrees
    assert str(verdict) == "torch and Keras: the shapes differ: (40,) and (40, 1)"


def test_values_that_are_not_finite_prove_nothing() -> None:
    right = np.full(3, np.nan, np.float32)
    verdicts = compare_opinions("y", {TORCH: right, KERAS: right}, right, right.astype(np.float64))
    assert disagreements(verdicts) == 1
    assert who_disagrees(verdicts) == "the outputs contain NaN or infinity, so the comparison proves nothing"
