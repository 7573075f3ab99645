"""Every proof fails on a planted mistake of its kind, and passes without it."""

import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError, InputError, ModelError, ProofError
from keras3conv.report.report import Report
from tests.support.models import randomize


class Net(nn.Module):
    """Two convolutions, a norm, a classifier after a flatten; stride 2 with an even size."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6 * 4 * 5, 7)
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6, eps=1e-3)
        self.down = nn.Conv2d(6, 6, (2, 2), stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.down(torch.relu(self.norm(self.conv(x)))).flatten(1))


def keras_twin(
    *,
    epsilon: float = 1e-3,
    activation: str = "relu",
    last: str = "linear",
    padding: str = "valid",
    flatten_first: bool = False,
) -> keras.Model:
    inputs = keras.Input((8, 10, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="c1")(inputs)
    x = keras.layers.BatchNormalization(epsilon=epsilon, name="bn")(x)
    x = keras.layers.Activation(activation, name="act")(x)
    x = keras.layers.Conv2D(6, 2, strides=2, padding=padding, name="c2")(x)
    x = keras.layers.Permute((3, 1, 2))(x) if flatten_first else x
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(7, activation=last, name="out")(x), name="twin")


def validated(module: nn.Module, model: keras.Model) -> Report:
    """Align, transfer and validate with random inputs."""
    randomize(module)
    plan = k3c.align(module, model).accepting_difference().check()
    k3c.transfer(module, model, plan)
    return k3c.validate(module, model, alignment=plan)


def failed(report: Report) -> list[str]:
    return [section.name for section in report.with_status("failed")]


def test_a_correct_pair_passes_every_proof_and_the_report_notes_random_inputs() -> None:
    report = validated(Net(), keras_twin())
    report.raise_if_failed()
    assert report.tally == "7 passed"
    assert "random inputs of shape (2, 3, 8, 10)" in report.notes[0]


def test_models_with_different_weights_fail_the_roundtrip() -> None:
    module, model = randomize(Net()), keras_twin()
    report = k3c.validate(module, model)
    assert failed(report) == ["roundtrip", "activations", "outputs"]
    assert report.section("float64").status == "passed", "the function is the same, only the weights are not"


def test_one_bit_in_one_weight_fails_the_roundtrip() -> None:
    module, model = randomize(Net()), keras_twin()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    with torch.no_grad():
        module.fc.bias.view(torch.int32)[3].bitwise_xor_(1)
    section = k3c.validate(module, model, alignment=plan).section("roundtrip")
    assert section.status == "failed"
    assert "1 of 7 elements differ" in section.problems[0].fact


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1e-5, 1.001e-3, 1.0001e-3])
def test_another_epsilon_fails_float64_and_is_named_as_the_cause(epsilon: float) -> None:
    report = validated(Net(), keras_twin(epsilon=epsilon))
    problem = report.section("float64").problems[0]
    assert (problem.torch, problem.keras) == ("norm", "bn")
    assert f"epsilon is 0.001 in torch and {epsilon:g} in Keras" in problem.fact
    assert f"nn.BatchNorm2d(6, eps={epsilon:g})  # torch: norm" in problem.fixes


@pytest.mark.slow
def test_a_tiny_epsilon_difference_is_visible_in_float64_and_not_in_float32() -> None:
    report = validated(Net(), keras_twin(epsilon=1.001e-3))
    assert failed(report) == ["hyperparameters", "float64", "gradients"]


@pytest.mark.slow
def test_another_padding_at_stride_two_is_named_with_the_line_to_paste() -> None:
    class Padded(Net):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(6, 6, 3, stride=2, padding=1)

    model = keras_twin()
    inputs = model.input
    x = model.get_layer("act").output
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="c2same")(x)
    model = keras.Model(inputs, keras.layers.Dense(7, name="out2")(keras.layers.Flatten()(x)))
    problem = validated(Padded(), model).section("float64").problems[0]
    assert problem.torch == "down"
    line = "x = F.pad(x, (0, 1, 0, 1))  # torch: before down; for inputs of "
    assert any(fix.startswith(line) for fix in problem.fixes)


def test_the_lines_that_mend_the_padding_of_a_pooling_are_right_on_both_sides() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, padding=1))
    given = keras.Input((14, 14, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(given)
    model = keras.Model(given, keras.layers.MaxPooling2D(3, 2, padding="same", name="pool")(x))
    inputs = torch.randn(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=inputs, plan=plan, proofs=("hyperparameters", "float64"))
    in_torch, in_keras = report.section("hyperparameters").problems[0].fixes
    assert in_torch.splitlines()[0] == "padding=0  # torch: layer 1"
    assert in_torch.splitlines()[1].startswith("ceil_mode=True  # torch: layer 1; for inputs of 12x12")
    mended_module = nn.Sequential(module[0], nn.MaxPool2d(3, 2, padding=0, ceil_mode=True))
    k3c.validate(mended_module, model, inputs=inputs).raise_if_failed()
    line, _ = in_keras.splitlines()
    names = {"keras": keras, "x": x}
    exec(line, names)  # noqa: S102 - our own message
    mended = keras.Model(given, keras.layers.MaxPooling2D(3, 2)(names["x"]))
    k3c.validate(module, mended, inputs=inputs).raise_if_failed()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "named"),
    [
        ("linear", "Keras lacks an activation before c2: relu"),
        ("relu6", "torch applies relu before down, Keras relu6"),
    ],
)
def test_another_activation_is_named_at_the_layer_whose_input_it_changes(activation: str, named: str) -> None:
    class Hot(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * 8)

    problem = validated(Hot() if activation == "relu6" else Net(), _scaled(activation)).section("float64").problems[0]
    assert problem.torch == "down"
    assert named in problem.fact


def _scaled(activation: str) -> keras.Model:
    model = keras_twin(activation=activation)
    if activation != "relu6":
        return model
    inputs = keras.Input((8, 10, 3))
    return keras.Model(inputs, model(inputs * 8.0))


@pytest.mark.slow
def test_a_softmax_on_one_side_only_is_named_as_the_cause() -> None:
    report = validated(Net(), keras_twin(last="softmax"))
    assert failed(report) == ["float64", "outputs", "gradients"]
    problem = report.section("outputs").problems[0]
    assert "torch lacks an activation at the end: softmax" in problem.fact


def test_a_kernel_after_a_flatten_is_reordered() -> None:
    report = validated(Net(), keras_twin())
    report.raise_if_failed()
    assert "o (c s) -> (s c) o" in str(k3c.align(Net(), keras_twin()).of("fc"))


def test_a_flatten_by_ops_reshape_is_recognised() -> None:
    inputs = keras.Input((4, 5, 6))
    model = keras.Model(inputs, keras.layers.Dense(7)(keras.ops.reshape(inputs, (-1, 120))))
    module = nn.Sequential(nn.Flatten(), nn.Linear(120, 7))
    validated(module, model).raise_if_failed()


def test_swapped_layers_of_equal_shape_fail_the_proofs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.tanh(self.a(x)))

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, "tanh", name="p"), keras.layers.Dense(4, name="q")]
    )
    module = randomize(Twice())
    swapped = k3c.align(module, model).pair("a", "q").pair("b", "p")
    k3c.transfer(module, model, swapped)
    report = k3c.validate(module, model, alignment=swapped)
    assert failed(report) == ["float64", "activations", "outputs", "gradients"]


@pytest.mark.parametrize("seed", range(4))
def test_a_wrong_layer_fails_although_its_height_width_and_channels_are_equal(seed: int) -> None:
    # Both layouts of the output have the shape (4, 4, 4), and a wrong value may be closer in the other one.
    keras.utils.set_random_seed(seed)
    same = keras.layers.Conv2D(4, 3, strides=2, padding="same")
    model, module = keras.Sequential([keras.Input((8, 8, 3)), same]), nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1))
    plan = k3c.align(module, model)
    k3c.transfer(model, module, plan, accept_difference=True)
    report = k3c.validate(module, model, alignment=plan, proofs=["activations"])
    assert failed(report) == ["activations"]
    floor = report.section("activations").tables[0].rows[0][4]
    assert isinstance(floor, float)
    assert floor < 1e-5


def test_an_incomplete_plan_fails_structure_and_skips_all_other_proofs() -> None:
    module, model = Net(), keras_twin()
    report = k3c.validate(module, model, alignment=k3c.align(module, model).unpair("fc"))
    assert [section.status for section in report.sections] == ["failed"] + ["skipped"] * 6
    with pytest.raises(ProofError, match="1 proof failed"):
        report.raise_if_failed()


def test_nan_in_both_outputs_fails() -> None:
    module, model = randomize(Net()), keras_twin()
    plan = k3c.align(module, model)
    with torch.no_grad():
        module.fc.bias[0] = math.nan
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, alignment=plan)
    assert {"activations", "outputs"} <= set(failed(report))


def test_validate_leaves_both_models_unchanged() -> None:
    module, model = randomize(Net()), keras_twin()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    module.train()
    module.conv.eval()
    flags = {name: child.training for name, child in module.named_modules()}
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    variables = [np.array(variable.value.detach()) for variable in model.variables]
    k3c.validate(module, model, alignment=plan)
    assert {name: child.training for name, child in module.named_modules()} == flags
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    now = [variable.value.detach().numpy() for variable in model.variables]
    assert all(
        np.array_equal(first, second) and first.dtype == second.dtype
        for first, second in zip(variables, now, strict=True)
    )
    assert {variable.dtype for variable in model.variables} == {"float32"}
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())


def test_an_exception_leaves_both_models_unchanged() -> None:
    module, model = randomize(Net()), keras_twin()
    plan = k3c.align(module, model)

    class Broken(keras.layers.Layer):
        def call(self, x: object) -> object:
            raise ValueError("planted")

    broken = keras.Model(model.input, model.output)
    broken.layers[3].call = Broken().call
    before = [np.array(variable.value.detach()) for variable in model.variables]
    with pytest.raises(ModelError, match="planted"):
        k3c.validate(module, broken, alignment=plan)
    assert keras.config.floatx() == "float32"
    assert {variable.dtype for variable in model.variables} == {"float32"}
    now = [variable.value.detach().numpy() for variable in model.variables]
    assert all(np.array_equal(first, second) for first, second in zip(before, now, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k3c.validate(keras_twin(), Net()), "in the wrong order"),
        (lambda: k3c.validate(Net(), Net()), "both arguments are torch models"),
        (
            lambda: k3c.align(3, keras_twin()),
            "torch must be a torch module, a Keras model, or the path of a file, but is an int",
        ),
        (lambda: k3c.validate(Net(), keras_twin(), inputs=[1, 2]), "or a dict of keyword arguments, but is a list"),
        (lambda: k3c.validate(Net(), keras_twin(), inputs=np.zeros((2, 4, 8, 10), "float32")), "does not fit"),
        (
            lambda: k3c.validate(Net(), keras_twin(), keras_inputs=np.zeros((1, 8, 10, 3))),
            "give the inputs of the torch",
        ),
    ],
)
def test_wrong_arguments_raise_input_error(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


class Subclassed(keras.Model):
    """A model without variables until it is called."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.dense = keras.layers.Dense(3, name="dense")

    def call(self, x: object) -> object:
        return self.dense(x)


