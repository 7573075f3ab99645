"""A plan is called `plan` in every function; nothing else is public in the package but what it lists."""

import inspect
from types import ModuleType

import keras
import pytest
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv import errors, transforms
from keras3conv.errors import InputError
from tests.support.models import randomize


def pair() -> tuple[nn.Module, keras.Model]:
    module = randomize(nn.Sequential(nn.Linear(4, 3), nn.ReLU6()))
    return module, keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ReLU(max_value=6)])


def test_validate_takes_the_plan_under_the_name_that_transfer_has() -> None:
    for function in (k3c.transfer, k3c.validate):
        assert "plan" in inspect.signature(function).parameters
    module, model = pair()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, plan=plan, proofs=("float64",)).ok
    assert k3c.validate(module, model, alignment=plan, proofs=("float64",)).ok
    with pytest.raises(InputError, match="two names of one argument"):
        k3c.validate(module, model, plan=plan, alignment=plan)


def test_a_conversion_has_its_plan_and_a_short_representation() -> None:
    conversion = k3c.convert(pair()[1], validate=False)
    assert conversion.plan is conversion.alignment
    assert repr(conversion).startswith("<Conversion of sequential")
    assert len(repr(conversion)) <= 80


@pytest.mark.parametrize("module", [k3c, transforms, errors], ids=lambda module: module.__name__)
def test_a_public_module_shows_its_public_names_and_no_others(module: ModuleType) -> None:
    assert {name for name in dir(module) if not name.startswith("__")} == set(vars(module)["__all__"])
    assert all(hasattr(module, name) for name in vars(module)["__all__"])


def test_a_clip_that_only_keras_lacks_is_named_with_its_own_line() -> None:
    module = randomize(nn.Sequential(nn.Linear(4, 3), nn.ReLU6(), nn.Linear(3, 2)))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2, name="last")])
    k3c.transfer(module, model, k3c.align(module, model), accept_difference=True)
    problem = k3c.validate(module, model, proofs=("float64",)).section("float64").problems[0]
    assert problem.fixes[-1] == 'keras.layers.Activation("relu6")  # Keras: before last, in place of relu'
