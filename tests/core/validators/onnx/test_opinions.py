import numpy as np
import pytest

from keras3conv.validators.onnx.opinions import (
    KERAS,
    KERAS_ONNX,
    TORCH,
    TORCH_ONNX,
    Verdict,
    groups,
    verdicts,
    where_to_look,
    who_disagrees,
)

ALL = (TORCH, KERAS, TORCH_ONNX, KERAS_ONNX)
TRUTH = np.linspace(0.1, 1.0, 40)


def asked(wrong: tuple[str, ...], by: float = 1e-3, names: tuple[str, ...] = ALL) -> list[Verdict]:
    """The verdicts when some opinions are off by the same amount."""
    right = TRUTH.astype(np.float32)
    opinions = {name: right + np.float32(by) if name in wrong else right for name in names}
    return verdicts("y", opinions, right, TRUTH)


def apart(found: list[Verdict]) -> int:
    return sum(not verdict.agrees for verdict in found)


def test_four_opinions_that_agree_are_one_group() -> None:
    found = asked(())
    assert (groups(found), apart(found)) == ([ALL], 0)
    assert who_disagrees(found) == "torch, Keras, ONNX of torch and ONNX of Keras agree"
    assert where_to_look(found, {}) == ""


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
def test_who_disagrees_with_whom_is_one_line_and_points_somewhere(wrong: tuple[str, ...], line: str, look: str) -> None:
    found = asked(wrong)
    assert who_disagrees(found) == line
    assert where_to_look(found, {KERAS_ONNX: "tf2onnx 1", TORCH_ONNX: "dynamo"}).endswith(look)


def test_nothing_is_said_of_an_export_that_there_is_not() -> None:
    found = asked((KERAS,), names=(TORCH, KERAS, TORCH_ONNX))
    assert who_disagrees(found) == "Keras disagrees with torch and ONNX of torch"
    assert where_to_look(found, {}) == ""


def test_who_agrees_with_two_that_are_too_far_apart_is_put_into_no_group() -> None:
    right = TRUTH.astype(np.float32)
    step = np.float32(3e-7)
    opinions = {TORCH: right - step, KERAS: right, TORCH_ONNX: right, KERAS_ONNX: right + step}
    found = verdicts("y", opinions, right, TRUTH)
    assert [(verdict.first, verdict.second) for verdict in found if not verdict.agrees] == [(TORCH, KERAS_ONNX)]
    assert who_disagrees(found) == "at the limit of what is noise disagree torch with ONNX of Keras"
    assert where_to_look(found, {}) == ""


def test_the_limit_is_the_measured_noise_and_no_tolerance() -> None:
    assert apart(asked((KERAS,), by=1e-7)) == 0
    assert apart(asked((KERAS,), by=1e-6)) == 3


def test_an_output_of_another_shape_disagrees() -> None:
    right = TRUTH.astype(np.float32)
    (verdict,) = verdicts("y", {TORCH: right, KERAS: right[:, None]}, right, TRUTH)
    assert not verdict.agrees
    assert str(verdict) == "torch and Keras: (40,) is not (40, 1)"


def test_values_that_are_not_finite_prove_nothing() -> None:
    right = np.full(3, np.nan, np.float32)
    found = verdicts("y", {TORCH: right, KERAS: right}, right, right.astype(np.float64))
    assert apart(found) == 1
    assert who_disagrees(found) == "the outputs hold values that are not finite, which prove nothing"
