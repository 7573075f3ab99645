"""The examples of every rule cover its fields; what they are does not depend on the backend."""

import inspect
from typing import Any

import numpy as np
import pytest

from keras3conv.errors import RuleError
from keras3conv.rules.library import find, list_rules
from keras3conv.rules.rule import Config
from tests.support.trial_layers import resolve
from tests.support.trials import config_of, make_module

RULES = pytest.mark.parametrize("name", [rule.name for rule in list_rules()])


def configs_of(name: str) -> list[Config]:
    """Return the configurations of the examples of a rule."""
    rule = find(name)
    return [config_of(rule, make_module(rule, example)) for example in rule.examples]


def defaults_of(name: str) -> dict[str, Any]:
    """Return the default values of torch's constructor for the fields of a rule."""
    rule = find(name)
    kind = resolve(rule.torch)
    parameters = {} if inspect.isbuiltin(kind) else inspect.signature(kind).parameters  # these have no signature
    return {field: parameters[field].default for field in rule.fields if field in parameters}


def is_refused(name: str, config: Config) -> bool:
    """Return whether a rule refuses a configuration."""
    rule = find(name)
    try:
        return not rule.applies(config) or not rule.to_keras(config)
    except RuleError:
        return True


@RULES
def test_every_boolean_field_is_true_in_one_example_and_false_in_another_or_refused(name: str) -> None:
    configs = configs_of(name)
    for field, default in defaults_of(name).items():
        if isinstance(default, bool) and field in configs[0]:  # other flags are no attributes of the layer
            seen = {config[field] for config in configs}
            others = [{**config, field: value} for value in {True, False} - seen for config in configs]
            assert not others or any(is_refused(name, other) for other in others), f"{field} is only {seen}"


@RULES
def test_every_number_differs_from_its_torch_default_in_an_example_or_is_refused(name: str) -> None:
    configs = configs_of(name)
    for field, default in defaults_of(name).items():
        if isinstance(default, float):
            seen = {config[field] for config in configs}
            other = {**configs[0], field: default / 2 + 0.2}
            assert seen - {default} or is_refused(name, other), f"{field} is only {seen}"


@RULES
def test_examples_have_even_and_odd_image_sizes_and_no_two_equal_axes(name: str) -> None:
    rule = find(name)
    shapes = [shape for example in rule.examples for shape in example.inputs if len(shape) > 2]
    if rule.layout == "channels":
        assert {size % 2 for shape in shapes for size in shape[2:]} == {0, 1}
        assert any(len(set(shape)) == len(shape) for shape in shapes)


@RULES
def test_examples_have_no_square_kernels(name: str) -> None:
    kernels = [config["kernel_size"] for config in configs_of(name) if np.size(config.get("kernel_size", ())) > 1]
    kernels = [kernel for kernel in kernels if max(kernel) > 1]  # a single pixel cannot be anything but square
    assert not kernels or any(len(set(kernel)) > 1 for kernel in kernels)


def test_a_depthwise_example_has_a_depth_multiplier() -> None:
    configs = configs_of("torch.nn.Conv2d <-> keras.layers.DepthwiseConv2D")
    assert any(config["out_channels"] >= 2 * config["groups"] for config in configs)
