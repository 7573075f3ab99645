"""The registry: rules that are refused, the look-up of rules, and requirements for every registered rule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView
from keras3conv.rules.helpers.config import renaming
from keras3conv.rules.library import find, known_classes, list_rules, lookup
from keras3conv.rules.registry import ranked, register, registered
from keras3conv.rules.rule import Config, Example, LayerSpec, Rule, WeightMapping
from keras3conv.transforms import Axes, Same, Transform


@pytest.fixture(autouse=True)
def rules_by_name() -> Iterator[dict[str, Rule]]:
    """Yield the registry; remove the rules that a test registers."""
    list_rules()
    before = dict(registered)
    yield registered
    registered.clear()
    registered.update(before)
    ranked.cache_clear()


def a_rule(**changes: Any) -> Rule:
    plain = Rule(
        torch="lab.Torch",
        keras="lab.Keras",
        fields=("size",),
        to_keras=lambda config: (LayerSpec(kind="lab.Keras"),),
        to_torch=lambda layers: (LayerSpec(kind="lab.Torch"),),
        examples=(Example(config={"size": 3}, inputs=((2, 3),)),),
    )
    return replace(plain, **changes)


def mapping(torch: tuple[str, ...], keras: tuple[str, ...], transform: Transform | None = None) -> WeightMapping:
    return WeightMapping(torch=torch, keras=keras, transform=transform or Same())


def constant(*mappings: WeightMapping) -> Callable[[Config], tuple[WeightMapping, ...]]:
    return lambda config: mappings


@dataclass(frozen=True)
class OneWay(Same):
    """A transform that declares a wrong inverse."""

    @property
    def inverse(self) -> Same:
        return Same()


def test_a_registered_rule_is_found_and_knows_where_it_was_made() -> None:
    registered = register(a_rule())
    assert registered in list_rules()
    assert find("lab.Torch <-> lab.Keras") is registered
    assert Path(registered.origin.rpartition(":")[0]).name == "test_registry.py"


def test_a_rule_without_example_is_refused() -> None:
    with pytest.raises(RuleError, match=r"lab.Torch <-> lab.Keras has no example, so it cannot be tested"):
        register(a_rule(examples=()))


def test_a_second_rule_for_the_same_pair_is_refused_with_both_locations() -> None:
    first = register(a_rule())
    with pytest.raises(RuleError, match="is registered twice") as caught:
        register(a_rule())
    lines = str(caught.value).splitlines()
    assert lines[2] == f"  before: {first.origin}"
    assert lines[1].startswith("  here:   ")
    assert lines[1].rpartition(":")[2] != first.origin.rpartition(":")[2]
    assert lines[1].removeprefix("  here:   ").rpartition(":")[0] == first.origin.rpartition(":")[0]


@pytest.mark.parametrize(
    ("side", "mappings"),
    [
        ("torch", (mapping(("weight",), ("kernel",)), mapping(("weight",), ("gamma",)))),
        ("keras", (mapping(("weight",), ("kernel",)), mapping(("bias",), ("kernel",)))),
        ("torch", (mapping(("weight", "weight"), ("kernel", "bias")),)),
    ],
)
def test_a_tensor_that_is_named_twice_is_refused(side: str, mappings: tuple[WeightMapping, ...]) -> None:
    with pytest.raises(RuleError, match=f"maps the {side} tensor '.*' twice"):
        register(a_rule(weights=constant(*mappings)))


def test_a_rule_with_an_irreversible_transform_is_refused() -> None:
    with pytest.raises(RuleError, match=r"OneWay\(\) cannot be reversed"):
        register(a_rule(weights=constant(mapping(("weight",), ("kernel",), OneWay()))))


def test_a_refused_rule_is_not_registered(rules_by_name: dict[str, Rule]) -> None:
    before = dict(rules_by_name)
    with pytest.raises(RuleError):
        register(a_rule(weights=constant(mapping(("weight", "weight"), ("kernel",), Axes("o i -> i o")))))
    assert rules_by_name == before


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(RuleError, match=r"there is no rule with the name 'lab\.None'"):
        find("lab.None")


def test_a_subclass_is_found_by_the_classes_it_derives_from() -> None:
    found = register(a_rule())
    kinds = ("timm.Special", "lab.Torch", "torch.nn.Sequential"), ("hub.Special", "lab.Keras")
    assert list(lookup(*kinds)) == [found]


def test_the_rule_of_the_most_derived_class_comes_first() -> None:
    base = register(a_rule())
    derived = register(a_rule(torch="lab.Derived"))
    assert list(lookup(("lab.Derived", "lab.Torch"), ("lab.Keras",))) == [derived, base]
    assert list(lookup(("lab.Torch",), ("lab.Keras",))) == [base]


def test_a_fallback_comes_after_other_rules_whenever_it_is_registered() -> None:
    second = register(a_rule(torch="lab.General", fallback=True))
    first = register(a_rule())
    assert list(lookup((), ("lab.Keras",))) == [first, second]


def test_a_layer_with_the_same_settings_under_other_names_is_renamed_both_ways() -> None:
    parts = renaming("lab.Torch", "lab.Keras", size="units", shape="target")
    keras = parts["to_keras"]({"size": 3, "shape": (1, 2), "inputs": ()})
    assert keras == (LayerSpec(kind="lab.Keras", config={"units": 3, "target": (1, 2)}),)
    stored = LayerSpec(kind="lab.Keras", config={"units": 3, "target": [1, 2], "name": "layer"})
    assert parts["to_torch"]((stored,)) == (LayerSpec(kind="lab.Torch", config={"size": 3, "shape": (1, 2)}),)
    with pytest.raises(
        RuleError, match=r"the configuration of lab\.Keras lacks target, and the default value is unknown"
    ):
        parts["to_torch"]((LayerSpec(kind="lab.Keras", config={"units": 3}),))


def test_unknown_classes_match_every_rule_of_the_other_side() -> None:
    first, second = register(a_rule()), register(a_rule(torch="lab.Other"))
    assert list(lookup((), ("lab.Keras",))) == [first, second]
    assert list(lookup(("lab.Other",), ())) == [second]
    assert list(lookup(("lab.Nothing",), ())) == []


def test_known_classes_are_those_that_some_rule_names() -> None:
    register(a_rule())
    torch, keras = known_classes()
    assert {"lab.Torch", "torch.nn.Linear"} <= torch
    assert {"lab.Keras", "keras.layers.Dense"} <= keras


def test_config_of_returns_only_the_fields_that_the_rule_reads() -> None:
    layer = LayerView(path="", config={"size": 3, "training": False})
    assert a_rule().config_of(layer) == {"size": 3}
    assert a_rule().config_of(LayerView(path="")) == {}


def broken(holds: Callable[[Rule], bool]) -> list[str]:
    """Return the names of the registered rules for which a predicate is false."""
    return [rule.name for rule in list_rules() if not holds(rule)]


def test_every_rule_names_classes_of_the_two_frameworks() -> None:
    torch = ("torch.", "torchvision.", "transformers.", "timm.", "keras3conv.frameworks.torch.")
    assert not broken(lambda rule: rule.torch.startswith(torch))
    assert not broken(lambda rule: rule.keras.startswith(("keras.", "keras3conv.frameworks.keras.")))


def test_every_rule_reads_its_fields_once() -> None:
    assert not broken(lambda rule: len(set(rule.fields)) == len(rule.fields))


def test_every_reason_and_note_is_a_sentence_or_empty() -> None:
    assert not broken(lambda rule: all(reason.strip() for reason in rule.ignored.values()))
    assert not broken(lambda rule: not rule.note or rule.note.endswith("."))


def test_a_rule_that_does_not_hold_in_training_says_why() -> None:
    assert not broken(lambda rule: rule.train or bool(rule.note))


def test_a_loss_is_declared_in_the_note() -> None:
    def lossless(rule: Rule) -> bool:
        return all(entry.transform.lossless for example in rule.examples for entry in rule.weights(example.config))

    assert not broken(lambda rule: bool(rule.note) or lossless(rule))


def test_every_example_has_inputs_with_a_batch() -> None:
    def batched(rule: Rule) -> bool:
        shapes = [shape for example in rule.examples for shape in example.inputs]
        return bool(shapes) and all(len(shape) >= 2 and shape[0] > 1 for shape in shapes)

    assert not broken(batched)


@pytest.mark.parametrize(
    ("keras", "torch"),
    [
        ("keras.layers.ReLU", "torch.nn.ReLU"),
        ("keras.layers.MultiHeadAttention", "torch.nn.MultiheadAttention"),
        ("keras.layers.AveragePooling2D", "torch.nn.AvgPool2d"),
    ],
)
def test_the_direct_counterpart_comes_before_more_general_layers(keras: str, torch: str) -> None:
    assert next(lookup((), (keras,))).torch == torch


class Sized:
    """A class with a default, as the torch layer of a user."""

    def __init__(self, size: int, affine: bool = True, mode: object = object) -> None:
        self.size, self.affine, self.mode = size, affine, mode


def reading(*keys: str) -> Callable[[Config], tuple[WeightMapping, ...]]:
    """Return a function `weights` that reads keys of the configuration."""

    def weights(config: Config) -> tuple[WeightMapping, ...]:
        value: Any = config
        for key in keys:
            value = value[key]
        return ()

    return weights


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"weights": reading("affine")}, "config={'size': 3, 'affine': True}"),
        ({"weights": reading("mode")}, "config={'size': 3, 'mode': VALUE}"),
        ({"applies": reading("affine")}, "config={'size': 3, 'affine': True}"),
        ({"torch": "lab.Torch", "weights": reading("affine")}, "config={'size': 3, 'affine': VALUE}"),
        ({"weights": reading("keras")}, 'keras=k3c.LayerSpec(kind="lab.Keras", shapes={"NAME": (2, 3)})'),
        (
            {
                "torch_count": 2,
                "weights": reading("1", "affine"),
                "examples": (Example(config={"0": {"size": 3}, "1": {"size": 4}}, inputs=((2, 3),)),),
            },
            "config={'0': {'size': 3}, '1': {'size': 4, 'affine': True}}",
        ),
    ],
)
def test_an_example_that_leaves_out_what_the_rule_reads_is_refused_with_the_example_to_write(
    changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(RuleError, match=r"reads config\[") as caught:
        register(a_rule(**{"torch": f"{__name__}.Sized", **changes}))
    first, here, fix = str(caught.value).splitlines()
    assert first.startswith(f"the rule {a_rule(**{'torch': f'{__name__}.Sized', **changes}).name}: ")
    assert here.startswith("  here:   ")
    assert "test_registry.py:" in here
    assert fix == f"Fix:  {line}  # in k3c.Example"


def test_a_parameter_that_is_no_argument_is_decided_by_an_argument() -> None:
    own, said = f"{__name__}.Sized", "has no argument D (it has size, affine, mode): read the argument that decides it"
    with pytest.raises(RuleError) as in_example:
        register(a_rule(torch=own, weights=reading("D")))
    assert said in str(in_example.value)
    example = Example(config={"size": 3, "D": True}, inputs=((2, 3),))
    found = register(a_rule(torch=own, weights=reading("D"), examples=(example,)))
    with pytest.raises(RuleError) as in_run:
        found.weights({"size": 3})
    assert said in str(in_run.value)


def test_an_example_cannot_say_what_is_flattened_before_the_layer() -> None:
    with pytest.raises(RuleError, match=r'cannot have: read config\.get\("flattened"\), which may be None'):
        register(a_rule(weights=reading("flattened")))


def test_a_key_of_another_dict_is_no_argument_that_the_example_leaves_out() -> None:
    by_mode: dict[int, tuple[WeightMapping, ...]] = {}
    with pytest.raises(RuleError, match=r"weights raised KeyError for the example config=\{'size': 3\}: 3"):
        register(a_rule(weights=lambda config: by_mode[config["size"]]))


def test_an_exception_of_a_function_of_a_rule_is_an_error_of_the_rule() -> None:
    with pytest.raises(RuleError, match=r"applies raised TypeError for the example"):
        register(a_rule(applies=lambda config: len(config["size"]) > 2))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"size": "units"}, "fields={'size': 'units', 'affine': ''}"),
        (("size",), "fields=('size', 'affine')"),
    ],
)
def test_an_attribute_that_fields_does_not_name_is_added_to_it(fields: Any, line: str) -> None:
    example = Example(config={"size": 3, "affine": True}, inputs=((2, 3),))
    found = register(a_rule(fields=fields, weights=reading("affine"), examples=(example,)))
    with pytest.raises(
        RuleError, match=r"weights reads config\['affine'\], but the configuration has size: `fields`"
    ) as e:
        found.weights({"size": 3, "keras": None})
    assert str(e.value).splitlines()[-1].startswith(f"Fix:  {line}")


def test_a_field_that_the_layer_does_not_have_is_set_in_its_constructor() -> None:
    found = register(a_rule(weights=reading("size")))
    with pytest.raises(
        RuleError, match=r"has nothing: set self\.size in __init__ of lab\.Torch, and return it from to_"
    ):
        found.weights({})
