"""Every class of both frameworks stands in the table: with a rule, or with the reason why there is none."""

import inspect
from types import ModuleType

import keras
import pytest
import torch

from keras3conv.rule import known_classes
from keras3conv.rules.unsupported import UNSUPPORTED


def classes(namespace: ModuleType, base: type) -> set[str]:
    """The public classes of a namespace, each under its own name only: `Convolution2D` is `Conv2D`."""
    found = {cls for _, cls in inspect.getmembers(namespace, inspect.isclass) if issubclass(cls, base)}
    return {f"{namespace.__name__.replace('keras._tf_keras.', '')}.{cls.__name__}" for cls in found}


TORCH = classes(torch.nn, torch.nn.Module)
# An Activation is known by the name of its function: "keras.activations.relu".
KERAS = classes(keras.layers, keras.layers.Layer) - {"keras.layers.Activation"}


@pytest.mark.parametrize(("side", "names"), [(0, TORCH), (1, KERAS)], ids=["torch.nn", "keras.layers"])
def test_no_class_is_missing_from_the_table(side: int, names: set[str]) -> None:
    assert len(names) > 100
    missing = names - known_classes()[side] - UNSUPPORTED.keys()
    assert not missing, "neither a rule nor a reason: " + ", ".join(sorted(missing))


def test_no_class_is_called_unsupported_although_a_rule_knows_it() -> None:
    supported = known_classes()[0] | known_classes()[1]
    assert not UNSUPPORTED.keys() & supported


def test_every_unsupported_class_exists() -> None:
    known = TORCH | KERAS | {"keras.layers.InputSpec"}
    assert not UNSUPPORTED.keys() - known
