"""A hyper-parameter that differs fails even if its effect is not visible with the given inputs."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section
from tests.support.models import randomize


class Scaled(nn.Module):
    """A normalisation of large values."""

    def __init__(self, scale: float, norm: nn.Module) -> None:
        super().__init__()
        self.scale, self.fc, self.norm = scale, nn.Linear(6, 8), norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x) * self.scale)


def sections(scale: float, norm: nn.Module, layer: keras.layers.Layer) -> dict[str, Section]:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layer(keras.layers.Dense(8, name="fc")(inputs) * scale))
    module = randomize(Scaled(scale, norm))
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    given = np.random.default_rng(0).standard_normal((3, 6)).astype("float32")
    report = k3c.validate(module, model, inputs=given, alignment=plan, proofs=["hyperparameters", "float64"])
    return {section.name: section for section in report.sections}


@pytest.mark.parametrize(
    ("scale", "epsilon", "float64"), [(1e2, 1.001e-5, "failed"), (1e4, 1e-3, "failed"), (1e9, 1e-3, "passed")]
)
def test_another_epsilon_fails_although_large_inputs_hide_it(scale: float, epsilon: float, float64: str) -> None:
    found = sections(scale, nn.LayerNorm(8), keras.layers.LayerNormalization(epsilon=epsilon, name="norm"))
    # A factor in the module's code hides the epsilon from float64, which is why the fields are compared too.
    assert found["float64"].status == float64
    (problem,) = found["hyperparameters"].problems
    assert problem.fact.startswith(f"eps is 1e-05 in torch, epsilon is {epsilon:.12g} in Keras")
    assert problem.fact.endswith("(its effect is too small to be seen with these inputs, but not with smaller inputs)")


def test_the_same_epsilon_passes_with_large_inputs() -> None:
    found = sections(1e4, nn.LayerNorm(8), keras.layers.LayerNormalization(epsilon=1e-5, name="norm"))
    assert found["hyperparameters"].status == "passed"


def test_another_momentum_is_listed_and_passes_without_training() -> None:
    found = sections(1.0, nn.BatchNorm1d(8), keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.99, name="norm"))
    assert found["hyperparameters"].status == "passed"
    assert "momentum" in found["hyperparameters"].facts["differs in training only"]


def rows_of(module: nn.Module, model: keras.Model) -> dict[tuple[str, str], dict[str, object]]:
    """Return the rows of the table of hyper-parameters, by the names of the field on both sides."""
    report = k3c.validate(module, model, proofs=["structure", "hyperparameters"])
    (table,) = report.section("hyperparameters").tables
    rows: list[dict[str, object]] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return {(str(row["field"]), str(row["field in keras"])): row for row in rows}


def padded(kernel: int) -> dict[str, object]:
    """Return the row of the padding of a convolution with a stride of 2: "same" in Keras, 0 in torch."""
    given = keras.Input((16, 16, 3))
    model = keras.Model(given, keras.layers.Conv2D(4, kernel, 2, "same", name="conv")(given))
    before = nn.ZeroPad2d((0, 1, 0, 1)) if kernel == 3 else nn.Identity()
    return rows_of(nn.Sequential(before, nn.Conv2d(3, 4, kernel, 2)), model)["padding", "padding"]


def test_an_equal_padding_says_why_it_is_equal() -> None:
    assert padded(1)["verdict"] == "equal: for inputs of this size, same in Keras is (0, 0) in torch"
    after = "after nn.ZeroPad2d(padding=(0, 1, 0, 1))"
    assert padded(3)["verdict"] == f"equal: for inputs of this size, same in Keras is (0, 0) in torch {after}"


def test_a_table_names_the_side_of_an_expected_value_and_marks_a_field_that_one_side_lacks() -> None:
    given = keras.Input((6,))
    model = keras.Model(given, keras.layers.Dense(4, activation="relu", name="fc")(given))
    rows = rows_of(nn.Sequential(nn.Linear(6, 4), nn.ReLU()), model)
    assert rows["out_features", "units"]["expected value"] == "4 in Keras"
    activation = rows["no such field", "activation"]
    assert (activation["value"], activation["value in keras"], activation["expected value"]) == (None, "relu", None)
    assert all(row["verdict"] == "equal" for names, row in rows.items() if names != ("no such field", "activation"))


@pytest.mark.parametrize("size", [9, 8])
def test_the_fields_of_two_torch_layers_are_compared_with_those_of_one_keras_layer(size: int) -> None:
    image = keras.Input((size, size, 4))
    model = keras.Model(image, keras.layers.SeparableConv2D(6, 3, strides=2, padding="same", name="separable")(image))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    section = conversion.report.section("hyperparameters")
    assert "not judged" not in section.summary
    rows = {(row[1], row[4]): row for row in section.tables[0].rows}
    for field, value in {
        "0.kernel_size": "(3, 3)",
        "0.groups": "4",
        "1.kernel_size": "(1, 1)",
        "1.groups": "1",
    }.items():
        row = rows[field, "no such field"]
        assert (row[2], row[6], row[7]) == (value, f"{value} in torch", "equal"), "a padding before them has no index"


def test_a_field_of_layers_that_no_run_calls_is_not_judged() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.unused = nn.LayerNorm(8), nn.LayerNorm(8, eps=1e-3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x)

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
            self.unused = keras.layers.LayerNormalization(epsilon=1e-4, name="unused")
            self.unused.build((None, 8))

        def call(self, x: object) -> object:
            return self.norm(x)

    model = Own()
    model(np.zeros((1, 8), "float32"))
    module = Unused()
    plan = k3c.align(module, model, inputs=np.ones((2, 8), "float32"), probe=False)
    k3c.transfer(module, model, plan)
    given = np.random.default_rng(0).standard_normal((3, 8)).astype("float32")
    report = k3c.validate(module, model, inputs=given, alignment=plan, proofs=["hyperparameters", "float64"])
    section = report.section("hyperparameters")
    assert "1 not judged (eps)" in section.summary
    assert [row[-1] for row in section.tables[0].rows if row[0] == "unused" and row[1] == "eps"] == [
        "not judged: no run calls these layers"
    ]


def test_a_regularizer_of_keras_is_named_and_does_not_fail() -> None:
    dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.01), name="fc")
    model, module = keras.Sequential([keras.Input((4,)), dense]), nn.Linear(4, 3)
    plan = k3c.align(module, model)
    k3c.transfer(model, module, plan)
    report = k3c.validate(module, model, plan=plan)
    report.raise_if_failed()
    fact = report.section("hyperparameters").facts["acts in training, not converted"]
    assert fact.startswith("fc: kernel_regularizer L2(l2=0.01) is a term of the loss in Keras")
    assert "trains differently, see hyperparameters" in str(report)


def test_the_fields_of_a_pooling_stay_in_the_table_if_the_line_of_the_report_pads_before_it() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, padding=1))
    inputs = keras.Input((15, 16, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-float("inf"))
    model = keras.Model(inputs, keras.layers.MaxPooling2D(3, 2, padding="valid")(x))
    rows = rows_of(module, model)
    names = ("kernel_size", "pool_size"), ("stride", "strides"), ("padding", "padding")
    assert [rows[pair]["verdict"] for pair in names] == ["equal"] * 3
