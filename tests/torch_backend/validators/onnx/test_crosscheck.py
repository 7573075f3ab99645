"""The ONNX cross-check names the one of its four outputs that is wrong, and the exporters that ran."""

import hashlib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, MissingExtra
from keras3conv.report import text
from keras3conv.report.digests import named_files
from keras3conv.report.report import Report
from keras3conv.report.values import Section
from keras3conv.validators.onnx import export as onnx_export
from tests.support.models import randomize

pytestmark = pytest.mark.slow


def net() -> nn.Module:
    return randomize(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)))


def twin(last: str = "linear") -> keras.Model:
    layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(4, last)]
    return keras.Sequential([keras.Input((6,)), *layers])


def checked(
    module: nn.Module, model: keras.Model, inputs: Any = None, hints: dict[str, str] | None = None, **options: Any
) -> Section:
    given = np.random.default_rng(3).standard_normal((2, 6)).astype("float32") if inputs is None else inputs
    plan = k3c.align(module, model, inputs=given, hints=hints).accepting_difference().check()
    k3c.transfer(module, model, plan)
    asked = {"proofs": ["onnx"], "onnx": True, **options}
    return k3c.validate(module, model, inputs=given, alignment=plan, **asked).section("onnx")


@pytest.fixture(scope="module")
def equal() -> Section:
    """Return the cross-check of two equal models."""
    return checked(net(), twin())


def tampered(export: Callable[..., onnx_export.Exported]) -> Callable[..., onnx_export.Exported]:
    """Wrap an exporter so that one weight in its file is changed by 0.01."""

    def wrong(*arguments: Any) -> onnx_export.Exported:
        exported = export(*arguments)
        model = onnx.load_model(exported.path)
        stored = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
        values = numpy_helper.to_array(stored).copy()
        values[0, 0] += 0.01
        stored.CopyFrom(numpy_helper.from_array(values, stored.name))
        onnx.save_model(model, exported.path)
        return exported

    return wrong


def test_four_equal_outputs_pass_and_the_exporters_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    section = checked(net(), twin())
    assert section.status == "passed"
    assert section.summary.startswith("torch, Keras, ONNX of torch and ONNX of Keras agree: at most ")
    assert "torch.onnx.export(dynamo=True), opset " in section.facts["ONNX of torch"]
    assert "which is the TorchScript exporter, opset " in section.facts["ONNX of Keras"]
    assert [section.facts[f"ONNX of {side}, another batch"] for side in ("torch", "Keras")] == [
        "agrees in a batch of 3 too"
    ] * 2
    (table,) = section.tables
    names = ("torch", "Keras", "ONNX of torch", "ONNX of Keras")
    assert [row[1:3] for row in table.rows] == list(combinations(names, 2))
    brief = text.write(Report(title="t", sections=(section,)), brief=True)
    shown = brief.partition("onnx, each pair\n")[2].splitlines()[:8]
    assert shown[0].split()[:4] == ["verdict", "output", "first", "second"]
    assert [line.split()[0] for line in shown[2:]] == ["agree"] * 6
    assert capsys.readouterr() == ("", ""), "the output of exporters is suppressed"


@pytest.mark.parametrize(
    ("exporter", "line"),
    [
        ("export_keras", "ONNX of Keras disagrees with torch, Keras and ONNX of torch"),
        ("export_torch", "ONNX of torch disagrees with torch, Keras and ONNX of Keras"),
    ],
)
def test_a_wrong_onnx_file_disagrees_with_the_other_three_outputs(
    monkeypatch: pytest.MonkeyPatch, exporter: str, line: str
) -> None:
    monkeypatch.setattr(onnx_export, exporter, tampered(getattr(onnx_export, exporter)))
    section = checked(net(), twin())
    assert (section.status, section.summary) == ("failed", line)
    assert "the models agree, so look at the exporter (" in section.problems[0].fact


@pytest.mark.parametrize(("absolute", "status"), [(1.0, "passed"), (1e-12, "failed")])
def test_a_tolerance_replaces_the_noise_floor_and_is_in_the_report(
    monkeypatch: pytest.MonkeyPatch, absolute: float, status: str, equal: Section
) -> None:
    monkeypatch.setattr(onnx_export, "export_keras", tampered(onnx_export.export_keras))
    tolerance = k3c.Tolerance(absolute=absolute, relative=0.0)
    section = checked(net(), twin(), tolerance=tolerance)
    assert section.status == status
    assert section.facts["tolerance"] == f"the caller's: {tolerance}"
    assert "bit-identical" not in section.summary
    assert "tolerance" not in equal.facts


