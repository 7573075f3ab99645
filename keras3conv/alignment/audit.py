"""The audit of hyper-parameters: every field of every pair of layers, both sides, in the words of both.

A rule says what a torch configuration is in Keras, and what a Keras configuration is in torch. So each field is asked
twice: is the Keras layer what the rule makes of the torch layer, and is the torch layer what it makes of the Keras
layer? Which field of the one is which of the other is asked of the rule too: one is changed, to see which others
change.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.rules.applying import keras_spec, torch_config
from keras3conv.rules.correspondence import REFUSALS, correspondences, expected_arguments, same_value
from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule
from keras3conv.rules.units import numbered, units


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
    """Yield every field of two layers that a rule knows."""
    config = torch_config(rule, torch, keras)
    if config is None:
        return
    pair = partial(FieldPair, torch=torch.path, keras=keras.path)
    try:
        expected = expected_arguments(rule, config)
    except REFUSALS as error:
        yield pair(note=f"the rule cannot say it: {error}")
        return
    own, (returned, beside) = rule.config_of(torch), _returned(rule, keras)
    actual = _flat(keras.config or {}, rule.keras_count)
    following = correspondences(rule, config, expected)
    for field, value in _flat(own, rule.torch_count).items():
        back = returned.get(field, _MISSING)
        in_torch = None if back is _MISSING else back
        comes_back = back is not _MISSING and same_value(value, back)
        names = following.get(field, ())
        for name in names:
            same = same_value(expected[name], actual.get(name)) or (comes_back and len(names) == 1)
            yield pair(
                torch_field=field, torch_value=value, keras_field=name, keras_value=actual.get(name),
                wanted=expected[name], in_torch=in_torch, agrees=same, beside=beside,
            )  # fmt: skip
        if not names and back is not _MISSING:
            yield pair(torch_field=field, torch_value=value, in_torch=in_torch, agrees=comes_back, beside=beside)
    followed = {name for names in following.values() for name in names}
    for name in expected.keys() - followed:
        same = same_value(expected[name], actual.get(name))
        yield pair(keras_field=name, keras_value=actual.get(name), wanted=expected[name], agrees=same)
    activation = actual.get("activation", "linear")
    if "activation" not in expected and activation not in ("linear", None):
        note = "inside the Keras layer; torch has it after this one"
        yield pair(keras_field="activation", keras_value=activation, note=note)


_MISSING = object()


def _returned(rule: Rule, keras: LayerView) -> tuple[dict[str, Any], str]:
    """The torch configuration that a rule makes of the Keras layer, and what it needs beside; empty where it cannot."""
    specs = _specs(rule, keras)
    try:
        made = rule.to_torch(specs)
    except REFUSALS:
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


__all__ = ["FieldPair", "audit", "fields_of"]
