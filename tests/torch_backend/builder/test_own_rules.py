"""Rules of the user with a mistake: the wrong order of the axes, or a name that no variable has."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.builder.program.own_rules import own_classes_note
from keras3conv.errors import AlignmentError, ModelError, RuleError, UnsupportedLayerError
from keras3conv.rules.library import list_rules
from keras3conv.rules.registry import ranked, registered
from keras3conv.transforms import Axes, Take


class TorchGain(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.log_gain = nn.Parameter(torch.linspace(-1, 1, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.log_gain.exp()[:, None, None]


@keras.saving.register_keras_serializable(package="own_rules")
class KerasGain(keras.layers.Layer):
    def __init__(self, size: int, **arguments: object) -> None:
        super().__init__(**arguments)
        self.size = size

    def build(self, shape: object) -> None:
        self.gain = self.add_weight(name="gain", shape=(self.size,), initializer="ones")

    def call(self, x: object) -> object:
        return x * keras.ops.exp(self.gain)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "size": self.size}


TORCH, KERAS = f"{__name__}.TorchGain", f"{__name__}.KerasGain"


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    list_rules()
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)
    ranked.cache_clear()


def add_rule(layout: str = "channels", name: str = "gain", argument: str = "size") -> None:
    """Register the rule of the two layers, with a layout, and the names of the Keras variable and argument."""
    k3c.register(
        k3c.Rule(
            torch=TORCH,
            keras=KERAS,
            fields={"size": "size"},
            weights=lambda config: (k3c.WeightMapping(torch=("log_gain",), keras=(name,), transform=Axes("n -> n")),),
            to_keras=lambda config: (k3c.LayerSpec(kind=KERAS, config={"size": config["size"]}),),
            to_torch=lambda specs: (k3c.LayerSpec(kind=TORCH, config={"size": specs[0].config[argument]}),),
            layout=layout,  # type: ignore[arg-type]
            examples=(k3c.Example(config={"size": 5}, inputs=((2, 5, 3, 4),)),),
        )
    )


def torch_module() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), TorchGain(6)).eval()


def keras_model() -> keras.Model:
    return keras.Sequential([keras.Input((9, 9, 3)), keras.layers.Conv2D(6, 3), KerasGain(6, name="scale")])


IMAGES = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def test_a_layer_of_channels_is_converted_both_ways() -> None:
    add_rule()
    for made in (k3c.convert(keras_model()), k3c.convert(torch_module(), inputs=IMAGES)):
        assert made.report
        made.report.raise_if_failed()


def test_the_report_names_the_classes_that_the_new_files_need() -> None:
    add_rule()
    to_keras, to_torch = k3c.convert(torch_module(), inputs=IMAGES), k3c.convert(keras_model())
    assert to_keras.report
    assert to_torch.report
    start = f"model.keras and model.py need classes of yours: KerasGain of {__name__}. "
    assert [note for note in to_keras.report.notes if note.startswith(start)]
    assert any(f"TorchGain of {__name__}" in note for note in to_torch.report.notes)
    plain = k3c.convert(nn.Sequential(nn.Linear(3, 2)), inputs=torch.zeros(1, 3))
    assert plain.report
    assert not any("classes of yours" in note for note in plain.report.notes)


def test_a_class_of_the_running_script_is_named_as_one_that_cannot_be_imported() -> None:
    add_rule()
    program = k3c.convert(torch_module(), inputs=IMAGES, validate=False).program
    modules = {
        name: replace(one, spec=replace(one.spec, kind=one.spec.kind.replace(__name__, "__main__")))
        for name, one in program.modules.items()
    }
    (note,) = own_classes_note(replace(program, modules=modules), "model.py needs")
    assert note.startswith("model.py needs classes of yours: KerasGain of __main__. ")
    assert "No other program can import from __main__" in note


class TorchGainWithoutSize(TorchGain):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        del self.size


def test_an_attribute_that_a_module_does_not_store_is_named() -> None:
    add_rule()
    module = nn.Sequential(nn.Conv2d(3, 6, 3), TorchGainWithoutSize(6)).eval()
    with pytest.raises(UnsupportedLayerError, match=r"names size, but TorchGain stores no settings.*self.size = ..."):
        k3c.convert(module, inputs=IMAGES)


def test_an_entry_that_the_configuration_of_a_keras_layer_lacks_is_named() -> None:
    add_rule(argument="units")
    with pytest.raises(ModelError, match=r"needs .units., but the configuration of .* its variables are gain"):
        k3c.convert(keras_model())


def test_a_plan_notes_a_rule_that_names_no_variable_of_the_layer() -> None:
    add_rule(name="scale")
    (note,) = [note for note in k3c.align(torch_module(), keras_model()).notes if note.startswith("your rule")]
    assert note.startswith(f"your rule {TORCH} <-> {KERAS} was not used: it maps log_gain to scale, but in torch 1 has")
    assert "has gain (6,)" in note


def test_a_plan_notes_nothing_on_a_rule_that_it_uses() -> None:
    add_rule()
    assert not any("your rule" in note for note in k3c.align(torch_module(), keras_model()).notes)


class TorchSized(nn.Module):
    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"the size {size} is negative")
        self.size = size
        self.log_gain = nn.Parameter(torch.zeros(size))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"size": 6},
            r"to_torch of .*Sized.* returned size for the layer scale; .*Sized also needs inputs: specs",
        ),
        ({"inputs": 6, "size": 6, "extra": 1}, r"TorchSized does not take extra"),
    ],
)
def test_an_argument_that_the_torch_class_needs_is_named(config: dict[str, int], message: str) -> None:
    add_rule()
    rule = registered.pop(next(name for name in registered if name.startswith(TORCH)))
    sized = f"{__name__}.TorchSized"
    k3c.register(replace(rule, torch=sized, to_torch=lambda specs: (k3c.LayerSpec(kind=sized, config=config),)))
    with pytest.raises(RuleError, match=message):
        k3c.convert(keras_model())


def test_an_exception_of_the_torch_class_is_an_error_of_the_model() -> None:
    add_rule()
    rule = registered.pop(next(name for name in registered if name.startswith(TORCH)))
    sized = f"{__name__}.TorchSized"
    spec = k3c.LayerSpec(kind=sized, config={"inputs": 1, "size": -1})
    k3c.register(replace(rule, torch=sized, to_torch=lambda specs: (spec,)))
    with pytest.raises(ModelError, match=r"own classes .*TorchSized: ValueError: the size -1 is negative"):
        k3c.convert(keras_model())


def test_the_wrong_order_of_axes_is_named() -> None:
    add_rule(layout="same")
    said = f"the rule {TORCH} <-> {KERAS} has layout='same'; a layer that acts on channels of images needs"
    with pytest.raises(ModelError, match="must match the size") as caught:
        k3c.convert(keras_model())
    assert said in str(caught.value)
    with pytest.raises(ModelError, match="must match the size") as caught:
        k3c.convert(torch_module(), inputs=IMAGES)
    assert said in str(caught.value)


@keras.saving.register_keras_serializable(package="own_rules")
class GainOfInput(KerasGain):
    """A gain whose size is that of the last axis of its input."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=shape[-1:], initializer="ones")


