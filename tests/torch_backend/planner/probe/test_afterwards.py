"""The probe leaves both models unchanged, and the plan notes if it was not run or found nothing."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, InputError, ModelError
from keras3conv.frameworks.keras import model as keras_side
from tests.support.models import randomize
from tests.torch_backend.planner.probe.test_search import (
    Attend,
    Attention,
    Mess,
    array,
    decided,
    outputs_agree,
    pairs,
    tidy,
)


class State:
    """The state of both models that a probe must not change."""

    def __init__(self, module: nn.Module, model: keras.Model) -> None:
        self.module, self.model = module, model
        self.tensors = {name: value.clone() for name, value in module.state_dict().items()}
        self.versions = {name: value._version for name, value in module.named_parameters()}
        self.variables = [np.array(keras_side.to_numpy(variable)) for variable in model.variables]
        self.flags = [
            (child.training, len(child._forward_hooks), len(child._forward_pre_hooks)) for child in module.modules()
        ]
        self.gradients = [value.requires_grad for value in module.parameters()]
        self.dtypes = [(layer.dtype_policy.name, layer.trainable) for layer in model._flatten_layers()]
        self.random = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
        self.call = keras.layers.Layer.__call__

    def same(self) -> bool:
        now = State(self.module, self.model)
        return (
            all(torch.equal(value, now.tensors[name]) for name, value in self.tensors.items())
            and all(np.array_equal(*pair) for pair in zip(self.variables, now.variables, strict=True))
            and (self.versions, self.flags, self.gradients, self.dtypes, self.call)
            == (now.versions, now.flags, now.gradients, now.dtypes, now.call)
            and torch.equal(self.random[0], now.random[0])
            and self.random[1:] == now.random[1:]
        )


def sketch() -> tuple[nn.Sequential, keras.Model]:
    """Return a pair in training mode, with a frozen layer and a dropout."""
    module = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6))
    module[0].requires_grad_(False)
    module.train()
    drawing = [keras.Input((6,)), layers.Dense(6, name="a"), layers.Dropout(0.5), layers.Dense(6, name="b")]
    return module, keras.Sequential(drawing)


def test_both_models_are_unchanged_afterwards() -> None:
    module, model = sketch()
    before = State(module, model)
    k3c.align(module, model, probe=True).check()
    assert before.same()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("side", ["torch", "keras"])
def test_both_models_are_unchanged_after_an_exception(
    error: type[BaseException], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, model = sketch()

    def fail(*_: object, **__: object) -> object:
        raise error("planted")

    if side == "torch":
        monkeypatch.setattr(module[2], "forward", fail)
    else:
        monkeypatch.setattr(model.layers[-1], "call", fail)
    before = State(module, model)
    with pytest.raises(ModelError if error is ValueError else error):
        k3c.align(module, model, inputs=array(2, 6))
    assert before.same()


def test_a_float64_model_is_unchanged_afterwards() -> None:
    module, model = sketch()
    wide = keras.Sequential([keras.Input((6,), dtype="float64")])
    for layer in model.layers:
        wide.add(type(layer).from_config({**layer.get_config(), "dtype": "float64"}))
    module.double()
    before = State(module, wide)
    k3c.align(module, wide).check()
    assert before.same()


def test_the_first_layers_of_different_models_are_paired_and_the_rest_is_a_problem() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="a"), layers.Dense(7, name="b")])
    plan = k3c.align(module, model)
    assert pairs(plan) == {"0": "a"}
    with pytest.raises(AlignmentError, match=r"b .*would keep its initial value"):
        plan.check()


def test_a_module_that_returns_nan_is_named() -> None:
    class Broken(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / 0.0 * 0.0

    module = nn.Sequential(nn.Linear(6, 6), Broken(6, 6))
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layers.Dense(6)])
    said = r"1 +\(torch\) +this module returned NaN(.|\n)*Fix: +k3c.align\(module, model, probe=False\)"
    with pytest.raises(ModelError, match=said):
        k3c.align(module, model, inputs=array(2, 6))


def test_a_module_that_is_given_nan_is_not_said_to_compute_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.variance: torch.Tensor
            self.register_buffer("variance", -torch.ones(6))
            self.dense = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x / self.variance.sqrt())

    model = keras.Sequential([keras.Input((6,)), layers.Dense(6)])
    with pytest.raises(ModelError, match=r"dense +\(torch\) +an input of this module has NaN: an operation before it"):
        k3c.align(Scaled(), model, inputs=array(2, 6))


def test_inputs_of_a_wrong_shape_name_the_layer() -> None:
    with pytest.raises(ModelError, match=r"0 +\(torch\) +RuntimeError"):
        k3c.align(nn.Sequential(nn.Linear(6, 6)), tidy(), inputs=array(2, 7), keras_inputs=array(2, 6))


def test_probe_true_is_refused_if_a_side_is_a_file_of_weights(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(InputError, match="probe=True"):
        k3c.align(nn.Linear(6, 4), tmp_path / "model.weights.h5", probe=True)


def test_a_plan_without_a_probe_says_so() -> None:
    plan = k3c.align(Mess(), tidy(), probe=False)
    assert plan.notes == ("not probed: probe=False",)
    assert "probe" not in decided(plan).values()


def test_the_notes_of_a_plan_survive_json() -> None:
    plan = k3c.align(Mess(), tidy())
    again = Alignment.from_json(plan.to_json())
    assert again.notes == plan.notes
    assert plan.notes[-1] in str(again)


def test_a_hint_overrides_the_probe() -> None:
    plan = k3c.align(Mess(), tidy(), hints={"q": "one"})
    pair = plan.of("one")
    assert pair is not None
    assert (pair.torch, pair.decided_by) == ("q", "hint")


MISTAKES: dict[str, Callable[[nn.Module], object]] = {
    "two layers exchanged": lambda module: exchanged(module, "q", "k"),
    "key and value exchanged": lambda module: exchanged(module, "k", "v"),
}


def exchanged(module: nn.Module, first: str, second: str) -> None:
    one, other = getattr(module, first), getattr(module, second)
    setattr(module, first, other)
    setattr(module, second, one)


@pytest.mark.parametrize("name", MISTAKES)
def test_swapped_layers_are_paired_by_their_values_and_not_by_their_names(name: str) -> None:
    module = randomize(Attention("qkv"))
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, Attend(name="attend")(inputs))
    right = k3c.align(module, model)
    k3c.transfer(module, model, right)
    given = array(2, 5, 8)
    assert outputs_agree(module, model, given)
    mapping = {"q": "k", "k": "q", "v": "v"} if "two" in name else {"q": "q", "k": "v", "v": "k"}
    wrong = right
    for torch_name, keras_name in mapping.items():
        pair = right.of(keras_name)
        assert pair is not None
        wrong = wrong.pair(torch_name, pair.keras)
    k3c.transfer(module, model, wrong)
    assert not outputs_agree(module, model, given)
    assert pairs(k3c.align(module, model)) == pairs(right)


def test_the_search_gives_up_after_the_last_try_and_leaves_pairs_unconfirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras3conv.planner.probe.trail.MOST_TRIES", 0)
    module = randomize(Attention("vkq"))
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, Attend(name="attend")(inputs))
    plan = k3c.align(module, model)
    assert plan.problems() == ()
    assert {pair.decided_by for pair in plan.pairs} <= {"forced", "ambiguous"}
