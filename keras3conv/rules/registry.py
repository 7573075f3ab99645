"""Store the registered rules, check each new rule, and find the rules for two layers, the preferred one first."""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from keras3conv.errors import RuleError
from keras3conv.model.views import Side
from keras3conv.rules.own_code import guarded, require_examples
from keras3conv.rules.rule import Example, Rule

registered: dict[str, Rule] = {}

_PACKAGE = str(Path(__file__).parents[1])
"""The folder of keras3conv; a rule that was registered in another folder is the user's."""


def is_users_own(rule: Rule) -> bool:
    """Return whether this rule was registered by the user, not by keras3conv."""
    return not rule.origin.startswith(_PACKAGE)


def users_rules() -> list[Rule]:
    """Return the rules that were registered by the user, not by keras3conv."""
    return [rule for rule in registered.values() if is_users_own(rule)]


def register(rule: Rule) -> Rule:
    """Add a rule to the library and return it.

    Raises:
        RuleError: A rule with this name is registered already, the rule has no example, `weights` or `applies` reads an
            argument that an example leaves out, or raises, a tensor occurs in two mappings, or a transform cannot be
            reversed. The message has the file and line of the rule.
    """
    caller = sys._getframe(1)  # not inspect.stack(), which reads the source of every frame
    origin = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    if known := registered.get(rule.name):
        raise RuleError(
            f"{rule.name} is registered twice: give one of the two rules a `variant`, a name that distinguishes it"
            f"\n  here:   {origin}\n  before: {known.origin}"
        )
    if not rule.examples:
        raise RuleError(f"{rule.name} has no example, so it cannot be tested: add one to examples\n  here:   {origin}")
    known_rule = replace(rule, origin=origin)
    if is_users_own(known_rule):
        require_examples(known_rule)
        known_rule = guarded(known_rule)
    for example in rule.examples:
        _check(rule, example, origin)
    registered[rule.name] = known_rule
    ranked.cache_clear()
    return known_rule


@cache
def ranked(torch_kinds: tuple[str, ...], keras_kinds: tuple[str, ...], counts: tuple[int, int]) -> tuple[Rule, ...]:
    """Return the rules for two layers, the preferred one first; cached, because a model has many similar layers.

    Args:
        torch_kinds: The class names of the torch layer, the most derived first; empty if unknown.
        keras_kinds: The class names of the Keras layer, the most derived first; empty if unknown.
        counts: The numbers of torch layers and of Keras layers in one pair: (1, 3) for a packed layer.
    """
    found = [
        rule
        for rule in registered.values()
        if _matches(rule.torch, torch_kinds) and _matches(rule.keras, keras_kinds)
        if rule.torch_count in (0, counts[0]) and rule.keras_count in (0, counts[1])
        if (rule.torch_count == rule.keras_count == 1) == (counts == (1, 1))
    ]
    found.sort(key=lambda rule: (_rank(rule.torch, torch_kinds), _rank(rule.keras, keras_kinds), _is_second(rule)))
    return tuple(found)


def _is_second(rule: Rule) -> bool:
    """Return whether a rule comes after others for the same classes: a fallback, or one for a class of keras3conv."""
    return rule.fallback or rule.torch.startswith("keras3conv.") or rule.keras.startswith("keras3conv.")


def _matches(name: str, kinds: tuple[str, ...]) -> bool:
    return not kinds or name in kinds


def _rank(name: str, kinds: tuple[str, ...]) -> int:
    return kinds.index(name) if name in kinds else 0


def _check(rule: Rule, example: Example, origin: str) -> None:
    mappings = rule.weights({**example.config, **example.beyond})
    sides: tuple[Side, ...] = ("torch", "keras")
    for side in sides:
        names = [name for mapping in mappings for name in mapping.names(side)]
        for name in names:
            if names.count(name) > 1:
                raise RuleError(
                    f"{rule.name} maps the {side} tensor {name!r} twice: remove one of the mappings\n  here:   {origin}"
                )
    for mapping in mappings:
        if mapping.transform.inverse.inverse != mapping.transform:
            raise RuleError(
                f"{rule.name}: {mapping.transform!r} cannot be reversed; define its inverse\n  here:   {origin}"
            )
