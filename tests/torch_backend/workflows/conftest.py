"""Fixtures of the tests of transfers between files."""

import keras
import pytest
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from tests.support.models import randomize
from tests.support.small_pair import Net, twin


@pytest.fixture(scope="module")
def moved() -> tuple[nn.Module, keras.Model, Alignment]:
    """Return a module, a Keras model with its weights, and the plan, read from JSON."""
    module, model = randomize(Net()), twin()
    plan = Alignment.from_json(k3c.align(module, model).to_json())
    k3c.transfer(module, model, plan)
    return module, model, plan
