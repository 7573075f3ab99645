"""Find the Keras arguments that depend on each attribute of a torch layer, for the comparison of hyper-parameters.

Most rules declare them. For other rules, the attributes are changed one at a time, to see which arguments change.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from math import isclose
from typing import Any

from keras3conv.errors import Keras3ConvError
from keras3conv.rules.fixed import with_inner_layer
from keras3conv.rules.rule import Config, LayerSpecs, Rule

REFUSALS = (Keras3ConvError, LookupError, TypeError, ValueError)
"""The exceptions that a rule may raise for a configuration that it cannot translate."""

Correspondences = Mapping[str, tuple[str, ...]]
"""For each torch attribute, the Keras arguments that depend on it."""


def expected_arguments(rule: Rule, config: Config) -> dict[str, Any]:
    """Return the arguments, by name, of the Keras layer that a rule makes from the configuration of a torch layer.

    Raises one of the exceptions in `REFUSALS` if the rule cannot translate the configuration.
    """
    return _arguments(rule, rule.to_keras(config))


def _arguments(rule: Rule, specs: LayerSpecs) -> dict[str, Any]:
    """Return the constructor arguments, by name, of that Keras layer which has the weights.

    Args:
        rule: The rule that made the layers. If it is for several Keras layers, the result has the arguments of all;
            each name then starts with the index of its layer, such as "0.units".
        specs: The Keras layers in the order of their calls.
    """
    if rule.keras_count == 1:
        owner = next((spec for spec in reversed(specs) if spec.kind == rule.keras), specs[-1])
        return with_inner_layer(owner.config)
    owners = [spec for spec in specs if spec.kind == rule.keras] if rule.keras_count == 0 else specs
    configs = [with_inner_layer(spec.config) for spec in owners]
    return {f"{place}.{name}": value for place, config in enumerate(configs) for name, value in config.items()}


def correspondences(rule: Rule, config: Config, expected: Mapping[str, Any]) -> Correspondences:
    """Return, for each attribute of a torch layer, the names of the expected Keras arguments that depend on it.

    Such as {"kernel_size": ("kernel_size",), "padding": ("padding",)}. Empty for a rule for several torch layers.

    Args:
        rule: The rule.
        config: The configuration of the torch layer.
        expected: The Keras arguments that `expected_arguments` returns for this configuration.
    """
    if rule.torch_count != 1:
        return {}
    if rule.correspondences is None:
        return _nearest_only(found_by_trial(rule, config, {}))
    return {
        torch: tuple(name for name in expected if _without_number(rule, name) in keras)
        for torch, keras in rule.correspondences.items()
    }


def _without_number(rule: Rule, name: str) -> str:
    return name if rule.keras_count == 1 else name.partition(".")[2]


def found_by_trial(rule: Rule, config: Config, others: Mapping[str, Iterable[Any]]) -> Correspondences:
    """Find the Keras arguments that depend on each torch attribute: change one attribute and translate again.

    Args:
        rule: The rule.
        config: A configuration of the torch layer.
        others: More values to try, by attribute, in addition to generated values of the same type.

    Returns:
        The names of the Keras arguments that changed, by torch attribute.
    """
    before = expected_arguments(rule, config)
    found: dict[str, tuple[str, ...]] = {}
    for field in rule.fields:
        changed: dict[str, None] = {}
        for value in (*_other_values(config.get(field)), *others.get(field, ())):
            try:
                after = expected_arguments(rule, {**config, field: value})
            except REFUSALS:
                continue
            changed |= {name: None for name in before if name in after and not same_value(before[name], after[name])}
        found[field] = tuple(changed)
    return found


def _nearest_only(correspondences: Correspondences) -> Correspondences:
    """Keep the name of each Keras argument only for one torch attribute, the one with the most similar name.

    Args:
        correspondences: The names of Keras arguments by torch attribute; a name may occur for several attributes.
    """
    chosen: dict[str, str] = {}
    for field, names in correspondences.items():
        for name in names:
            before = chosen.get(name, field)
            chosen[name] = field if _resemblance(name, field) > _resemblance(name, before) else before
    return {field: tuple(name for name in names if chosen[name] == field) for field, names in correspondences.items()}


def _resemblance(name: str, other: str) -> float:
    """Return the similarity of two names, from 0 to 1."""
    return SequenceMatcher(None, name, other).ratio()


def _other_values(value: Any) -> Iterator[Any]:
    """Yield values that differ from an attribute's value and have the same type, to try them instead: 3 -> 6, 4."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value * 2 or 2, value + 1)
    elif isinstance(value, float):
        yield value / 2 + 0.0625
    elif isinstance(value, tuple | list):
        for changed in zip(*(list(_other_values(item)) for item in value), strict=False):
            yield type(value)(changed)


def same_value(first: Any, second: Any) -> bool:
    """Return whether two argument values are equivalent.

    Numbers are equal up to rounding; a single number equals a sequence in which every element is this number; None
    equals False and "linear".
    """
    if isinstance(first, tuple | list) or isinstance(second, tuple | list):
        return _same_sequences(first, second)
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second or (first in (None, False) and second in (None, False))
    if isinstance(first, int | float) and isinstance(second, int | float):
        return isclose(first, second, rel_tol=1e-9, abs_tol=0.0)
    if first in (None, "linear") and second in (None, "linear"):
        return True
    return bool(first == second)


def _same_sequences(first: Any, second: Any) -> bool:
    items = [value if isinstance(value, tuple | list) else None for value in (first, second)]
    length = max(len(value) for value in items if value is not None)
    spread = [
        [value] * length if part is None else list(part) for value, part in zip((first, second), items, strict=True)
    ]
    return len(spread[0]) == len(spread[1]) and all(map(same_value, *spread))
