"""The line of Keras code for a torch call: a comment names the call if none is known; an unknown axis is left open."""

from typing import Any, cast

import numpy as np
import pytest

from keras3conv.frameworks.torch.calls import Operation
from keras3conv.validators.diagnosis.suspects.base import Case, KerasSide, Point, TorchSide
from keras3conv.validators.diagnosis.suspects.in_keras import cropped, in_keras

IMAGE = (2, 4, 6, 8)


def line(
    name: str, result: tuple[int, ...], *, value: tuple[int, ...] = (2, 3), kind: str = "", **arguments: Any
) -> str:
    """Return the line for a call that is before the layer b, where Keras has a value of a certain shape."""
    found = operation(name, result, **arguments)
    return in_keras(case(value, kind), found)


def operation(name: str, result: tuple[int, ...], **arguments: Any) -> Operation:
    key = cast(Any, ("", name, 0))
    return Operation(key=key, place=0, name=name, owner="", arguments={"input": IMAGE} | arguments, result=result)


def case(value: tuple[int, ...], kind: str = "") -> Case:
    torch = TorchSide(
        value=np.zeros(value),
        operations=(),
        operations_before=(),
        upstream=(),
        classes={"b": kind},
        flattened=None,
        tensor_shapes={},
        read=lambda path: np.zeros(1),
    )
    keras = KerasSide(value=np.zeros(value), config={}, configs=())
    return Case(
        point=Point(torch_path="b", keras_path="b", in_layer=False),
        torch=torch,
        keras=keras,
        rerun=lambda changes: None,
    )


@pytest.mark.parametrize(
    ("name", "result", "arguments"),
    [
        ("interpolate", (2, 4, 12, 16), {"mode": "bilinear", "align_corners": True}),
        ("interpolate", (2, 4, 12, 16), {"mode": "bicubic"}),
        ("interpolate", (2, 4, 9, 12), {"mode": "bilinear"}),
        ("pad", (2, 4, 8, 10), {"pad": [1, 1, 1, 1], "mode": "replicate", "kind": "torch.nn.Conv2d"}),
        ("pad", (2, 4, 8, 10), {"pad": [1, 1, 1, 1]}),
        ("pad", (2, 4, 4, 6), {"pad": [-1, -1, -1, -1], "kind": "torch.nn.Conv2d"}),
        ("avg_pool2d", (2, 4, 4, 5), {"kernel_size": 3, "padding": 1, "ceil_mode": True, "stride": 2}),
        ("max_pool2d", (2, 4, 2, 4), {"kernel_size": 3, "dilation": 2, "stride": 1}),
        ("adaptive_avg_pool2d", (2, 4, 2, 2), {"output_size": 2}),
        ("normalize", (2, 3), {"input": (2, 3), "p": 1.0}),
        ("einsum", (2, 3), {}),
    ],
)
def test_a_call_without_a_known_line_is_named_in_a_comment(
    name: str, result: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    assert line(name, result, **arguments).startswith(f"# before b, as in torch: {name}(")


@pytest.mark.parametrize(
    ("name", "result", "value", "arguments", "code"),
    [
        ("softmax", IMAGE, (2, 6, 8, 4), {"dim": 1}, "keras.ops.softmax(x, axis=3)"),
        ("softmax", IMAGE, (2, 6, 8, 4), {"dim": -1}, "keras.ops.softmax(x, axis=2)"),
        ("softmax", IMAGE, IMAGE, {"dim": 1}, "keras.ops.softmax(x, axis=1)"),
        ("softmax", IMAGE, (2, 3), {"dim": 1}, "keras.ops.softmax(x, axis=...)"),
        ("mean", (2, 4), (2, 4), {"dim": [2, 3], "keepdim": True}, "keras.ops.mean(x, axis=(1, 2), keepdims=True)"),
        ("amax", (2, 8), (2, 8), {"dim": [1, 2], "kind": "torch.nn.Conv2d"}, "keras.ops.max(x, axis=(3, 1))"),
        ("roll", IMAGE, IMAGE, {"shifts": 1, "dims": 2}, "keras.ops.roll(x, 1, axis=2)"),
        ("hardtanh", (2, 3), (2, 3), {"min_val": -2.0, "max_val": 2.0}, "keras.ops.clip(x, -2.0, 2.0)"),
        ("clamp", (2, 3), (2, 3), {"min": 0.0, "max": 1.0}, "keras.ops.clip(x, 0.0, 1.0)"),
    ],
)
def test_an_axis_is_that_of_keras_or_left_open(
    name: str, result: tuple[int, ...], value: tuple[int, ...], arguments: dict[str, Any], code: str
) -> None:
    assert line(name, result, value=value, **arguments) == f"x = {code}  # before b"


def test_a_crop_that_would_add_values_is_named_in_a_comment() -> None:
    found = operation("conv_transpose2d", (2, 4, 14, 18), weight=(4, 4, 3, 3), stride=2, output_padding=1)
    assert cropped(case((2, 3)), found).startswith("# before b, as in torch: conv_transpose2d(")
