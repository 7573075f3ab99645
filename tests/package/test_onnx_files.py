"""Two untrusted ONNX files are run in subprocesses and compared."""

import contextlib
import io
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError
from keras3conv.validators.onnx import child
from keras3conv.validators.onnx import compare_files as onnx_files
from keras3conv.validators.onnx.compare_files import Limits, compare_files
from tests.support.onnx_models import WEIGHT, external, model, saved


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the program of the subprocess in this process; to start it takes longer than all that these tests compare."""

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = child.main(command[command.index(child.__name__) + 1 :])
        return subprocess.CompletedProcess(command, status, "", said.getvalue())

    monkeypatch.setattr(child, "_limit_memory", lambda size: None)
    monkeypatch.setattr(onnx_files, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))


def test_a_file_agrees_with_itself_and_with_an_equivalent_graph(tmp_path: Path) -> None:
    halves = model(
        WEIGHT,
        helper.make_node("Transpose", ["weight"], ["turned"]),
        helper.make_node("Gemm", ["x", "turned"], ["product"], transB=1),
        helper.make_node("Tanh", ["product"], ["y"]),
    )
    first, second = saved(tmp_path / "first.onnx"), saved(tmp_path / "second.onnx", halves)
    report = k3c.compare_onnx(first, second)
    report.raise_if_failed()
    assert report.sections[0].summary in (
        "1 output agrees: bit-identical",
        "1 output agrees: at most 1 x the noise floor (8 x allowed)",
    )
    assert report.sections[0].facts["first"] == "first.onnx, written by an unnamed producer, opset 20"


def test_a_changed_weight_exceeds_the_measured_noise_floor(tmp_path: Path) -> None:
    wrong = WEIGHT.copy()
    wrong[0, 0] += 1e-5
    report = k3c.compare_onnx(saved(tmp_path / "a.onnx"), saved(tmp_path / "b.onnx", model(wrong)))
    assert not report.ok
    assert re.search(r"y: .* x the noise floor of [\d.]+e-0[789]", report.sections[0].problems[0].fact)


def graph(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], **stored: Any) -> onnx.ModelProto:
    """Return a model with inputs by name and shape, in float32; a pair of dtype and shape sets another dtype."""
    given = []
    for name, shape in inputs.items():
        dtype, sizes = shape if isinstance(shape, tuple) else (TensorProto.FLOAT, shape)
        given.append(helper.make_tensor_value_info(name, dtype, sizes))
    returned = [helper.make_empty_tensor_value_info(name) for name in outputs]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    made = helper.make_graph(nodes, "graph", given, returned, tensors)
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(made, opset_imports=domains, ir_version=10)
    return onnx.shape_inference.infer_shapes(proto)


def convolution(*, last: bool, sizes: list[Any], weight: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """Return a model of a convolution, for images with channels last or first."""
    nodes = [helper.make_node("Conv", ["t" if last else "x", "weight"], ["c" if last else "y"], pads=[1] * 4)]
    if last:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]))
    return graph(nodes, {"x": sizes}, ["y"], weight=weight)


KERNEL = np.random.default_rng(4).standard_normal((3, 3, 3, 3)).astype(np.float32)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("sizes", [[2, 3, 5, 7], ["n", 3, "h", "w"], ["n", 3, 3, 3]])
def test_images_are_converted_into_the_layout_of_the_second_file(tmp_path: Path, sizes: list[Any]) -> None:
    first = saved(tmp_path / "first.onnx", convolution(last=False, sizes=sizes, weight=KERNEL))
    moved = [2, 5, 7, 3] if "h" in sizes else [sizes[0], *sizes[2:], sizes[1]]
    last = saved(tmp_path / "last.onnx", convolution(last=True, sizes=moved, weight=KERNEL))
    if sizes[1:] == [3, 3, 3]:  # the layouts have equal shapes: the array is not converted
        assert not k3c.compare_onnx(first, last).ok
        return
    k3c.compare_onnx(first, last).raise_if_failed()
    report = k3c.compare_onnx(last, first)
    report.raise_if_failed()
    assert (
        report.sections[0].facts["inputs"]
        == "last.onnx <-> first.onnx: x <-> x (channels moved first), matched by name"
    )
    wrong = saved(tmp_path / "wrong.onnx", convolution(last=True, sizes=moved, weight=KERNEL[:, :, ::-1].copy()))
    assert not k3c.compare_onnx(wrong, first).ok


def weighted(inputs: list[str], outputs: list[str], *, turned: bool = False) -> onnx.ModelProto:
    """Return a model of weighted table rows and their sum; with `turned`, inputs and outputs are in reverse order."""
    nodes = [
        helper.make_node("Gather", ["table", inputs[0]], ["rows"]),
        helper.make_node("Cast", [inputs[1]], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], [outputs[0]]),
        helper.make_node("ReduceSum", [outputs[0], "middle"], [outputs[1]], keepdims=0),
    ]
    table = np.random.default_rng(2).standard_normal((9, 4)).astype(np.float32)
    order = slice(None, None, -1) if turned else slice(None)
    given = {name: (TensorProto.INT64, ["n", 6]) for name in inputs[order]}
    return graph(nodes, given, outputs[order], table=table, last=np.array([2]), middle=np.array([1]))


@pytest.mark.usefixtures("in_this_process")
def test_inputs_in_another_order_are_matched_by_name_and_outputs_of_other_names_by_shape(tmp_path: Path) -> None:
    first = saved(tmp_path / "first.onnx", weighted(["tokens", "weights_of"], ["each", "sum"]))
    second = saved(tmp_path / "second.onnx", weighted(["tokens", "weights_of"], ["a", "b"], turned=True))
    random = np.random.default_rng(3)
    inputs = {name: random.integers(0, 9, (3, 6)) for name in ("weights_of", "tokens")}
    report = k3c.compare_onnx(first, second, inputs)
    report.raise_if_failed()
    facts = report.sections[0].facts
    assert (
        facts["inputs"] == "first.onnx <-> second.onnx: tokens <-> tokens, weights_of <-> weights_of, matched by name"
    )
    assert facts["outputs"] == "first.onnx <-> second.onnx: each <-> a, sum <-> b, matched by shape"


@pytest.mark.usefixtures("in_this_process")
def test_a_dynamic_batch_size_is_taken_from_the_other_file(tmp_path: Path) -> None:
    one = model()
    one.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    first, second = saved(tmp_path / "free.onnx"), saved(tmp_path / "one.onnx", one)
    report = k3c.compare_onnx(first, second)
    report.raise_if_failed()
    assert report.notes[0].startswith("random inputs of shape (1, 6)")


def test_a_random_file_is_skipped(tmp_path: Path) -> None:
    noisy = model(
        WEIGHT,
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    )
    path = saved(tmp_path / "noisy.onnx", noisy)
    section = k3c.compare_onnx(path, path).sections[0]
    assert section.status == "skipped"
    assert section.reason == "noisy.onnx draws random numbers: its output y changes when the file is run again"


@pytest.mark.usefixtures("in_this_process")
def test_a_float16_file_passes_by_its_own_noise_or_by_a_tolerance(tmp_path: Path) -> None:
    half = model(WEIGHT.astype(np.float16))
    for entry in (*half.graph.input, *half.graph.output):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT16
    narrow, wide = saved(tmp_path / "half.onnx", half), saved(tmp_path / "wide.onnx")
    k3c.compare_onnx(narrow, wide).raise_if_failed()
    assert not k3c.compare_onnx(wide, narrow).ok
    report = k3c.compare_onnx(wide, narrow, tolerance=k3c.Tolerance(absolute=0.0, relative=1e-2))
    report.raise_if_failed()
    assert report.sections[0].facts["tolerance"] == "the caller's: 0 absolute and 0.01 of the largest value"


@pytest.mark.usefixtures("in_this_process")
def test_a_float64_run_with_other_values_is_not_used_as_noise_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = onnx_files._run

    def otherwise(path: Path, arrays: Any, mode: str, limits: Limits) -> Any:
        found = run(path, arrays, mode, limits)
        return {name: value * 1.01 for name, value in found.items()} if mode == "float64" else found

    monkeypatch.setattr(onnx_files, "_run", otherwise)
    first, second = saved(tmp_path / "a.onnx"), saved(tmp_path / "b.onnx", model(WEIGHT * np.float32(1.001)))
    section = compare_files(first, second).sections[0]
    assert section.status == "skipped"
    assert "onnxruntime differ in y of a.onnx by 0.0099 of the largest value" in section.reason


def test_inputs_and_outputs_that_are_not_arrays_of_numbers_are_refused(tmp_path: Path) -> None:
    one = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": (TensorProto.STRING, [2])}, ["y"])
    with pytest.raises(
        InputError,
        match=r"text.onnx: the input x takes strings, but only files whose inputs are arrays of numbers can be",
    ):
        k3c.compare_onnx(saved(tmp_path / "text.onnx", one), saved(tmp_path / "plain.onnx"))
    rows = model(WEIGHT, helper.make_node("SplitToSequence", ["x"], ["y"], axis=0))
    rows.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    path = saved(tmp_path / "rows.onnx", rows)
    section = k3c.compare_onnx(path, path).sections[0]
    assert section.status == "skipped"
    assert (
        section.reason == "rows.onnx: the value y is a seq(tensor(float)), but only arrays of numbers can be compared"
    )


def test_files_with_different_inputs_are_refused(tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain.onnx")
    two = saved(tmp_path / "two.onnx", weighted(["tokens", "weights_of"], ["each", "sum"]))
    with pytest.raises(InputError, match=r"plain.onnx takes 1 \(x float32 .*\) and two.onnx takes 2 \(tokens int64 "):
        k3c.compare_onnx(plain, two)
    image = saved(tmp_path / "image.onnx", convolution(last=False, sizes=[2, 3, 5, 7], weight=KERNEL))
    with pytest.raises(InputError, match=r"x of shape \(2, 6\) does not fit x float32 \(2, 3, 5, 7\) of image.onnx"):
        k3c.compare_onnx(plain, image)


@pytest.mark.usefixtures("in_this_process")
def test_inputs_are_required_if_random_ones_cannot_be_made(tmp_path: Path) -> None:
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    path = saved(tmp_path / "free.onnx", proto)
    with pytest.raises(InputError, match="give inputs="):
        k3c.compare_onnx(path, path)
    k3c.compare_onnx(path, path, np.ones((1, 6), np.float32)).raise_if_failed()
    k3c.compare_onnx(path, path, {"x": np.ones((1, 6), np.float32)}).raise_if_failed()
    noted = k3c.compare_onnx(path, path, {"z": np.ones((1, 6), np.float32)})
    assert "the input 'z' was given to 'x'" in noted.notes  # an only array can only belong to the only input
    with pytest.raises(InputError, match=r"free.onnx takes the inputs x, but x, z are given"):
        k3c.compare_onnx(path, path, dict.fromkeys("xz", np.ones((1, 6), np.float32)))


def test_external_weights_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", external(tmp_path))
    k3c.compare_onnx(path, saved(tmp_path / "inside.onnx")).raise_if_failed()


def test_a_file_that_never_ends_is_stopped_and_skipped(tmp_path: Path) -> None:
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
    assert report.sections[0].reason == "endless.onnx ran for more than 3 seconds, which is the limit"


def test_a_file_that_needs_too_much_memory_is_stopped_and_skipped(tmp_path: Path) -> None:
    proto = model(
        WEIGHT,
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([20_000, 20_000]), "shape"))
    path = saved(tmp_path / "huge.onnx", proto)
    report = compare_files(path, path, limits=Limits(memory=1 << 30))
    assert report.sections[0].status == "skipped"
    assert "huge.onnx" in report.sections[0].reason


@pytest.mark.usefixtures("in_this_process")
def test_without_a_noise_floor_only_bit_identical_outputs_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert section.reason == "the noise floor is unknown: planted"


@pytest.mark.usefixtures("in_this_process")
def test_the_command_line_returns_the_exit_status_of_the_comparison(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from keras3conv.cli.commands import app

    same, other = saved(tmp_path / "a.onnx"), saved(tmp_path / "b.onnx", model(WEIGHT + 1))
    runner = CliRunner()
    assert runner.invoke(app, ["compare-onnx", str(same), str(same)]).exit_code == 0
    assert runner.invoke(app, ["compare-onnx", str(same), str(other)]).exit_code == 1
    assert runner.invoke(app, ["compare-onnx", str(same), str(tmp_path / "none.onnx")]).exit_code == 2