def test_the_wrong_order_of_axes_is_named_if_the_layer_takes_its_size_from_its_input() -> None:
    add_rule(layout="same")
    rule = registered.pop(next(name for name in registered if name.startswith(TORCH)))
    kind = f"{__name__}.GainOfInput"
    k3c.register(
        replace(
            rule,
            keras=kind,
            to_keras=lambda config: (k3c.LayerSpec(kind=kind, config={"size": config["size"]}),),
        )
    )
    with pytest.raises(AlignmentError, match="its weights do not fit the layers that the rules make") as caught:
        k3c.convert(torch_module(), inputs=IMAGES)
    assert f"the rule {TORCH} <-> {kind} has layout='same'; a layer that acts on channels" in str(caught.value)
    assert "Fix:" not in str(caught.value), "no plan of the user is wrong"


def test_a_rule_that_names_another_variable_is_no_silent_failure() -> None:
    add_rule(name="gamma")
    (problem,) = [one for one in k3c.align(torch_module(), keras_model(), probe=False).problems() if one.keras]
    said = "does not apply: {} has gain; the rule names gamma"
    assert said.format("scale") in problem.fact
    with pytest.raises(RuleError, match=said.format("scale")):
        k3c.convert(keras_model())
    with pytest.raises(RuleError, match=said.format("layer_1")):
        k3c.convert(torch_module(), inputs=IMAGES)


def test_a_rule_that_names_another_parameter_is_named_before_the_conversion() -> None:
    add_rule()
    rule = registered.pop(next(name for name in registered if name.startswith(TORCH)))
    wrong = k3c.WeightMapping(torch=("gains",), keras=("gain",), transform=Axes("n -> n"))
    k3c.register(replace(rule, weights=lambda config: (wrong,)))
    with pytest.raises(UnsupportedLayerError, match="does not apply: 1 has log_gain; the rule names gains") as caught:
        k3c.convert(torch_module(), inputs=IMAGES)
    assert "Fix:" not in str(caught.value), "another rule would not help"


def test_a_rule_with_the_wrong_transform_is_named_as_the_cause() -> None:
    add_rule()
    rule = registered.pop(next(name for name in registered if name.startswith(TORCH)))
    reversed_rows = k3c.WeightMapping(torch=("log_gain",), keras=("gain",), transform=Take(0, (5, 4, 3, 2, 1, 0)))
    wrong = k3c.register(replace(rule, weights=lambda config: (reversed_rows,)))
    report = k3c.convert(torch_module(), inputs=IMAGES).report
    assert report
    fact = report.section("float64").problems[0].fact
    assert f"the layers are paired by your rule {wrong.name} ({wrong.origin}): check its transforms" in fact
