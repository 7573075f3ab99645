"""Look up rules by name or by the classes of two layers; import every file of `rules/families` on first use."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from pkgutil import walk_packages

from keras3conv.errors import RuleError
from keras3conv.rules import families
from keras3conv.rules.registry import ranked, registered
from keras3conv.rules.rule import Rule

_left_out: ContextVar[frozenset[str]] = ContextVar("_left_out", default=frozenset())
"""The names of the rules that are not used at present."""


@contextmanager
def without(names: Iterable[str]) -> Iterator[None]:
    """Leave out the rules with these names, and no others, in a `with` block: their classes then count as unknown."""
    token = _left_out.set(frozenset(names))
    try:
        yield
    finally:
        _left_out.reset(token)


def list_rules() -> tuple[Rule, ...]:
    """Return every registered rule that is not left out, in the order of the files of `rules/families`."""
    _load()
    left_out = _left_out.get()
    return tuple(rule for rule in registered.values() if rule.name not in left_out)


def find(name: str) -> Rule:
    """Return the rule with a name ("torch.nn.Linear <-> keras.layers.Dense"); raise `RuleError` if none has it."""
    _load()
    if name not in registered:
        raise RuleError(f"there is no rule with the name {name!r}; `keras3conv rules` lists the names")
    return registered[name]


def lookup(
    torch_kinds: tuple[str, ...], keras_kinds: tuple[str, ...], counts: tuple[int, int] = (1, 1)
) -> Iterator[Rule]:
    """Return the rules that pair the classes of two layers, those for the most derived classes first.

    An empty tuple of classes matches every class. A rule that is returned may still not apply to the configurations:
    its `applies` is not called, because a layer from a weight file has no configuration.

    Args:
        torch_kinds: The class names of the torch layer, the most derived first.
        keras_kinds: The class names of the Keras layer, the most derived first.
        counts: The numbers of torch layers and of Keras layers in one pair: (1, 3) for a packed layer.
    """
    _load()
    left_out = _left_out.get()
    return (rule for rule in ranked(torch_kinds, keras_kinds, counts) if rule.name not in left_out)


def known_classes() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the torch classes and of the Keras classes that have a rule."""
    return frozenset(rule.torch for rule in list_rules()), frozenset(rule.keras for rule in list_rules())


@cache
def _load() -> None:
    """Import every file of `rules/families`, which registers its rules, and sort the registry by file and line.

    The registry is sorted because its order decides between equal candidates, and another module may have imported one
    of the files before.
    """
    places: dict[str, int] = {}
    for module in walk_packages(families.__path__, f"{families.__name__}."):
        file = import_module(module.name).__file__
        places[str(file)] = len(places)
    ordered = sorted(registered.values(), key=lambda rule: places.get(rule.origin.rpartition(":")[0], len(places)))
    registered.clear()
    registered.update((rule.name, rule) for rule in ordered)
