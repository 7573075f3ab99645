"""Untrusted ONNX files that are malformed or unsafe are refused with a reason before they run."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, UnsafeCheckpoint
from keras3conv.validators.onnx import preflight as onnx_preflight
from keras3conv.validators.onnx.preflight import check_file
from tests.support.onnx_models import external, model, saved


@pytest.mark.parametrize(
    "location",
    ["../weights.bin", "/etc/hostname", "a/../../weights.bin", "C:\\weights.bin", "C:/x", "", "a\\..\\b", "w\0"],
)
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    path = saved(tmp_path / "model.onnx", external(tmp_path, location))
    with pytest.raises(
        UnsafeCheckpoint, match=r"initializer weight has its bytes in .* not a file in the model's folder"
    ):
        check_file(path)


def linked(folder: Path) -> None:
    (folder / "there").symlink_to(folder / "weights.bin")


def behind_a_link(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "there").write_bytes(bytes(96))
    (folder / "inner").symlink_to(folder / "real")


def with_two_names(folder: Path) -> None:
    os.link(folder / "weights.bin", folder / "there")


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "there")


@pytest.mark.parametrize(
    ("prepare", "location", "reason"),
    [
        (linked, "there", "which is a link, or in a linked folder"),
        (behind_a_link, "inner/there", "which is a link, or in a linked folder"),
        (with_two_names, "there", r"which is also stored under another name \(a hard link\)"),
        (a_pipe, "there", "not a regular file"),
    ],
)
def test_weights_outside_of_a_regular_file_are_refused(
    tmp_path: Path, prepare: Callable[[Path], None], location: str, reason: str
) -> None:
    path = saved(tmp_path / "model.onnx", external(tmp_path, location))
    prepare(tmp_path)
    with pytest.raises(UnsafeCheckpoint, match=reason):
        check_file(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-4"},
        {"offset": "40"},
        {"length": str(10**15)},
        {"length": "8"},
        {"length": ""},
        {"offset": "1e3"},
        {"offset": "9" * 30},
        {"__class__": "x"},
    ],
)
def test_a_wrong_offset_or_length_is_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    path = saved(tmp_path / "model.onnx", external(tmp_path, **entries))
    with pytest.raises(MalformedCheckpoint, match="initializer weight"):
        check_file(path)


def test_a_missing_external_file_is_refused_with_the_tensor_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", external(tmp_path, "gone.bin"))
    with pytest.raises(FileError, match=r"initializer weight has its bytes in gone.bin, which cannot be read"):
        check_file(path)


def test_two_tensors_on_the_same_bytes_are_refused(tmp_path: Path) -> None:
    proto = external(tmp_path)
    again = proto.graph.initializer.add()
    again.CopyFrom(proto.graph.initializer[0])
    again.name = "twin"
    with pytest.raises(MalformedCheckpoint, match=r"has its values in the same bytes of weights.bin as"):
        check_file(saved(tmp_path / "model.onnx", proto))


def in_an_attribute(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["constant"], value=tensor))


def in_a_sparse_initializer(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.dims.append(24)


def in_a_sparse_attribute(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = proto.graph.node.add(op_type="Constant", output=["constant"])
    node.attribute.add(name="sparse_value").sparse_tensor.values.CopyFrom(tensor)


def in_a_function(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    function = proto.functions.add(name="own", domain="own", output=["constant"])
    function.node.append(helper.make_node("Constant", [], ["constant"], value=tensor))


def in_an_inner_graph(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    inner = helper.make_graph([helper.make_node("Constant", [], ["constant"], value=tensor)], "inner", [], [])
    proto.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))


@pytest.mark.parametrize(
    "place", [in_an_attribute, in_a_sparse_initializer, in_a_sparse_attribute, in_a_function, in_an_inner_graph]
)
def test_external_data_of_other_tensors_than_initializers_is_refused(
    tmp_path: Path, place: Callable[[onnx.ModelProto, onnx.TensorProto], None]
) -> None:
    proto = model()
    place(proto, external(tmp_path).graph.initializer[0])
    with pytest.raises(
        UnsafeCheckpoint, match=("has its values in an external file, which is allowed only for initializers")
    ):
        check_file(saved(tmp_path / "model.onnx", proto))


def edit(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    proto = model()
    change(proto)
    return proto


def first(proto: onnx.ModelProto) -> Any:
    return proto.graph.initializer[0]


def calling(*pairs: tuple[str, str]) -> onnx.ModelProto:
    """Return a model with functions, each of which calls another."""
    proto = model()
    for name, called in pairs:
        function = proto.functions.add(name=name, domain="own", input=["a"], output=["b"])
        function.node.append(helper.make_node(called, ["a"], ["b"], domain="own"))
    return proto


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (
            model(opset=999),
            "imports the operator set 999, which is not supported; supported are the operator sets 7 to",
        ),
        (model(opset=1), "imports the operator set 1, which is not supported; supported are the operator sets 7 to"),
        (edit(lambda m: setattr(m, "ir_version", 99)), "has the ONNX format version 99"),
        (
            edit(lambda m: m.opset_import.add(domain="ai.onnx", version=20)),
            "imports the operator set of the default domain twice",
        ),
        (edit(lambda m: m.ClearField("opset_import")), "imports no operator set"),
        (edit(lambda m: m.graph.initializer.add().CopyFrom(first(m))), "has the initializer weight twice"),
        (
            edit(lambda m: setattr(first(m), "raw_data", b"12")),
            "initializer weight has 2 bytes of values, but its shape needs 96",
        ),
        (edit(lambda m: first(m).dims.append(-1)), "an array cannot have the shape"),
        (edit(lambda m: first(m).dims.extend([2**33, 2**33])), "initializer weight"),
        (edit(lambda m: first(m).float_data.append(1.0)), "has its values twice"),
        (
            edit(lambda m: setattr(first(m), "data_type", 99)),
            "initializer weight has the ONNX data type 99, which is not supported",
        ),
        (
            edit(lambda m: m.graph.node[1].input.__setitem__(0, "nobody")),
            "node tanh uses the value nobody, which no node before",
        ),
        (
            edit(lambda m: m.graph.node[0].input.__setitem__(0, "y")),
            "node product uses the value y, which no node before",
        ),
        (
            edit(lambda m: m.graph.node[1].output.__setitem__(0, "product")),
            "computes the value product, which exists already",
        ),
        (edit(lambda m: setattr(m.graph.output[0], "name", "z")), "returns the value z, which no node computes"),
        (
            edit(lambda m: setattr(m.graph.node[0], "domain", "evil")),
            "node product uses operators of the domain evil, which the file does not import",
        ),
        (edit(lambda m: setattr(m.graph.node[1], "op_type", "Nothing")), "onnx's checker says: "),
        (calling(("f", "g"), ("g", "f")), "function f calls itself"),
        (calling(("f", "f")), "function f calls itself"),
        (calling(("f", "Tanh"), ("f", "Tanh")), "defines the function own.f twice"),
    ],
)
def test_an_inconsistent_file_is_refused(tmp_path: Path, proto: onnx.ModelProto, reason: str) -> None:
    path = saved(tmp_path / "bad.onnx", proto)
    with pytest.raises((MalformedCheckpoint, BudgetExceeded), match=re.escape(reason)) as caught:
        check_file(path)
    assert "bad.onnx" in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff" * 200, b"PK\x03\x04" + bytes(100), b"\x08\x0a", b"#!/bin/sh\nexit 1\n"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(MalformedCheckpoint, match=r"other.onnx is not an ONNX file"):
        check_file(path)


def test_a_file_too_large_for_protobuf_is_refused_with_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(BudgetExceeded, match="save its weights with save_as_external_data=True"):
        check_file(path)


def test_deeply_nested_graphs_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "leaf", [], [])
    content = graph.SerializeToString()
    proto = model()
    inner = proto.graph.node.add(op_type="If", name="deep").attribute.add(name="then_branch")
    for _ in range(60):
        inner = inner.g.node.add(op_type="If").attribute.add(name="then_branch")
    inner.g.ParseFromString(content)
    with pytest.raises(MalformedCheckpoint, match="is not an ONNX file"):
        check_file(saved(tmp_path / "deep.onnx", proto))


def test_every_truncation_of_a_file_raises_file_error(tmp_path: Path) -> None:
    whole = model().SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError):
            onnx_preflight.check_file(path)


def functions_that_call_each_other(count: int) -> Any:
    """Return a model with functions that each call the previous one twice: 2 ** count nodes."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [helper.make_node("Tanh", ["a"], ["b"])], opsets)]
    for number in range(1, count):
        calls = [helper.make_node(f"f{number - 1}", [one], [other], domain="own") for one, other in ("ac", "cb")]
        functions.append(helper.make_function("own", f"f{number}", ["a"], ["b"], calls, opsets))
    made = model(
        onnx.numpy_helper.to_array(model().graph.initializer[0]),
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node(f"f{count - 1}", ["product"], ["y"], domain="own"),
        functions=functions,
    )
    made.opset_import.append(helper.make_opsetid("own", 1))
    return made


def test_functions_that_expand_to_millions_of_nodes_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", functions_that_call_each_other(26))
    with pytest.raises(BudgetExceeded, match="has 33,554,433 nodes"):
        check_file(path)
    check_file(saved(path, functions_that_call_each_other(3)))


def test_a_function_that_calls_itself_in_a_branch_is_refused(tmp_path: Path) -> None:
    made = functions_that_call_each_other(1)
    branch = helper.make_graph([helper.make_node("f0", ["a"], ["c"], domain="own")], "branch", [], [])
    made.functions[0].node.append(helper.make_node("If", ["a"], ["d"], then_branch=branch, else_branch=branch))
    with pytest.raises(MalformedCheckpoint, match="function f0 calls itself"):
        check_file(saved(tmp_path / "model.onnx", made))


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    made = model()
    made.graph.initializer[0].name = "weight\x1b[2J" + "x" * 5000
    with pytest.raises(MalformedCheckpoint) as caught:
        check_file(saved(tmp_path / "model.onnx", made))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
