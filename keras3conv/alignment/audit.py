"""Compare the hyper-parameters of every pair of layers.

A rule translates a torch configuration to Keras, and a Keras configuration to torch. The audit translates in both
directions and compares each field twice: the Keras layer with the translated torch layer, and the torch layer with the
translated Keras layer. The rule declares which fields correspond.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from keras3conv.alignment.beside import NOTHING, Beside, around, at_this_size
from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.rules.applying import keras_specs, torch_config
from keras3conv.rules.correspondence import (
    REFUSALS,
    Correspondences,
    correspondences,
    expected_arguments,
    same_value,
)
from keras3conv.rules.fixed import Acts, with_inner_layer
from keras3conv.rules.helpers.config import name_of
from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, LayerSpecs, Rule
from keras3conv.rules.units import numbered, units


@dataclass(frozen=True, kw_only=True)
class FieldPair:
    """One hyper-parameter of a pair of layers, in both frameworks.

    Attributes:
        torch: The path of the torch layer.
        keras: The path of the Keras layer.
        torch_field: The name of the field in torch; empty if torch has no such field.
        torch_value: The value of the torch field.
        keras_field: The name of the field in Keras; empty if Keras has no such field.
        keras_value: The value of the Keras field.
        wanted: The expected value of the Keras field: `torch_value` translated by the rule. None if the rule does not
            translate the field.
        in_torch: The expected value of the torch field: `keras_value` translated by the rule. None if the rule does not
            translate the field.
        agrees: Whether both values mean the same, such as padding 1 and "same"; None if that cannot be decided.
        note: The reason why `agrees` is None.
        beside: The layers that torch needs in addition to compute what the Keras layer does, such as a `ZeroPad2d`.
        keras_beside: The layers that Keras needs in addition to compute what the torch layer does.
        acts: When the field has an effect: always, in training only, or through the state with which the next call
            begins.
        is_built_in: Whether torch has no such field, and always computes with the fixed value `torch_value`.
        selects: Whether the field only selects which results the Keras layer returns. `validate` then compares the same
            results of torch.
        follows: The names of Keras arguments, such as "padding", that cause the difference of a torch field without a
            Keras argument, such as `ceil_mode`. If they were correct, the field would agree. Empty if there are none.
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
    beside: Beside = NOTHING
    keras_beside: Beside = NOTHING
    acts: Acts = "always"
    is_built_in: bool = False
    selects: bool = False
    follows: str = ""


def audit(
    pairs: Iterable[Pair], torch: ModelView, keras: ModelView, frozen: Collection[str] = ()
) -> Iterator[FieldPair]:
    """Yield the comparison of every hyper-parameter of every pair of layers whose configurations are both known.

    Args:
        pairs: The pairs of a plan, and pairs of layers without weights.
        torch: The view of the torch model; its layers have input shapes if the model was run.
        keras: The view of the Keras model; its layers have input shapes if the model was run.
        frozen: The paths of the torch parameters with `requires_grad=False`.
    """
    torch_layers = {layer.path: layer for layer in (*torch.layers, *units(torch))}
    keras_layers = {layer.path: layer for layer in (*keras.layers, *units(keras))}
    for pair in pairs:
        first = _layer(torch_layers, pair.torch_layers, "torch")
        second = _layer(keras_layers, pair.keras_layers, "keras")
        if first and second and first.config is not None and second.config is not None:
            yield from fields_of(find(pair.rule), first, second)
            yield from _trainable(pair, first, second, frozen)


def _layer(layers: Mapping[str, LayerView], paths: Iterable[str], side: Side) -> LayerView | None:
    """Return the layer of a pair in one model; None if the model does not have it.

    If the pair has several layers in this model, they are combined into one: its roles start with the index of the
    layer in `paths`, as in "0.weight".

    Args:
        layers: The layers of one model, by path.
        paths: The paths of the pair's layers in this model.
        side: The side of this model: "torch" or "keras".
    """
    found = [layers[path] for path in paths if path in layers]
    if len(found) > 1:
        return numbered(found, side)
    return found[0] if found else None