def test_two_different_models_agree_with_their_own_files() -> None:
    section = checked(net(), twin(last="softmax"))
    assert section.status == "failed"
    assert section.summary == "Keras and ONNX of Keras disagree with torch and ONNX of torch"
    assert section.facts["ONNX of Keras, another batch"] == "agrees in a batch of 3 too"
    assert len(section.problems) == 1
    assert "each model agrees with its own export: the two models differ" in section.problems[0].fact


def refusing(*exporters: bool) -> Callable[..., Any]:
    """Return a `torch.onnx.export` that raises for Keras models with dynamo=True or with dynamo=False."""
    original = torch.onnx.export

    def planted(*args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0], keras.Model) and kwargs["dynamo"] in exporters:
            raise RuntimeError("planted")
        return original(*args, **kwargs)

    return planted


def test_a_failed_keras_export_is_repeated_for_a_fixed_batch_size_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.onnx, "export", refusing(False))
    section = checked(net(), twin())
    assert section.status == "passed"
    told = section.facts["ONNX of Keras"]
    assert "torch.onnx.export(dynamo=True), which is the dynamo exporter, opset" in told
    assert told.endswith("used after the TorchScript exporter, which raised RuntimeError: planted")
    assert section.facts["ONNX of Keras, another batch"] == "not tried: the file was exported for one batch size"


def test_the_silent_exporter_fallback_of_keras_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.onnx, "export", refusing(True))
    with onnx_export._recorded_torch_exports() as attempts, onnx_export._exporting("planted"):
        twin().export(
            tmp_path / "fixed.onnx", "onnx", verbose=False, input_signature=[keras.InputSpec("float32", (2, 6))]
        )
    told, note = onnx_export._which_torch_exporter(attempts)
    assert told == "torch.onnx.export(dynamo=False), which is the TorchScript exporter"
    assert note == "used after the dynamo exporter, which raised RuntimeError: planted"


def test_the_message_of_a_wrapped_keras_exception_includes_its_cause() -> None:
    wrapped = ValueError("Exception encountered when calling Inner.call().\n\n\x1b[1mthe cause\x1b[0m\n\nArguments: 3")
    told = onnx_export._first_line(wrapped)
    assert told == "ValueError: Exception encountered when calling Inner.call(). the cause"


def test_a_keras_model_that_no_exporter_supports_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", refusing(True, False))
    section = checked(net(), twin())
    assert section.status == "skipped"
    assert section.reason.startswith("there is no ONNX of Keras: Keras ")
    assert section.reason.endswith("model.export with an input_signature raised RuntimeError: planted")


def test_a_failed_export_is_skipped_with_its_reason() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.dense(x)
            return x if bool(x.sum() > -1e9) else -x

    section = checked(randomize(Decides()), keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)]))
    assert section.status == "skipped"
    assert section.reason.startswith("there is no ONNX of torch: torch.onnx.export(dynamo=True) raised ")
    assert len(section.tables[0].rows) == 3, "the other three are compared"


def test_a_failed_export_does_not_hide_that_the_others_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> onnx_export.Exported:
        raise onnx_export.ExportFailed("planted")

    monkeypatch.setattr(onnx_export, "export_keras", refuses)
    section = checked(net(), twin(last="softmax"))
    assert section.status == "failed"
    assert section.summary == "Keras disagrees with torch and ONNX of torch"


def test_a_falsely_declared_dynamic_batch_size_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    export = onnx_export.export_keras

    def fixed(model: Any, inputs: Any, path: Path) -> onnx_export.Exported:
        exported = export(model, inputs, path)
        proto = onnx.load_model(path)
        name = proto.graph.output[0].name
        inner = next(node for node in proto.graph.node if name in node.output)
        inner.output[:] = ["inner"]
        shape = numpy_helper.from_array(np.array([2, 4], np.int64), "two_by_four")
        proto.graph.initializer.append(shape)
        proto.graph.node.append(onnx.helper.make_node("Reshape", ["inner", "two_by_four"], [name]))
        onnx.save_model(proto, path)
        return exported

    monkeypatch.setattr(onnx_export, "export_keras", fixed)
    section = checked(net(), twin())
    assert section.status == "failed"
    assert section.summary.endswith("; with another batch size ONNX of Keras fails")
    assert section.problems[0].fact.startswith(
        "ONNX of Keras declares a dynamic batch size, but onnxruntime cannot run"
    )


