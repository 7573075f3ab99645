"""ONNX files that somebody else made are run in a process of their own, and compared."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError
from keras3conv.validators import onnx_files
from keras3conv.validators.onnx_files import Limits, compare_files
from tests.onnx_models import WEIGHT, external, model, saved


def test_a_file_agrees_with_itself_and_with_another_order_of_the_same_sums(tmp_path: Path) -> None:
    halves = model(
        WEIGHT,
        helper.make_node("Transpose", ["weight"], ["turned"]),
        helper.make_node("Gemm", ["x", "turned"], ["product"], transB=1),
        helper.make_node("Tanh", ["product"], ["y"]),
    )
    first, second = saved(tmp_path / "first.onnx"), saved(tmp_path / "second.onnx", halves)
    report = k3c.compare_onnx(first, second)
    report.raise_if_failed()
    assert report.sections[0].summary.startswith("1 outputs agree: at most ")
    assert report.sections[0].facts["first"] == "first.onnx, of an unnamed producer, opset 20"


def test_another_weight_is_noticed_and_judged_by_the_noise_that_was_measured(tmp_path: Path) -> None:
    wrong = WEIGHT.copy()
    wrong[0, 0] += 1e-5
    report = k3c.compare_onnx(saved(tmp_path / "a.onnx"), saved(tmp_path / "b.onnx", model(wrong)))
    assert not report.ok
    assert re.search(r"y: .* x the noise floor of [\d.]+e-0[789]", report.sections[0].problems[0].fact)


def test_channels_that_are_last_in_the_second_file_are_moved_there(tmp_path: Path) -> None:
    def pooled(shape: list[int], axes: list[int]) -> onnx.ModelProto:
        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
            [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    first = saved(tmp_path / "first.onnx", pooled([2, 3, 5, 7], [2, 3]))
    second = saved(tmp_path / "second.onnx", pooled([2, 5, 7, 3], [1, 2]))
    k3c.compare_onnx(first, second).raise_if_failed()


def test_inputs_that_cannot_be_made_up_are_asked_for(tmp_path: Path) -> None:
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    path = saved(tmp_path / "free.onnx", proto)
    with pytest.raises(InputError, match="give inputs="):
        k3c.compare_onnx(path, path)
    k3c.compare_onnx(path, path, np.ones((1, 6), np.float32)).raise_if_failed()
    k3c.compare_onnx(path, path, {"x": np.ones((1, 6), np.float32)}).raise_if_failed()
    with pytest.raises(InputError, match="the first file takes x; given are z"):
        k3c.compare_onnx(path, path, {"z": np.ones((1, 6), np.float32)})


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", external(tmp_path))
    k3c.compare_onnx(path, saved(tmp_path / "inside.onnx")).raise_if_failed()


def test_what_never_ends_is_stopped_and_proves_nothing(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["again"]), helper.make_node("Tanh", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["rows", "columns"]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["rows", "columns"]),
        ],
    )
    proto = model(WEIGHT, helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "trips"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    path = saved(tmp_path / "endless.onnx", proto)
    report = compare_files(path, path, limits=Limits(seconds=3.0))
    assert report.sections[0].status == "skipped"
    assert report.sections[0].reason == "endless.onnx ran for more than 3 seconds"


def test_what_takes_all_memory_is_stopped_and_proves_nothing(tmp_path: Path) -> None:
    proto = model(
        WEIGHT,
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([100_000, 100_000]), "shape"))
    path = saved(tmp_path / "huge.onnx", proto)
    report = compare_files(path, path, limits=Limits(memory=2 << 30))
    assert report.sections[0].status == "skipped"
    assert "huge.onnx" in report.sections[0].reason


def test_without_a_noise_floor_nothing_is_green_but_what_is_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = onnx_files._run

    def narrow(path: Path, arrays: Any, mode: str, limits: Limits) -> Any:
        if mode == "float64":
            raise ModelError("planted")
        return run(path, arrays, mode, limits)

    monkeypatch.setattr(onnx_files, "_run", narrow)
    path, other = saved(tmp_path / "a.onnx"), saved(tmp_path / "b.onnx", model(WEIGHT * np.float32(1.000001)))
    assert compare_files(path, path).sections[0].summary == "bit-identical"
    section = compare_files(path, other).sections[0]
    assert section.status == "skipped"
    assert section.reason == "there is no noise floor to judge by: planted"


def test_the_command_line_compares_two_files_and_its_status_says_how(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from keras3conv.cli import app

    same, other = saved(tmp_path / "a.onnx"), saved(tmp_path / "b.onnx", model(WEIGHT + 1))
    runner = CliRunner()
    assert runner.invoke(app, ["compare-onnx", str(same), str(same)]).exit_code == 0
    assert runner.invoke(app, ["compare-onnx", str(same), str(other)]).exit_code == 1
    assert runner.invoke(app, ["compare-onnx", str(same), str(tmp_path / "none.onnx")]).exit_code == 2