def _trainable(pair: Pair, torch: LayerView, keras: LayerView, frozen: Collection[str]) -> Iterator[FieldPair]:
    """Yield one comparison: `requires_grad` of the torch parameters of a pair with `trainable` of its Keras layer.

    Args:
        pair: The pair of the layers.
        torch: The torch layer.
        keras: The Keras layer.
        frozen: The paths of the torch parameters with `requires_grad=False`.
    """
    parameters = [tensor.path for tensor in torch.tensors if tensor.trainable]
    in_keras = (keras.config or {}).get("trainable")
    if parameters and in_keras is not None:
        in_torch = not set(parameters) <= set(frozen)
        yield FieldPair(
            torch=pair.torch, keras=pair.keras, torch_field="requires_grad", torch_value=in_torch,
            keras_field="trainable", keras_value=in_keras, wanted=in_torch, in_torch=in_keras,
            agrees=in_torch is in_keras, acts="in training",
        )  # fmt: skip


def fields_of(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[FieldPair]:
    """Yield every hyper-parameter that the rule of a torch layer and a Keras layer translates, with the values of both.

    If the rule refuses the configuration, yield one `FieldPair` that has only a note. If the configuration of the torch
    layer is unknown, yield nothing.
    """
    config = torch_config(rule, torch, keras)
    if config is None:
        return
    pair = partial(FieldPair, torch=torch.path, keras=keras.path)
    try:
        expected, keras_beside = expected_arguments(rule, config), _beside_in_keras(rule, config)
    except REFUSALS as error:
        yield pair(note=f"the rule cannot translate the configuration of this layer: {error}")
        return
    actual = _numbered_fields(keras.config or {}, rule.keras_count)
    returned, beside = _translated_back(rule, keras)
    corresponding = correspondences(rule, config, expected)
    corrected = _with_expected(rule, keras, corresponding, expected, actual)
    values = _numbered_fields(rule.config_of(torch), rule.torch_count)
    without_keras = {name: returned[name] for name in values if name in returned and not corresponding.get(name)}
    others = {name: back for name, back in without_keras.items() if not same_value(values[name], back)}
    seen: set[str] = set()
    for field, value in values.items():
        has_way_back = field in returned
        agrees_back = has_way_back and same_value(value, returned[field])
        back = returned.get(field)
        names = corresponding.get(field, ())
        seen.update(names)
        for name in names:
            agrees = same_value(expected[name], actual.get(name)) or (len(names) == 1 and agrees_back)
            yield pair(
                torch_field=field, torch_value=value, keras_field=name, keras_value=actual.get(name),
                wanted=expected[name], in_torch=back, agrees=agrees, keras_beside=keras_beside,
                beside=replace(beside, arguments=others),
            )  # fmt: skip
        if not names and has_way_back:
            follows = "" if agrees_back or not same_value(value, corrected.returned.get(field)) else corrected.names
            yield pair(
                torch_field=field, torch_value=value, in_torch=back, agrees=agrees_back, beside=beside, follows=follows
            )  # fmt: skip
    for name in (name for name in expected if name not in seen):
        found = actual.get(name)
        selects = name.rpartition(".")[2] in rule.returned
        agrees = same_value(expected[name], found)
        yield pair(keras_field=name, keras_value=found, wanted=expected[name], agrees=agrees, selects=selects)
    built_in = {field.keras_field: field for field in _built_in(rule, keras, pair) if field.keras_field not in expected}
    yield from built_in.values()
    activation = actual.get("activation", "linear")
    if "activation" not in {*built_in, *expected} and activation not in ("linear", None):
        note = "Keras applies the activation inside the layer; in torch it is a call after this layer"
        yield pair(keras_field="activation", keras_value=activation, note=note)


@dataclass(frozen=True)
class _Corrected:
    """A Keras layer with corrected arguments: their names, and the torch fields that a rule makes of the layer."""

    names: str
    returned: Mapping[str, Any]


def _with_expected(
    rule: Rule, keras: LayerView, corresponding: Correspondences, expected: Mapping[str, Any], actual: Mapping[str, Any]
) -> _Corrected:
    """Correct the arguments of a Keras layer to those that a rule expects, and translate the layer back to torch.

    The result shows whether a torch field without a Keras argument, such as `ceil_mode`, differs only because other
    arguments are wrong.

    Args:
        rule: The rule of the two layers.
        keras: The Keras layer.
        corresponding: The names of the Keras arguments, by torch field.
        expected: The arguments that the rule expects, by name.
        actual: The arguments of the Keras layer, by name.
    """
    names = (name for found in corresponding.values() for name in found)
    other = {name: expected[name] for name in names if not same_value(expected[name], actual.get(name))}
    if not other or rule.torch_count != 1 or rule.keras_count != 1:
        return _Corrected("", {})
    layer = replace(keras, config={**(keras.config or {}), **other})
    return _Corrected(", ".join(other), _translated_back(rule, layer)[0])


def _built_in(rule: Rule, keras: LayerView, pair: Callable[..., FieldPair]) -> Iterator[FieldPair]:
    """Yield the arguments of a Keras layer that the torch class lacks, because torch always computes with one value.

    Args:
        rule: The rule of the two layers.
        keras: The Keras layer. If it is a combination of several layers, its configuration has one for each: {"0":
            {...}}.
        pair: Makes a `FieldPair` of the two layers from its other attributes, which are passed as keyword arguments.
    """
    config = keras.config or {}
    parts = {"": config} if rule.keras_count == 1 else {f"{place}.": part for place, part in config.items()}
    for prefix, part in parts.items():
        for setting in rule.fixed(part):
            value = _with_named_functions(setting.value)
            yield pair(
                torch_value=setting.fixed, keras_field=f"{prefix}{setting.name}", keras_value=value,
                wanted=setting.fixed, agrees=same_value(setting.fixed, value), acts=setting.acts, is_built_in=True,
            )  # fmt: skip


def _with_named_functions(value: Any) -> Any:
    """Return a field's value; for a function that Keras serialised, the name under which it is registered."""
    return name_of(value) if isinstance(value, Mapping) and value.get("class_name") == "function" else value


def _translated_back(rule: Rule, keras: LayerView) -> tuple[dict[str, Any], Beside]:
    """Return the torch fields that a rule computes from a Keras layer, and the additional torch layers that it needs.

    The fields are values by name. Both are empty if the rule cannot translate the Keras layer.
    """
    try:
        specs = rule.to_torch(keras_specs(rule, keras))
    except REFUSALS:
        return {}, NOTHING
    if rule.torch_count != 1:
        owners = [spec for spec in specs if rule.torch.endswith(spec.kind)]  # not a padding before them
        if len(owners) != rule.torch_count:
            return _fields_of_each(specs), NOTHING
        return _fields_of_each(tuple(owners)), around(specs, owners[0], owners[-1])
    owner = next((spec for spec in specs if spec.kind == rule.torch), specs[-1])
    beside = around(specs, owner, note=at_this_size(keras))
    return {name: value for name, value in owner.config.items() if name in rule.fields}, beside


def _beside_in_keras(rule: Rule, config: Config) -> Beside:
    """Return the Keras layers besides the one with the weights, such as a `ZeroPadding2D` before it.

    Args:
        rule: The rule. If it makes several Keras layers with weights, the result is empty.
        config: The configuration of the torch layer.
    """
    if rule.keras_count != 1:
        return NOTHING
    specs = rule.to_keras(config)
    owner = next((spec for spec in reversed(specs) if spec.kind == rule.keras), specs[-1])
    return around(specs, owner)


def _fields_of_each(specs: LayerSpecs) -> dict[str, Any]:
    return {f"{number}.{name}": value for number, spec in enumerate(specs) for name, value in spec.config.items()}


def _numbered_fields(config: Config, number: int) -> dict[str, Any]:
    """Return the arguments of a layer by name; of several layers, by a layer's index and the name: "0.kernel_size".

    Args:
        config: The arguments of one layer by name. For several layers, such arguments by the index of the layer, "0".
        number: The number of layers.
    """
    if number == 1:
        return {name: _with_named_functions(value) for name, value in with_inner_layer(config).items()}
    return {
        f"{place}.{name}": _with_named_functions(value)
        for place, part in config.items()
        for name, value in with_inner_layer(part).items()
    }
