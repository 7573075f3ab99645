"""Check the classes and attributes that the rules of the user name; a misspelt name would have no effect."""

import sys
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.rules.rule import Rule

_SHOWN = 3
_SETTINGS = 8
"""The largest number of attributes to list all of; of more, only those with a similar name are listed."""


def require_classes(rule: Rule) -> None:
    """Check the class names in a rule that the user registered.

    Raises:
        RuleError: The rule names a class or a module that does not exist.
    """
    for side, kind in _classes(rule):
        if (missing := _missing(kind)) and kind not in _defined(side):
            framework = {"torch": "torch", "keras": "Keras"}[side]
            fact = f"names the {framework} class {kind}, but {missing}"
            raise RuleError(f"the rule {rule.name} {fact}\n  here:   {rule.origin}")


def require_fields(rule: Rule, torch: ModelView) -> None:
    """Check that the torch layers have the attributes that a rule of the user names in `fields`.

    Args:
        rule: The rule; nothing is checked if it is for several torch layers.
        torch: The view of a live torch module, with the configurations of its layers.

    Raises:
        RuleError: A layer lacks an attribute that the rule for its class reads.
    """
    for layer in torch.layers if rule.torch_count == 1 else ():
        if layer.config is not None and rule.torch in layer.kinds and rule.applies(rule.config_of(layer)):
            _require_fields(rule, layer)


def _require_fields(rule: Rule, layer: LayerView) -> None:
    config = {} if layer.config is None else layer.config
    tensors = {tensor.role for tensor in layer.tensors}
    settings = [name for name in config if name not in tensors]
    for name in rule.fields:
        if name not in config:
            near = get_close_matches(name, settings, _SHOWN, 0.5)
            listed = near if near and len(settings) > _SETTINGS else settings
            has = f"its attributes with plain values are {', '.join(listed) or 'none'}"
            fact = f"`fields` names {name!r}, which {rule.torch.rpartition('.')[2]} ({layer.path}) does not have"
            raise RuleError(f"the rule {rule.name}: {fact}; {has}\n  here:   {rule.origin}")


def _classes(rule: Rule) -> Iterator[tuple[Side, str]]:
    """Yield the side and the class name of a rule's two classes; classes inside functions are left out."""
    sides: tuple[tuple[Side, str], ...] = (("torch", rule.torch), ("keras", rule.keras))
    for side, kind in sides:
        if not any(mark in kind for mark in ("<locals>", ">")) and "." in kind:
            yield side, kind


def _missing(kind: str) -> str:
    """Return a clause: "there is no module my_layers", or "my_layers has no Gate"; empty if the class exists."""
    names = kind.split(".")
    for length in range(len(names) - 1, 0, -1):
        found: object = _module(".".join(names[:length]))
        if found is None:
            continue
        owner = ".".join(names[:length])
        for name in names[length:]:
            if not hasattr(found, name):
                return f"{owner} has no {name}{_similar(found, name)}"
            found, owner = getattr(found, name), f"{owner}.{name}"
        return ""
    return f"there is no module {kind.rpartition('.')[0]}"


def _defined(side: Side) -> set[str]:
    """Return the qualified names of all layer classes that were defined in this process, in modules or elsewhere."""
    package = sys.modules.get(side)
    base: type | None = None if package is None else package.nn.Module if side == "torch" else package.layers.Layer
    left, found = [] if base is None else [base], set[str]()
    while left:
        cls = left.pop()
        found.add(f"{cls.__module__}.{cls.__qualname__}")
        left += type.__subclasses__(cls)
    return found


def _module(name: str) -> ModuleType | None:
    """Return a module by its name; None if there is none."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _similar(owner: object, name: str) -> str:
    """Return a clause with the classes of a module that have a similar name: "; it has KGate"; empty for none.

    Args:
        owner: The module.
        name: The name that it lacks.
    """
    classes = [one for one, value in vars(owner).items() if isinstance(value, type)]
    near = get_close_matches(name, classes, _SHOWN, 0.5)
    return f"; it has {', '.join(near)}" if near else ""