# Keras warns when it builds such a model by calling it.
@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer")
def test_an_unbuilt_model_is_built_by_calling_it_with_the_inputs() -> None:
    module, model, inputs = nn.Linear(4, 3), Subclassed(), np.ones((2, 4), np.float32)
    plan = k3c.align(module, model, inputs=inputs).check()
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=inputs).raise_if_failed()


def test_an_unbuilt_model_without_inputs_raises_with_a_fix() -> None:
    with pytest.raises(ModelError, match="subclassed has no variables yet") as caught:
        k3c.align(nn.Linear(4, 3), Subclassed())
    assert str(caught.value).endswith("Fix:  model(example_input)     or     inputs=example_input")


def test_an_unpaired_bare_parameter_is_not_reported_as_an_unknown_layer() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(3, 3))
            self.dense = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    said = r"table  \(torch\)  table \(3, 3\) matched nothing; Keras has no variable of this size left\n"
    with pytest.raises(AlignmentError, match=said) as caught:
        k3c.align(Holder(), model).check()
    assert "no rule knows" not in str(caught.value)


def test_an_exception_in_the_torch_module_names_the_layer_and_the_shapes() -> None:
    with pytest.raises(ModelError, match=r"Net \(torch\) raised when it was called with \(2, 3, 12, 10\)") as caught:
        k3c.align(Net(), keras_twin(), inputs=np.zeros((2, 3, 12, 10), "float32"), keras_inputs=np.zeros((2, 8, 10, 3)))
    assert "fc  (torch)  RuntimeError" in str(caught.value)


def test_an_argument_of_a_proof_that_was_not_asked_for_is_noted() -> None:
    module, model = randomize(nn.Linear(3, 2)), keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plan = k3c.align(module, model)
    report = k3c.validate(module, model, plan=plan, onnx=True, proofs=["structure"])
    assert "the argument onnx had no effect: the proof onnx was not asked for" in report.notes
    report = k3c.validate(module, model, plan=plan, proofs=["structure"])
    assert not any("no effect" in note for note in report.notes)