def test_different_outputs_at_another_batch_size_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    export = onnx_export.export_torch

    def by_size(module: Any, inputs: Any, path: Path) -> onnx_export.Exported:
        exported = export(module, inputs, path)
        proto = onnx.load_model(path)
        name = proto.graph.output[0].name
        next(node for node in proto.graph.node if name in node.output).output[:] = ["inner"]
        for stored, value in (("first", np.array([0])), ("second", np.array([1])), ("two", np.float32(2.0))):
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), stored))
        make = onnx.helper.make_node
        proto.graph.node.extend(
            [
                make("Shape", ["inner"], ["shape"]),
                make("Slice", ["shape", "first", "second"], ["rows"]),
                make("Cast", ["rows"], ["size"], to=onnx.TensorProto.FLOAT),
                make("Div", ["size", "two"], ["factor"]),
                make("Mul", ["inner", "factor"], [name]),
            ]
        )
        onnx.save_model(proto, path)
        return exported

    monkeypatch.setattr(onnx_export, "export_torch", by_size)
    section = checked(net(), twin())
    assert section.status == "failed"
    assert section.summary.startswith("torch, Keras, ONNX of torch and ONNX of Keras agree")
    assert section.problems[0].fact.startswith("ONNX of torch differs in a batch of 3: torch and ONNX of torch: ")


def test_a_batch_of_one_is_exported_with_a_dynamic_batch_size() -> None:
    section = checked(net(), twin(), np.ones((1, 6), "float32"))
    assert section.status == "passed"
    assert section.facts["ONNX of torch, another batch"] == "agrees in a batch of 2 too"


def test_a_random_model_fails() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.dense(x)
            return made + torch.randn_like(made)

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    section = checked(randomize(Noisy()), model)
    assert section.status == "failed"
    assert any("it draws random numbers" in problem.fact for problem in section.problems)


def test_an_unexpected_producer_in_the_onnx_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:])
    onnx.save_model(onnx.helper.make_model(graph, producer_name="other", producer_version="3"), path)
    told = str(onnx_export._checked(path, "Keras on jax: jax2onnx 1", "jax2onnx"))
    assert told.endswith("any batch size; the producer in the file is other 3, not jax2onnx")
    assert onnx_export._checked(path, "other 3", "other").note == ""


def test_the_graph_that_a_failing_exporter_prints_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    with onnx_export._recorded_torch_exports():
        torch._C._jit_set_onnx_log_enabled(True)
        try:
            torch._C._jit_onnx_log("a graph of a thousand lines")
        finally:
            torch._C._jit_set_onnx_log_enabled(False)
    assert capfd.readouterr() == ("", "")


def test_the_training_flags_of_both_models_are_restored() -> None:
    module, model = net(), twin()
    module.train()
    flags = [child.training for child in (*module.modules(), *model.modules())]
    checked(module, model)
    assert [child.training for child in (*module.modules(), *model.modules())] == flags


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_raises_with_the_install_command(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr("keras3conv.errors.find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtra) as caught:
        checked(net(), twin())
    assert str(caught.value) == f'validate(onnx=True) needs {package}: pip install "keras3conv[onnx]"'


def test_weight_files_are_skipped(tmp_path: Path) -> None:
    module = net()
    torch.save(module.state_dict(), tmp_path / "net.pt")
    section = k3c.validate(tmp_path / "net.pt", twin(), onnx=True).section("onnx")
    assert section.status == "skipped"
    assert "cannot be run" in section.reason


def test_the_compared_files_are_named_with_digests_and_kept_if_asked(tmp_path: Path, equal: Section) -> None:
    folder = tmp_path / "files"
    facts = checked(net(), twin(), onnx=folder).facts
    assert sorted(path.name for path in folder.iterdir()) == ["keras.onnx", "torch.onnx"]
    for path in folder.iterdir():
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        assert facts[path.name] == f"sha256 {sha256}, {len(content):,} bytes, kept in {folder}"
    report = k3c.compare_onnx(folder / "torch.onnx", folder / "keras.onnx")
    assert report.ok
    assert {name for name, _ in named_files(report)} == {"keras.onnx", "torch.onnx"}
    assert equal.facts["torch.onnx"].endswith("bytes, not kept")


def test_a_folder_with_files_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InputError, match="because it exists and is no empty folder"):
        k3c.validate(net(), twin(), onnx=tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        k3c.validate(net(), twin(), onnx=tmp_path / "no" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
