"""Call the functions of a rule that the user wrote: an exception becomes an error that says what to change in the rule.

`weights` and `applies` read the configuration of a layer. A key that it lacks is the usual mistake: an example leaves
out an argument with a default, or `fields` does not name an attribute.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

from keras3conv.errors import RAISED_BY_MODELS, Keras3ConvError, RuleError
from keras3conv.rules.rule import Config, Example, Rule

_Result = TypeVar("_Result")

_BEYOND = ("inputs", "keras", "flattened")
"""The keys of a configuration that are no arguments of the torch layer."""

_PLAIN = (bool, int, float, str, type(None))


def guarded(rule: Rule) -> Rule:
    """Return a user's rule whose `weights` and `applies` raise `RuleError` in place of any other exception.

    Args:
        rule: The rule, with its `origin`.
    """
    weights = _guarded(rule, "weights", rule.weights)
    return replace(rule, weights=weights, applies=_guarded(rule, "applies", rule.applies))


def require_examples(rule: Rule) -> None:
    """Call `weights` and `applies` of a user's rule with the configuration of each example.

    Raises:
        RuleError: A function reads an argument that the example leaves out, or raises another exception. The message
            has the example with the argument.
    """
    functions: tuple[tuple[str, Callable[[Config], object]], ...] = (
        ("weights", rule.weights),
        ("applies", rule.applies),
    )
    for example in rule.examples:
        config = {**example.config, **example.beyond}
        for name, function in functions:
            try:
                function(config)
            except Keras3ConvError:
                raise
            except RAISED_BY_MODELS as error:
                where = f"the example config={dict(example.config)!r}"
                missing = _missing(function, config)
                message = _left_out(rule, name, example, missing) if missing else _raised(rule, name, where, error)
                raise RuleError(message) from error


def _guarded(rule: Rule, name: str, function: Callable[[Config], _Result]) -> Callable[[Config], _Result]:
    @wraps(function)
    def called(config: Config) -> _Result:
        try:
            return function(config)
        except Keras3ConvError:
            raise
        except RAISED_BY_MODELS as error:
            missing = _missing(function, config)
            where = f"a configuration with {', '.join(config) or 'no keys'}"
            message = _unnamed(rule, name, config, missing) if missing else _raised(rule, name, where, error)
            raise RuleError(message) from error

    return called


def _left_out(rule: Rule, name: str, example: Example, missing: tuple[str, ...]) -> str:
    """Return the message that an example lacks a key that a function reads, with the example to write.

    Args:
        rule: The rule.
        name: The function: "weights".
        example: The example.
        missing: The key; for a rule of several layers, the number of the layer and the key.
    """
    *_, key = missing
    said = f"the rule {rule.name}: {name} reads {_subscripts(missing)}, which the example"
    if key == "flattened":
        return f'{said} cannot have: read config.get("flattened"), which may be None{_here(rule)}'
    if key == "keras":
        line = f'keras=k3c.LayerSpec(kind="{rule.keras}", shapes={{"NAME": (2, 3)}})'
        return f"{said} gives in keras=, the Keras layer{_here(rule)}\nFix:  {line}  # in k3c.Example"
    if len(missing) == 1 and (message := _no_argument(rule, name, key)):
        return message
    value = _default(rule.torch, key)
    fact = f"config={dict(example.config)!r} leaves out; examples name each argument that is read, defaults too"
    line = f"config={_with(example.config, missing, value)}"
    return f"{said} {fact}{_here(rule)}\nFix:  {line}  # in k3c.Example"


def _unnamed(rule: Rule, name: str, config: Config, missing: tuple[str, ...]) -> str:
    """Return the message that the configuration of a layer lacks a key that a function reads.

    Args:
        rule: The rule.
        name: The function: "weights".
        config: The configuration.
        missing: The key; for a rule of several layers, the number of the layer and the key.
    """
    *_, key = missing
    named = ", ".join(one for one in config if one not in _BEYOND) or "nothing"
    said = f"the rule {rule.name}: {name} reads {_subscripts(missing)}, but the configuration has {named}"
    if key in _BEYOND:
        return f'{said}: the layer has no {key} here; read config.get("{key}"), which may be None{_here(rule)}'
    if key in rule.fields:
        return f"{said}: set self.{key} in __init__ of {rule.torch}, and return it from to_torch{_here(rule)}"
    if len(missing) == 1 and (message := _no_argument(rule, name, key)):
        return message
    if isinstance(rule.fields, Mapping):
        line = f"fields={ {**rule.fields, key: ''}!r}  # '' or the Keras argument of the same meaning, in k3c.Rule"
    else:
        line = f"fields={(*rule.fields, key)!r}  # in k3c.Rule"
    return f"{said}: `fields` names the attributes that a rule reads{_here(rule)}\nFix:  {line}"


def _no_argument(rule: Rule, name: str, key: str) -> str:
    """Return the message that a function reads a key which is no argument of the torch class; empty if it may be one.

    An optional parameter has another name than the argument that decides if there is one.

    Args:
        rule: The rule.
        name: The function: "weights".
        key: The key.
    """
    known = _arguments(rule.torch)
    if not known or key in known or any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return ""
    names = ", ".join(known)
    return (
        f"the rule {rule.name}: {name} reads config[{key!r}], but {rule.torch} has no argument {key} (it has {names}): "
        "read the argument that decides it, and name it in `fields`; the module keeps it as an attribute of the same "
        f"name{_here(rule)}"
    )


def _raised(rule: Rule, name: str, where: str, error: BaseException) -> str:
    """Return the message that a function raised an exception other than that of a missing key."""
    return f"the rule {rule.name}: {name} raised {type(error).__name__} for {where}: {error}{_here(rule)}"


def _here(rule: Rule) -> str:
    return f"\n  here:   {rule.origin}"


def _subscripts(keys: tuple[str, ...]) -> str:
    return "config" + "".join(f"[{key!r}]" for key in keys)


def _with(config: Config, keys: tuple[str, ...], value: str) -> str:
    """Return the source code of a configuration with one more key.

    Args:
        config: The configuration.
        keys: The key; for a rule of several layers, the number of the layer and the key.
        value: The source code of its value.
    """
    first, *further = keys
    new = value if not further else _with(config.get(first, {}), tuple(further), value)
    entries = {name: repr(old) for name, old in config.items()} | {first: new}
    return f"{{{', '.join(f'{name!r}: {text}' for name, text in entries.items())}}}"


def _default(kind: str, argument: str) -> str:
    """Return the default of an argument of a class as source code; VALUE if the class or the default is unknown."""
    found = _arguments(kind).get(argument)
    value = Parameter.empty if found is None else found.default
    is_plain = isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(isinstance(one, _PLAIN) for one in value))
    return repr(value) if is_plain else "VALUE"


def _arguments(kind: str) -> Mapping[str, Parameter]:
    """Return the arguments of a class by name; none if the class is unknown or not written in Python."""
    package, _, name = kind.rpartition(".")
    cls = getattr(sys.modules.get(package), name, None)
    try:
        return signature(cls).parameters if isinstance(cls, type) else {}
    except ValueError:
        return {}


class _Missing(KeyError):
    """Raised for a key that a configuration lacks; its arguments are the keys that lead to it."""


class _Asked(dict[str, Any]):
    """A configuration whose missing keys are told from those of any other dict."""

    def __init__(self, config: Config, path: tuple[str, ...] = ()) -> None:
        super().__init__(
            {key: _Asked(value, (*path, key)) if isinstance(value, dict) else value for key, value in config.items()}
        )
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise _Missing(*self._path, key)


def _missing(function: Callable[[Config], object], config: Config) -> tuple[str, ...]:
    """Call a function that has raised once more, and return the key that the configuration lacks; empty for none."""
    try:
        function(_Asked(config))
    except _Missing as error:
        return error.args
    except RAISED_BY_MODELS:
        return ()
    return ()
