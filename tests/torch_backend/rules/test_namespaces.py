"""Every layer class of both frameworks is in the table, with a rule or with the reason for none."""

import inspect
from types import ModuleType

import keras
import pytest
import torch
from keras.src.api_export import get_name_from_symbol

from keras3conv.rules.library import known_classes
from keras3conv.rules.unsupported import UNSUPPORTED, WITHOUT_RULE


def exported(namespace: ModuleType, cls: type) -> str:
    """Return the name under which Keras exports a class, which may differ from its `__name__`."""
    name = str(get_name_from_symbol(cls))
    return name if name.startswith(namespace.__name__) else f"{namespace.__name__}.{cls.__name__}"


def classes(namespace: ModuleType, base: type) -> dict[str, set[str]]:
    """Return the public classes of a namespace with their names and their parents' names; aliases are merged."""
    found = {cls for _, cls in inspect.getmembers(namespace, inspect.isclass) if issubclass(cls, base)}
    named = {cls: exported(namespace, cls) for cls in found}
    return {name: {named[parent] for parent in cls.__mro__ if parent in named} for cls, name in named.items()}


TORCH = classes(torch.nn, torch.nn.Module)
# An Activation is known by the name of its function: "keras.activations.relu".
KERAS = {
    name: parents
    for name, parents in classes(keras.layers, keras.layers.Layer).items()
    if name != "keras.layers.Activation"
}


@pytest.mark.parametrize(("side", "names"), [(0, TORCH), (1, KERAS)], ids=["torch.nn", "keras.layers"])
def test_no_class_is_missing_from_the_table(side: int, names: dict[str, set[str]]) -> None:
    assert len(names) > 100
    in_table = (
        known_classes()[side] | WITHOUT_RULE.keys() | UNSUPPORTED.keys() - {"keras.layers.Layer", "torch.nn.Module"}
    )
    missing = sorted(name for name, parents in names.items() if not parents & in_table and name not in UNSUPPORTED)
    assert not missing, "neither a rule nor a reason: " + ", ".join(missing)


def test_no_class_with_a_rule_is_listed_as_unsupported() -> None:
    supported = known_classes()[0] | known_classes()[1] | WITHOUT_RULE.keys()
    assert not UNSUPPORTED.keys() & supported


def test_every_unsupported_class_exists() -> None:
    known = TORCH.keys() | KERAS.keys() | {"keras.layers.InputSpec"}
    assert not UNSUPPORTED.keys() - known
