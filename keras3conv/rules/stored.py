"""Derive from a rule the variable names and mappings of a layer in a Keras weight file, which stores no names."""

from collections.abc import Iterator, Mapping
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.rule import Rule, WeightMapping


def names_in_order(rule: Rule) -> tuple[tuple[str, ...], ...]:
    """Return the names of a Keras layer's variables in the order of a rule's mappings: (("kernel", "bias"),).

    Args:
        rule: The rule. If its examples have different variables (with and without a bias), there is a tuple for each.
    """
    found = (rule.weights({**example.config, **example.beyond}) for example in rule.examples)
    return tuple(dict.fromkeys(tuple(name for mapping in mappings for name in mapping.keras) for mappings in found))


def torch_names(rule: Rule) -> frozenset[frozenset[str]]:
    """Return the names of the torch tensors of a rule: a set for each different set that its examples give."""
    found = (rule.weights({**example.config, **example.beyond}) for example in rule.examples)
    return frozenset(frozenset(name for mapping in mappings for name in mapping.torch) for mappings in found)


def weights_without_settings(rule: Rule) -> tuple[WeightMapping, ...] | None:
    """Return a rule's weight mappings if they do not depend on the layer's configuration, else None."""
    try:
        return rule.weights(_Unknown())
    except RuleError:
        return None


class _Unknown(Mapping[str, Any]):
    """An unknown layer configuration: any attempt to read from it raises `RuleError`."""

    def __getitem__(self, name: str) -> Any:
        raise RuleError(f"the rule reads the setting {name!r}, but a file of weights stores no settings")

    def __iter__(self) -> Iterator[str]:
        raise RuleError("the rule reads all settings of the layer, but a file of weights stores no settings")

    def __len__(self) -> int:
        raise RuleError("the rule counts the settings of the layer, but a file of weights stores no settings")
