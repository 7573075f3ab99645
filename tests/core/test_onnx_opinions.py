import numpy as np
import pytest

from keras3conv.validators.onnx_opinions import (
    KERAS,
    KERAS_ONNX,
    TORCH,
    TORCH_ONNX,
    groups,
    verdicts,
    where_to_look,
    who_disagrees,
)

ALL = (TORCH, KERAS, TORCH_ONNX, KERAS_ONNX)
TRUTH = np.linspace(0.1, 1.0, 40)


def asked(wrong: tuple[str, ...], by: float = 1e-3) -> tuple[list[tuple[str, ...]], list[str]]:
    """The groups when some opinions are off by the same amount, and the pairs that disagree."""
    right = TRUTH.astype(np.float32)
    opinions = {name: right + np.float32(by) if name in wrong else right for name in ALL}
    found = verdicts("y", opinions, right, TRUTH)
    return groups(ALL, found), [str(verdict) for verdict in found if not verdict.agrees]


def test_four_opinions_that_agree_are_one_group() -> None:
    made, apart = asked(())
    assert (made, apart) == ([ALL], [])
    assert who_disagrees(made) == "torch, Keras, ONNX of torch and ONNX of Keras agree"
    assert where_to_look(made, {}) == ""


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
    made, _ = asked(wrong)
    assert who_disagrees(made) == line
    assert where_to_look(made, {KERAS_ONNX: "tf2onnx 1", TORCH_ONNX: "dynamo"}).endswith(look)


def test_the_limit_is_the_measured_noise_and_no_tolerance() -> None:
    assert asked((KERAS,), by=1e-7)[1] == []
    assert len(asked((KERAS,), by=1e-6)[1]) == 3


def test_an_output_of_another_shape_disagrees() -> None:
    right = TRUTH.astype(np.float32)
    (verdict,) = verdicts("y", {TORCH: right, KERAS: right[:, None]}, right, TRUTH)
    assert not verdict.agrees
    assert str(verdict) == "torch and Keras: (40,) is not (40, 1)"


def test_values_that_are_not_finite_prove_nothing() -> None:
    right = np.full(3, np.nan, np.float32)
    (verdict,) = verdicts("y", {TORCH: right, KERAS: right}, right, right.astype(np.float64))
    assert not verdict.agrees
