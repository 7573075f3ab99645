"""The options of a certificate work, wrong options are refused, and every proof fails on a planted mistake."""

import hashlib
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError
from keras3conv.frameworks.torch import gradients as torch_gradients
from keras3conv.report.report import Report
from keras3conv.transforms import Array
from tests.support.models import ModuleType, randomize


class Classifier(nn.Module):
    """A convolution, a norm, a dropout, seven classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6, eps=1e-3)
        self.dropout = nn.Dropout(0.25)
        self.fc = nn.Linear(6, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(F.relu(self.norm(self.conv(x))).mean((2, 3))))


def twin(*, rate: float = 0.25, padding: str = "same", last: keras.layers.Layer | None = None) -> keras.Model:
    inputs = keras.Input((8, 9, 3))
    x = keras.layers.Conv2D(6, 3, padding=padding, name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.9, name="norm")(x))
    x = keras.layers.Dropout(rate, name="dropout")(keras.layers.GlobalAveragePooling2D()(x))
    x = keras.layers.Dense(7, name="fc")(x)
    return keras.Model(inputs, x if last is None else last(x), name="twin")


def images(number: int = 3) -> Array:
    return np.random.default_rng(0).standard_normal((number, 3, 8, 9)).astype("float32")


def with_equal_weights(module: ModuleType, model: keras.Model, **inputs: Any) -> dict[str, Any]:
    """Transfer the weights; return the pair as arguments of `validate`."""
    randomize(module)
    plan = k3c.align(module, model, **inputs).accepting_difference().check()
    k3c.transfer(module, model, plan)
    return {"torch": module, "keras": model, "alignment": plan, **inputs}


def failed(report: Report) -> list[str]:
    return [section.name for section in report.with_status("failed")]


def test_requested_proofs_run_and_structure_always_runs() -> None:
    report = k3c.validate(**with_equal_weights(Classifier(), twin()), proofs=["outputs"])
    assert [section.name for section in report.sections] == ["structure", "outputs"]


def test_an_unknown_proof_is_refused_with_the_known_names() -> None:
    with pytest.raises(
        InputError, match=("there is no proof 'speed' for these models and arguments; there are structure, roundtrip")
    ):
        k3c.validate(**with_equal_weights(Classifier(), twin()), proofs=["speed"])


@pytest.mark.parametrize("tolerance", [None, k3c.Tolerance(absolute=0.01, relative=0.0)])
def test_the_plots_have_the_limit_by_which_each_layer_is_judged(tolerance: k3c.Tolerance | None) -> None:
    pair = with_equal_weights(Classifier(), twin())
    report = k3c.validate(**pair, proofs=["activations", "float64"], tolerance=tolerance)
    for plot in report.section("activations").plots:
        *_, floor, limit = plot.series
        allowed = [0.01] * len(plot.labels) if tolerance else [8 * (value or 0.0) for value in floor.values]
        assert limit.name == ("limit: the given tolerance" if tolerance else "limit: 8 x the noise floor")
        assert limit.values == pytest.approx(allowed)
    (plot,) = report.section("float64").plots
    assert plot.series[-1].name == "limit: 1e-10"
    assert set(plot.series[-1].values) == {1e-10}


def test_a_tolerance_replaces_the_noise_floor_and_is_in_the_report() -> None:
    pair = with_equal_weights(Classifier(), twin())
    with torch.no_grad():
        pair["torch"].fc.bias += 1e-3
    assert failed(k3c.validate(**pair, proofs=["outputs"])) == ["outputs"]
    report = k3c.validate(**pair, proofs=["outputs"], tolerance=k3c.Tolerance(absolute=0.01, relative=0.0))
    report.raise_if_failed()
    assert report.section("outputs").facts["tolerance"] == "the caller's: 0.01 absolute and 0 of the largest value"
    tight = k3c.validate(**pair, proofs=["outputs"], tolerance=k3c.Tolerance(absolute=1e-4, relative=0.0))
    assert failed(tight) == ["outputs"]


@pytest.mark.parametrize("wrong", [{"absolute": -1.0, "relative": 0.0}, {"absolute": 0.0, "relative": math.inf}])
def test_a_negative_or_infinite_tolerance_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be a finite number and not negative"):
        k3c.Tolerance(**wrong)


def test_a_number_as_tolerance_is_refused() -> None:
    with pytest.raises(InputError, match=r"tolerance=k3c\.Tolerance"):
        k3c.validate(**with_equal_weights(Classifier(), twin()), tolerance=1e-3)  # type: ignore[arg-type]


def test_another_dropout_rate_is_listed_and_fails_only_with_training() -> None:
    pair = with_equal_weights(Classifier(), twin(rate=0.5))
    report = k3c.validate(**pair)
    report.raise_if_failed()
    listed = report.section("hyperparameters").facts["differs in training only"]
    assert listed.startswith("p: 0.25 in torch, 0.5 in Keras (1 layer)")
    assert failed(k3c.validate(**pair, training=True)) == ["hyperparameters"]


def test_a_layer_frozen_on_one_side_fails_with_training() -> None:
    pair = with_equal_weights(Classifier(), twin())
    pair["torch"].fc.requires_grad_(False)
    problems = k3c.validate(**pair, training=True).section("hyperparameters").problems
    fact = "requires_grad is False in torch, trainable is True in Keras; it must be False"
    assert [problem.fact for problem in problems] == [f"{fact} (no output depends on it in inference)"]


def test_an_uncompensated_padding_fails_the_hyperparameters() -> None:
    report = k3c.validate(**with_equal_weights(Classifier(), twin(padding="valid")), proofs=["hyperparameters"])
    (problem,) = report.section("hyperparameters").problems
    assert (problem.torch, problem.keras) == ("conv", "conv")
    assert problem.fact.startswith("padding is (1, 1) in torch, padding is valid in Keras; it must be same")


def test_a_padding_that_must_change_is_named_with_the_layer_that_pads() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 5, stride=2, padding=2)).eval()
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 5, strides=2, padding="same", name="c")])
    report = k3c.validate(**with_equal_weights(module, model), proofs=["hyperparameters"])
    (problem,) = report.section("hyperparameters").problems
    assert "it must be valid, after layers.ZeroPadding2D(" in problem.fact


@pytest.mark.slow
def test_a_correct_layer_agrees_in_isolation_after_a_wrong_one() -> None:
    pair = with_equal_weights(Classifier(), twin())
    with torch.no_grad():
        pair["torch"].conv.bias[0] += 0.1
    table = k3c.validate(**pair).section("activations").tables[0]
    whole, isolated = table.columns.index("largest difference"), table.columns.index("in isolation")
    differences = {row[0]: (float(row[whole] or 0), float(row[isolated] or 0)) for row in table.rows}
    assert differences["norm"][0] > 1e-3, "in the whole model it differs"
    assert differences["norm"][1] < 1e-5, "in isolation it agrees"
    assert differences["conv"][1] > 0.01


def test_a_stopped_gradient_fails_the_gradients() -> None:
    class Stops(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 0.5 * x + 0.5 * keras.ops.stop_gradient(x)

    assert failed(k3c.validate(**with_equal_weights(Classifier(), twin(last=Stops())))) == ["gradients"]


def test_inputs_with_nan_are_refused() -> None:
    inputs = images()
    inputs[0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="the input of the torch side contains 1 NaN"):
        k3c.validate(**with_equal_weights(Classifier(), twin()), inputs=inputs)


@pytest.mark.slow
def test_an_active_dropout_is_named_on_either_side() -> None:
    class Random(Classifier):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(super().forward(x), 0.5)

    class Draws(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="draws")
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x: Any) -> Any:
            return keras.random.dropout(x, 0.5, seed=self.seeds)

    facts = [
        p.fact
        for p in k3c.validate(**with_equal_weights(Random(), twin()), proofs=["outputs"]).section("outputs").problems
    ]
    assert "it draws random numbers" in facts[0]
    (first, *_) = (
        k3c.validate(**with_equal_weights(Classifier(), twin(last=Draws())), proofs=["outputs"])
        .section("outputs")
        .problems
    )
    assert (first.keras, first.fact) == ("draws", "this layer draws random numbers, although it is in inference mode")


def test_a_changing_buffer_is_named_and_restored() -> None:
    class Counts(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.get_buffer("seen").add_(1)
            return super().forward(x)

    module, model = randomize(Counts()), twin()
    plan = k3c.align(module, model).ignore("seen", "a counter")
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, alignment=plan)
    report.raise_if_failed()
    assert report.section("outputs").facts["state in torch"].startswith("seen (changed by a call")
    assert int(module.state_dict()["seen"]) == 0


def test_outputs_of_another_structure_are_paired_in_order_and_reported() -> None:
    class Two(Classifier):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            y = super().forward(x)
            return y, torch.tanh(y)

    single = twin()
    model = keras.Model(single.input, {"scores": single.output, "squashed": keras.ops.tanh(single.output)})
    report = k3c.validate(**with_equal_weights(Two(), model))
    report.raise_if_failed()
    said = report.section("outputs").facts["structure"]
    assert said == "torch returns 0, 1, Keras scores, squashed: paired in this order"


def test_outputs_in_another_order_are_paired_by_shape_and_reported() -> None:
    class Two(Classifier):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            y = super().forward(x)
            return y.sum(1), y

    single = twin()
    model = keras.Model(single.input, [single.output, keras.ops.sum(single.output, 1)])
    report = k3c.validate(**with_equal_weights(Two(), model))
    report.raise_if_failed()
    said = report.section("outputs").facts["structure"]
    assert said == "torch returns 0, 1, Keras 0, 1: paired by shape, 1, 0 in Keras' order"


def test_labels_add_accuracy_and_pictures_with_both_predictions(tmp_path: Path) -> None:
    names = [f"<{name}>" for name in "abcdefg"]
    pair = with_equal_weights(Classifier(), twin(), inputs=images(20))
    report = k3c.validate(**pair, labels=np.arange(20) % 7, class_names=names, proofs=["accuracy"])
    section = report.section("accuracy")
    assert "same prediction for 100.00% of 20 samples" in section.summary
    assert [row[0] for row in section.tables[0].rows] == ["torch", "keras"]
    assert section.tables[0].columns == ("side", "top-1", "top-5")
    assert len(section.pictures) == 12
    assert section.pictures[0].caption == "sample 0, labelled <a>"
    page = report.to_html()
    assert page.count("data:image/png;base64,") == 12
    assert "&lt;a&gt;" in page
    assert len(page) < 120_000
    assert Report.from_json(report.to_json()) == report


def test_the_best_five_of_five_classes_are_not_counted() -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(5, name="fc")(inputs))
    pair = with_equal_weights(nn.Sequential(nn.Linear(6, 5)), model)
    given = np.random.default_rng(0).standard_normal((4, 6)).astype("float32")
    report = k3c.validate(pair["torch"], pair["keras"], inputs=given, labels=np.arange(4), proofs=["accuracy"])
    assert report.section("accuracy").tables[0].columns == ("side", "top-1")


def test_samples_with_different_predictions_fail_and_are_listed() -> None:
    pair = with_equal_weights(Classifier(), twin(), inputs=images(20))
    with torch.no_grad():
        pair["torch"].fc.bias[2] += 100.0
    section = k3c.validate(**pair, labels=np.zeros(20, int), proofs=["accuracy"]).section("accuracy")
    assert section.status == "failed"
    assert section.problems[0].fact.startswith("20 of 20 samples get different predictions: 0, 1, 2")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.zeros(4, int),
            r"has 4 labels, but no output has the shape \(4, classes\): torch returns output 0 of shape \(3, 7\)",
        ),
        (np.array([0, 1, 7]), "labels contains 7, which is not a class index: the models have 7 classes"),
        (np.zeros(3), "has the dtype float64 and the shape"),
        (np.eye(3, dtype=int), r"has the dtype int64 and the shape \(3, 3\)"),
    ],
)
def test_wrong_labels_raise_input_error(labels: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        k3c.validate(**with_equal_weights(Classifier(), twin(), inputs=images()), labels=labels, proofs=["accuracy"])


@pytest.mark.parametrize("broken", [False, True])
def test_the_matmul_precision_is_restored(broken: bool) -> None:
    class Fails(Classifier):
        judged = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not (self.judged and torch.backends.cuda.matmul.allow_tf32)
            if self.judged and broken and x.dtype == torch.float64:
                raise RuntimeError("planted")
            return super().forward(x)

    pair = with_equal_weights(Fails(), twin())
    pair["torch"].judged = True
    torch.backends.cuda.matmul.allow_tf32 = True
    expected = pytest.raises(k3c.Keras3ConvError, match="planted") if broken else nullcontext()
    try:
        with expected:
            k3c.validate(**pair, proofs=["float64", "activations", "outputs", "gradients"])
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.slow
def test_relative_differences_of_one_in_a_million_fail_float64() -> None:
    class Scaled(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * (1.0 + 1e-6)

    assert "float64" in failed(k3c.validate(**with_equal_weights(Classifier(), twin(last=Scaled()))))
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, eps=1e-5))
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(epsilon=1.001e-5)]
    report = k3c.validate(**with_equal_weights(module, keras.Sequential([keras.Input((5,)), *layers])))
    assert "float64" in failed(report)
    assert "epsilon is 1e-05 in torch and 1.001e-05 in Keras" in report.section("float64").problems[0].fact


def test_an_asymmetric_padding_is_fixed_with_an_additional_padding_layer() -> None:
    convolution = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="c")
    model = keras.Sequential([keras.Input((8, 8, 3)), convolution])
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1))
    k3c.transfer(model, module, k3c.align(module, model), accept_difference=True)
    report = k3c.validate(module, model)
    assert report.section("hyperparameters").status == "failed"
    problem = report.section("hyperparameters").problems[0]
    in_torch, in_keras = problem.fixes
    note = '; for inputs of 8x8: at another size "same" pads differently'
    assert in_torch == f"nn.ZeroPad2d((0, 1, 0, 1))  # torch: before layer 0{note}\npadding=0  # torch: layer 0"
    padded = "keras.layers.ZeroPadding2D(((1, 1), (1, 1)))  # Keras: before c"
    assert in_keras == f'{padded}\npadding="valid"  # Keras: c'
    assert report.section("float64").problems[0].fixes == problem.fixes, "both proofs print the same lines"


def test_a_tied_weight_has_its_gradient_under_each_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.tanh(self.first(x)))

    module, inputs = Tied(), torch.ones(2, 4)
    tensors = {path: np.array(parameter.detach()) for path, parameter in module.named_parameters()}
    found = torch_gradients.backward(module, inputs, tensors, {"": np.ones((2, 4))}, of=["second.weight"])
    module(inputs).sum().backward()
    np.testing.assert_allclose(found.gradients["second.weight"], np.array(module.first.weight.grad), rtol=1e-5)


def test_a_certificate_of_files_states_their_digests(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    module = nn.Sequential(nn.Linear(3, 2))
    k3c.transfer(model, module, k3c.align(module, model))
    model.save(tmp_path / "model.keras")
    report = k3c.validate(module, tmp_path / "model.keras", proofs="outputs")
    content = (tmp_path / "model.keras").read_bytes()
    assert f"model.keras: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}" in report.notes
    assert not any("sha256" in note for note in k3c.validate(module, model, proofs="outputs").notes)
