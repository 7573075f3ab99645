"""The audit of hyper-parameters: every field of every pair of layers, both sides, in the words of both.

A rule says what a torch configuration is in Keras, and what a Keras configuration is in torch. So each field is asked
twice: is the Keras layer what the rule makes of the torch layer, and is the torch layer what it makes of the Keras
layer? Which field of the one is which of the other is asked of the rule too: one is changed, to see which others
change.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache, partial
from math import isclose
from typing import Any

from keras3conv.alignment.pair import Pair
from keras3conv.errors import Keras3ConvError
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.rules.applying import keras_spec, torch_config
from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule
from keras3conv.rules.units import numbered, units

_REFUSALS = (Keras3ConvError, LookupError, TypeError, ValueError)
"""What a rule raises where it cannot say a configuration: its own error, or that of a value it never meant."""


@dataclass(frozen=True, kw_only=True)
class FieldPair:
    """One hyper-parameter of a pair of layers, side by side.

    Attributes:
        torch: The path of the torch layer.
        keras: The path of the Keras layer.
        torch_field: What torch calls it; empty where torch has no word for it.
        torch_value: What it is there.
        keras_field: What Keras calls it; empty where Keras has no word for it.
        keras_value: What it is there.
        wanted: What it would have to be in Keras, as the rule says; None where the rule says nothing.
        in_torch: What the Keras value would have to be in torch; None where the rule says nothing.
        agrees: Whether the two are the same; None where that cannot be said.
        note: Why it cannot be said.
        beside: What else torch needs to be what Keras is, where one layer does not say it: "after nn.ZeroPad2d(...)".
    """

    torch: str
    keras: str
    torch_field: str = ""
    torch_value: Any = None
    keras_field: str = ""
    keras_value: Any = None
    wanted: Any = None
    in_torch: Any = None
    agrees: bool | None = None
    note: str = ""
    beside: str = ""


def audit(
    pairs: Iterable[Pair], torch: ModelView, keras: ModelView, frozen: Collection[str] = ()
) -> Iterator[FieldPair]:
    """Every field of every pair whose layers both tell their configuration.

    Args:
        pairs: The pairs of a plan, and those of layers without weights.
        torch: The torch side, with the shapes of a run where there was one.
        keras: The Keras side, likewise.
        frozen: The torch parameters that no optimiser is to change.
    """
    torch_layers, keras_layers = (
        {layer.path: layer for layer in (*view.layers, *units(view))} for view in (torch, keras)
    )
    for pair in pairs:
        first, second = _layer(torch_layers, pair.torch, "torch"), _layer(keras_layers, pair.keras, "keras")
        if first and second and first.config is not None and second.config is not None:
            yield from fields_of(find(pair.rule), first, second)
            yield from _trained(pair, first, second, frozen)


def _trained(pair: Pair, torch: LayerView, keras: LayerView, frozen: Collection[str]) -> Iterator[FieldPair]:
    """Whether an optimiser changes the parameters of a pair."""
    parameters = [tensor.path for tensor in torch.tensors if tensor.trainable]
    wanted = (keras.config or {}).get("trainable")
    if parameters and wanted is not None:
        ours = not set(parameters) <= set(frozen)
        yield FieldPair(
            torch=pair.torch, keras=pair.keras, torch_field="requires_grad", torch_value=ours,
            keras_field="trainable", keras_value=wanted, wanted=ours, in_torch=wanted, agrees=ours is wanted,
        )  # fmt: skip


def _layer(layers: Mapping[str, LayerView], path: str, side: Side) -> LayerView | None:
    """The layer of a pair; several, joined by " + ", as one with numbered roles."""
    found = [layers[name] for name in path.split(" + ") if name in layers]
    return found[0] if len(found) == 1 else numbered(found, side) if found else None


def fields_of(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[FieldPair]:
    """Every field of two layers that a rule knows."""
    config = torch_config(rule, torch, keras)
    if config is None:
        return
    made, refusal = _expected(rule, config)
    if made is None:
        yield FieldPair(torch=torch.path, keras=keras.path, note=f"the rule cannot say it: {refusal}")
        return
    own, (returned, beside) = rule.config_of(torch), _returned(rule, keras)
    actual = _flat(keras.config or {}, rule.keras_count)
    links = _links(_Asked(rule, _frozen(config), config))
    linked: set[str] = set()
    for field, value in _flat(own, rule.torch_count).items():
        back = returned.get(field, _MISSING)
        names = [name for name in links.get(field, ()) if name in made]
        linked |= {*names}
        for name in names:
            found = actual.get(name)
            alone = len(names) == 1
            same = _same(made[name], found) or (alone and back is not _MISSING and _same(value, back))
            yield FieldPair(
                torch=torch.path, keras=keras.path, torch_field=field, torch_value=value,
                keras_field=name, keras_value=found, wanted=made[name],
                in_torch=None if back is _MISSING else back, agrees=same, beside=beside,
            )  # fmt: skip
        if not names and back is not _MISSING:
            yield FieldPair(
                torch=torch.path, keras=keras.path, torch_field=field, torch_value=value, in_torch=back,
                agrees=_same(value, back), beside=beside,
            )  # fmt: skip
    for name in made.keys() - linked:
        yield FieldPair(
            torch=torch.path, keras=keras.path, keras_field=name, keras_value=actual.get(name), wanted=made[name],
            agrees=_same(made[name], actual.get(name)),
        )  # fmt: skip
    activation = actual.get("activation", "linear")
    if "activation" not in made and activation not in ("linear", None):
        note = "inside the Keras layer; torch has it after this one"
        yield FieldPair(torch=torch.path, keras=keras.path, keras_field="activation", keras_value=activation, note=note)


_MISSING = object()


@dataclass(frozen=True)
class _Asked:
    """A configuration that a rule is asked about; equal ones are asked once."""

    rule: Rule
    key: str
    config: Config

    def __hash__(self) -> int:
        return hash((self.rule.name, self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and (self.rule.name, self.key) == (other.rule.name, other.key)


def _frozen(config: Config) -> str:
    return repr(sorted(config.items(), key=lambda entry: entry[0]))


def _expected(rule: Rule, config: Config) -> tuple[dict[str, Any] | None, str]:
    """The fields of the Keras layers that a rule makes of a torch configuration, and why it makes none."""
    try:
        specs = rule.to_keras(config)
    except _REFUSALS as error:
        return None, str(error)
    return _fields(rule, specs), ""


def _fields(rule: Rule, specs: LayerSpecs) -> dict[str, Any]:
    """Of several layers those that own tensors, numbered; of paddings before one only the one."""
    if rule.keras_count == 1:
        owner = next((spec for spec in reversed(specs) if spec.kind == rule.keras), specs[-1])
        return dict(owner.config)
    return {f"{place}.{name}": value for place, spec in enumerate(specs) for name, value in spec.config.items()}


def _returned(rule: Rule, keras: LayerView) -> tuple[dict[str, Any], str]:
    """The torch configuration that a rule makes of the Keras layer, and what it needs beside; empty where it cannot."""
    specs = _specs(rule, keras)
    try:
        made = rule.to_torch(specs)
    except _REFUSALS:
        return {}, ""
    if rule.torch_count == 1:
        owner = next((spec for spec in made if spec.kind == rule.torch), made[-1])
        return {name: value for name, value in owner.config.items() if name in rule.fields}, _beside(made, owner)
    return {f"{place}.{name}": value for place, spec in enumerate(made) for name, value in spec.config.items()}, ""


def _beside(made: LayerSpecs, owner: LayerSpec) -> str:
    """The other layers that a rule makes, as they would be written: "after nn.ZeroPad2d(padding=(0, 1, 0, 1))"."""
    place = next(number for number, spec in enumerate(made) if spec is owner)
    sides = ("after", made[:place]), ("before", made[place + 1 :])
    return " and ".join(f"{word} {', '.join(map(_written, specs))}" for word, specs in sides if specs)


def _written(spec: LayerSpec) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in spec.config.items())
    return f"{spec.kind.replace('torch.nn.', 'nn.')}({arguments})"


def _specs(rule: Rule, keras: LayerView) -> LayerSpecs:
    spec = keras_spec(rule, keras)
    if rule.keras_count == 1:
        return (spec,)
    parts = keras.config or {}
    return tuple(
        LayerSpec(
            kind=rule.keras,
            config=config,
            shapes={
                role.partition("/")[2]: shape for role, shape in spec.shapes.items() if role.startswith(f"{place}/")
            },
            inputs=spec.inputs,
        )
        for place, config in parts.items()
    )


def _flat(config: Config, number: int) -> dict[str, Any]:
    """The fields of one layer; of several, with their numbers."""
    if number == 1:
        return dict(config)
    return {f"{place}.{name}": value for place, part in config.items() for name, value in part.items()}


@lru_cache(maxsize=4096)
def _links(asked: _Asked) -> Mapping[str, tuple[str, ...]]:
    """Which Keras fields follow each torch field: the field is changed, to see what the rule makes of it then."""
    before, _ = _expected(asked.rule, asked.config)
    if before is None or asked.rule.torch_count != 1:
        return {}
    links: dict[str, tuple[str, ...]] = {}
    for field in asked.rule.fields:
        if field not in asked.config:
            continue
        found: dict[str, None] = {}
        for other in _others(asked.config[field]):
            after, _ = _expected(asked.rule, {**asked.config, field: other})
            for name in before:
                if after is not None and name in after and not _same(before[name], after[name]):
                    found[name] = None
        links[field] = tuple(found)
    return _nearest_only(links)


def _nearest_only(links: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Every Keras field beside one torch field: of those that it follows, the one with the most similar name."""
    chosen: dict[str, str] = {}
    for field, names in links.items():
        for name in names:
            chosen[name] = max(chosen.get(name, field), field, key=partial(_resemblance, name))
    return {field: tuple(name for name in names if chosen[name] == field) for field, names in links.items()}


def _resemblance(name: str, other: str) -> float:
    """Return how much two names have in common, between 0 and 1."""
    return SequenceMatcher(None, name, other).ratio()


def _others(value: Any) -> Iterator[Any]:
    """Values that are not this one, of the same kind."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value * 2 or 2, value + 1)
    elif isinstance(value, float):
        yield value / 2 + 0.0625
    elif isinstance(value, tuple | list):
        for changed in zip(*(list(_others(item)) for item in value), strict=False):
            yield type(value)(changed)


def _same(first: Any, second: Any) -> bool:
    """Whether two values say the same: numbers up to rounding, one number for an equal one on every axis."""
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
    return len(spread[0]) == len(spread[1]) and all(map(_same, *spread))


__all__ = ["FieldPair", "audit", "fields_of"]
