"""Declared correspondences of fields: changing the torch field changes the Keras argument."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from keras3conv.rules.correspondence import correspondences, expected_arguments, found_by_trial
from keras3conv.rules.library import find, list_rules
from keras3conv.rules.rule import Config, Rule
from tests.support.trials import config_of, make_module, with_inputs

RULES = [rule for rule in list_rules() if rule.torch_count == 1]


def configs(rule: Rule) -> list[Config]:
    """Return the complete configurations of the torch layers of a rule's examples."""
    return [with_inputs(config_of(rule, make_module(rule, example)), example) for example in rule.examples]


def without_number(rule: Rule, name: str) -> str:
    return name if rule.keras_count == 1 else name.partition(".")[2]


def found(rule: Rule) -> set[tuple[str, str]]:
    """Return every torch field with the Keras arguments that change with it in some example."""
    everything = configs(rule)
    others = {name: [config[name] for config in everything if name in config] for name in rule.fields}
    return {
        (field, without_number(rule, name))
        for config in everything
        for field, names in found_by_trial(rule, config, others).items()
        for name in names
    }


def declared(rule: Rule) -> set[tuple[str, str]]:
    return {(field, name) for field, names in (rule.correspondences or {}).items() for name in names}


def disagreements(rule: Rule) -> list[str]:
    """Return the declared correspondences that a trial does not confirm, and the undeclared ones that it finds."""
    seen, said = found(rule), declared(rule)
    facts = [f"{field} does not change {name}" for field, name in sorted(said - seen)]
    return facts + [
        f"{field} changes {name}" for field, name in sorted(seen) if name not in {known for _, known in said}
    ]


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_the_declared_correspondences_equal_those_found_by_trial(name: str) -> None:
    assert find(name).correspondences is not None
    assert disagreements(find(name)) == []


def changed(name: str, **fields: str | tuple[str, ...]) -> Rule:
    rule = find(name)
    assert not isinstance(rule.fields, tuple)
    return replace(rule, fields={**rule.fields, **fields})


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"bias": "units"}, ["bias does not change units", "bias changes use_bias"]),
        ({"in_features": "units"}, ["in_features does not change units"]),
    ],
)
def test_the_check_detects_a_false_correspondence(fields: dict[str, str], facts: Iterable[str]) -> None:
    assert disagreements(changed("torch.nn.Linear <-> keras.layers.Dense", **fields)) == facts


def test_the_correspondences_of_a_rule_without_declaration_are_found_by_trial() -> None:
    rule = find("torch.nn.Linear <-> keras.layers.Dense")
    silent = replace(rule, fields=tuple(rule.fields))
    (config, *_) = configs(rule)
    for one in (rule, silent):
        assert {
            field: names
            for field, names in correspondences(one, config, expected_arguments(one, config)).items()
            if names
        } == {
            "out_features": ("units",),
            "bias": ("use_bias",),
        }
