"""A class that a rule of the user misspells is an error, in both directions and before anything else."""

from collections.abc import Iterator

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import RuleError, UnsupportedLayerError
from keras3conv.rules.library import list_rules
from keras3conv.rules.registry import ranked, registered
from keras3conv.transforms import Same


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain


class KerasGain(keras.layers.Layer):
    def build(self, shape: object) -> None:
        self.gain = self.add_weight(name="gain", shape=(3,))

    def call(self, x: object) -> object:
        return x * self.gain


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    list_rules()
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)
    ranked.cache_clear()


def add_rule(torch_class: str, keras_class: str, fields: dict[str, str] | None = None) -> None:
    k3c.register(
        k3c.Rule(
            torch=torch_class,
            keras=keras_class,
            fields=fields or {},
            weights=lambda config: (k3c.WeightMapping(torch=("gain",), keras=("gain",), transform=Same()),),
            to_keras=lambda config: (k3c.LayerSpec(kind=keras_class),),
            to_torch=lambda specs: (k3c.LayerSpec(kind=torch_class),),
            examples=(k3c.Example(config={}, inputs=((2, 3),)),),
        )
    )


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), Gain()).eval()


def model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), KerasGain(name="gain")])


MISSPELT = [
    (f"{__name__}.Gain", f"{__name__}.KerasGains", r"names the Keras class .*has no KerasGains; it has KerasGain"),
    (f"{__name__}.Gian", f"{__name__}.KerasGain", r"names the torch class .*has no Gian; it has Gain"),
    (f"{__name__}.Gain", "no_such_package.KerasGain", r"there is no module no_such_package\n  here:   .*\.py:\d+"),
]


@pytest.mark.parametrize(("torch_class", "keras_class", "message"), MISSPELT)
def test_a_misspelt_class_is_named_whatever_is_asked(torch_class: str, keras_class: str, message: str) -> None:
    add_rule(torch_class, keras_class)
    for call in (
        lambda: k3c.convert(model()),
        lambda: k3c.convert(module(), inputs=torch.ones(2, 4)),
        lambda: k3c.align(module(), model()),
    ):
        with pytest.raises(RuleError, match=message):
            call()


def test_a_rule_for_classes_that_exist_is_accepted() -> None:
    add_rule(f"{__name__}.Gain", f"{__name__}.KerasGain")
    assert [pair.rule for pair in k3c.align(module(), model()).pairs][1].endswith(".KerasGain")


def test_a_class_that_is_defined_in_a_function_is_not_looked_up() -> None:
    add_rule(f"{__name__}.make.<locals>.Gain", f"{__name__}.KerasGain")
    assert len(k3c.align(module(), model()).pairs) == 2


def test_a_class_of_code_that_is_in_no_module_is_found() -> None:
    made = type("Own", (keras.layers.Layer,), {"__module__": "no_module"})
    add_rule(f"{__name__}.Gain", f"{made.__module__}.{made.__qualname__}")
    assert len(k3c.align(module(), model()).pairs) == 2


@pytest.mark.parametrize("direction", ["to torch", "to Keras"])
def test_a_rule_that_names_an_attribute_which_the_module_lacks_is_an_error_that_lists_those_it_has(
    direction: str,
) -> None:
    add_rule(f"{__name__}.Gain", f"{__name__}.KerasGain", {"temp": "temperature"})
    model = keras.Sequential([keras.Input((3,)), KerasGain()]) if direction == "to torch" else module()
    inputs = None if direction == "to torch" else torch.zeros(2, 4)
    with pytest.raises((RuleError, UnsupportedLayerError), match=r"fields(.|\n)*temp(.|\n)*Gain"):
        k3c.convert(model, inputs=inputs)
