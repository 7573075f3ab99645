"""Errors and failures for invalid inputs, labels and modules."""

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError
from keras3conv.report.report import Report
from keras3conv.transforms import Array
from tests.support.models import randomize


def module() -> nn.Sequential:
    return randomize(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)))


def model(classes: int = 4) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(5), layers.ReLU(), layers.Dense(classes)])


def rows(number: int = 4) -> Array:
    return np.random.default_rng(0).standard_normal((number, 6)).astype(np.float32)


def moved(source: nn.Module, target: keras.Model) -> tuple[nn.Module, keras.Model]:
    """Return the pair after a transfer of the weights from source to target."""
    k3c.transfer(source, target, k3c.align(source, target, inputs=rows()))
    return source, target


def facts(report: Report, name: str) -> str:
    return "\n".join(problem.fact for problem in report.section(name).problems)


SCRIPTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": lambda whole: torch.jit.trace(whole, torch.zeros(1, 6)),
    "scripted inside": lambda whole: nn.Sequential(torch.jit.script(nn.Linear(6, 5)), *[*whole.children()][1:]),
}


@pytest.mark.parametrize("made", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("function", [k3c.validate, k3c.align])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_a_message_about_the_original_module(
    function: Callable[..., object], made: Callable[[nn.Module], nn.Module]
) -> None:
    with pytest.raises(
        ModelError, match=r"is TorchScript(.|\n)*Fix:  module.load_state_dict\(scripted.state_"
    ) as error:
        function(made(module()), model(), inputs=rows())
    assert str(error.value).count("Fix:") == 1


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_module_is_validated_uncompiled(in_place: bool) -> None:
    whole, target = moved(module(), model())
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(whole, backend=backend)
    if in_place:
        whole.compile(backend=backend)
        compiled = whole
    report = k3c.validate(compiled, target, inputs=rows())
    report.raise_if_failed()
    assert "the torch module is compiled; it was run uncompiled" in report.notes
    assert not graphs


def test_a_quantised_module_is_refused_as_quantised() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(module(), {nn.Linear})
    with pytest.raises(
        ModelError, match=r"0  \(torch\)  this layer is a quantized Linear(.|\n)*2  \(torch\)  this layer is a quant"
    ) as error:
        k3c.validate(quantised, model(), inputs=rows())
    assert "_packed_params" not in str(error.value)


def test_a_module_that_needs_gradients_is_refused_with_the_line_that_enables_them() -> None:
    class Slope(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x.requires_grad_())
            return y + torch.autograd.grad(y.sum(), x)[0].sum()

    with pytest.raises(ModelError, match=r"does not require grad(.|\n)*Fix:  module.forward = torch.enable_grad\(\)"):
        k3c.validate(Slope(6, 4), keras.Sequential([keras.Input((6,)), layers.Dense(4)]), inputs=rows())


@pytest.mark.parametrize("kind", [str, object, "datetime64[s]"])
@pytest.mark.parametrize("given", ["inputs", "keras_inputs"])
def test_inputs_that_are_not_numbers_give_one_error_message(kind: Any, given: str) -> None:
    wrong: dict[str, Any] = {"inputs": rows(), given: np.zeros((4, 6)).astype(kind)}
    with pytest.raises(InputError, match=r"an input is an array of .*, of shape \(4, 6\), but a model takes numbers"):
        k3c.validate(module(), model(), **wrong)


def test_several_keras_inputs_may_be_a_list_or_a_tuple() -> None:
    first, second = keras.Input((6,)), keras.Input((6,))
    joined = keras.Model([first, second], layers.Add()([layers.Dense(4)(first), layers.Dense(4)(second)]))
    given = [rows(), rows()]
    reports = [
        k3c.validate(nn.Bilinear(6, 6, 4), joined, inputs=tuple(given), keras_inputs=one, proofs=["structure"])
        for one in (given, tuple(given))
    ]
    assert [report.section("structure").status for report in reports] == ["failed", "failed"], "both models were called"


def test_infinite_inputs_are_reported_in_every_affected_section() -> None:
    source, target = moved(module(), model())
    inputs = rows()
    inputs[0, 0] = np.inf
    report = k3c.validate(source, target, inputs=inputs)
    assert not report.ok
    for name in ("float64", "activations", "gradients"):
        assert "values that are not finite: they prove nothing" in facts(report, name)
        assert not re.search(r"by (0|nan) ", facts(report, name))


@pytest.mark.parametrize("side", ["torch", "keras", "both"])
def test_nan_weights_never_pass_and_the_layer_is_reported(side: str) -> None:
    source: nn.Module = module()
    target = model()
    if side == "both":
        source.get_parameter("0.weight").data[1, 2] = torch.nan
    source, target = moved(source, target)
    if side == "torch":
        source.get_parameter("0.weight").data[1, 2] = torch.nan
    if side == "keras":
        kernel = np.array(target.variables[0].value.detach())
        kernel[2, 1] = np.nan
        target.variables[0].assign(kernel)
    report = k3c.validate(source, target, inputs=rows())
    assert {"activations", "outputs"} <= {section.name for section in report.sections if section.status == "failed"}
    roundtrip = report.section("roundtrip")
    assert roundtrip.facts.get("NaN or infinities", "") == ("" if side == "keras" else "in 0.weight (torch)")
    assert (roundtrip.status == "passed") == (side == "both")
    if side != "both":
        assert "1 of 30 elements differ (3.33 %), 1 are NaN or infinite, as at (2, 1)" in facts(report, "roundtrip")


RETURNED: dict[str, Callable[[torch.Tensor], object]] = {
    "nothing": lambda y: None,
    "text": lambda y: "done",
    "an object": lambda y: type("Result", (), {"y": y})(),
}


@pytest.mark.parametrize("returned", RETURNED.values(), ids=RETURNED)
def test_a_module_that_returns_no_array_fails_with_this_reason(returned: Callable[[torch.Tensor], object]) -> None:
    class Silent(nn.Sequential):
        def forward(self, x: torch.Tensor) -> object:
            return returned(super().forward(x))

    report = k3c.validate(*moved(Silent(*module()), model()), inputs=rows())
    assert facts(report, "outputs") == "torch returns no array, but Keras returns 1 array (unnamed)"


LABELS: dict[str, tuple[Any, str]] = {
    "one-hot": (np.eye(4)[[0, 1, 2, 3]], r"float64 and the shape \(4, 4\)(.|\n)*Fix:  labels=labels.argmax\(axis=1\)"),
    "a column": (np.zeros((4, 1), int), r"int64 and the shape \(4, 1\)(.|\n)*Fix:  labels=labels\[:, 0\]"),
    "whole floats": (np.zeros(4), r"float64 and the shape \(4,\)(.|\n)*Fix:  labels=labels.astype\(int\)"),
    "floats with NaN": (
        np.array([0, np.nan, 1, 2]),
        r"labels must be an array of integers[^\n]* the dtype float64 and the shape \(4,\)$",
    ),
    "text": (["cat", "dog", "cat", "dog"], r"<U3 and the shape \(4,\)(.|\n)*Fix:  labels=\[class_names.index\(name\)"),
    "ragged": ([[0], [1, 2]], "labels must be an array of integers[^\n]*, but its rows have different lengths"),
    "too few": (
        np.zeros(3, int),
        r"labels has 3 labels, but no output has the shape \(3, classes\): torch returns output 0 of",
    ),
    "out of range": (
        np.array([0, 1, 4, 2]),
        "labels contains 4, which is not a class index: the models have 4 classes",
    ),
    "negative": (np.array([0, 1, -1, 2]), "labels contains -1, which is not a class index: the models have 4 classes"),
}


@pytest.mark.parametrize(("labels", "message"), LABELS.values(), ids=LABELS)
def test_labels_that_do_not_fit_are_refused_before_anything_else_is_proven(
    labels: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(_: object) -> object:
        raise AssertionError("a proof was begun")

    monkeypatch.setattr("keras3conv.validators.float64.check", judged)
    monkeypatch.setattr("keras3conv.validators.roundtrip.check", judged)
    with pytest.raises(InputError, match=message):
        k3c.validate(module(), model(), inputs=rows(), labels=labels)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abcd", "class_names must be a list with a name for every class, but is 'abcd'"),
        ([1, 2, 3, 4], "every entry of class_names must be a str, but 1 is of the type int"),
        (["a"], "class_names has 1 name, but the models have 4 classes"),
    ],
)
def test_class_names_that_do_not_fit_give_one_error_message(names: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        k3c.validate(module(), model(), inputs=rows(), labels=[0, 1, 2, 3], class_names=names)


def test_different_numbers_of_outputs_are_not_reported_as_a_label_error() -> None:
    class Two(nn.Sequential):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = super().forward(x)
            return y, y + 1.0

    report = k3c.validate(*moved(Two(*module()), model()), inputs=rows(), labels=[0, 1, 2, 3])
    accuracy = report.section("accuracy")
    assert not report.ok
    assert accuracy.status == "skipped"
    assert "torch returns 2 arrays (0, 1), but Keras returns 1 array (unnamed)" in accuracy.reason


@pytest.fixture
def seeded() -> Iterator[Callable[[], list[Array]]]:
    """Seed all random generators; return a function that returns the next random numbers."""
    keras.utils.set_random_seed(7)

    def drawn() -> list[Array]:
        python = np.array([__import__("random").random()])
        return [torch.rand(3).numpy(), np.random.rand(3), python, np.array(keras.random.normal((3,)).detach())]  # noqa: NPY002

    yield drawn
    keras.utils.set_random_seed(7)


PUBLIC: dict[str, Callable[[nn.Module, keras.Model], object]] = {
    "align": lambda torch, keras: k3c.align(torch, keras, inputs=rows()),
    "align without a probe": lambda torch, keras: k3c.align(torch, keras, inputs=rows(), probe=False),
    "validate": lambda torch, keras: k3c.validate(torch, keras, inputs=rows()),
    "convert": lambda _, keras: k3c.convert(keras),
}


@pytest.mark.slow
@pytest.mark.parametrize("function", PUBLIC.values(), ids=PUBLIC)
def test_running_a_random_model_does_not_change_the_users_random_state(
    function: Callable[[nn.Module, keras.Model], object], seeded: Callable[[], list[Array]]
) -> None:
    class Draws(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = float(np.random.rand()) + __import__("random").random()  # noqa: NPY002
            made: torch.Tensor = super().forward(x)
            return made + 1e-3 * noise * torch.rand_like(made)

    source, target = Draws(*module()), model()
    keras.utils.set_random_seed(7)
    expected = seeded()
    keras.utils.set_random_seed(7)
    function(source, target)
    for array, wanted in zip(seeded(), expected, strict=True):
        np.testing.assert_array_equal(array, wanted)
