"""Choose the Keras layers for a torch layer by the rules, and record which torch tensor goes into which variable."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.program import Module
from keras3conv.builder.to_keras.call import LayerCall, Placed
from keras3conv.builder.to_keras.forms import Held
from keras3conv.errors import RuleError, message_of
from keras3conv.frameworks.keras.operations import own_names
from keras3conv.model.graph import Graph
from keras3conv.rules.applying import keras_layers_of
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule
from keras3conv.transforms import Transform

_STOCK = ("keras.layers.", "keras.ops.")
_WITH_DATA_FORMAT = ("Conv", "Pooling", "ZeroPadding", "UpSampling", "Cropping")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A mapping from tensors of the torch module to variables of a Keras layer.

    Attributes:
        layer: The name of the Keras layer.
        torch: The paths of the torch tensors.
        roles: The names of the variables in the layer.
        transform: The transform from the torch tensors to the variables.
        rule: The name of the rule that created the layer; empty if there is none.
        owner: The path of the torch layer; empty if the tensors belong to several layers, or to none.
    """

    layer: str
    torch: tuple[str, ...]
    roles: tuple[str, ...]
    transform: Transform
    rule: str = ""
    owner: str = ""


class Layers:
    """The Keras layers of a program under construction, and the torch tensors for their variables.

    Attributes:
        names: The names that layers, constants and inputs of the program have so far.
        modules: The layers, by name.
        placements: Which torch tensors go into which variables.
    """

    def __init__(self, names: set[str]) -> None:
        self.names, self.modules = names, dict[str, Module]()
        self.placements: list[Placement] = []
        self._shared: dict[object, str] = {}

    def new_name(self, path: str) -> str:
        """Return a new name for the Keras layer or constant that comes from a path in the torch module."""
        name = identifier(path.replace(".", "_"))
        if re.sub(r"_\d+$", "", name) in own_names():  # the name of an unnamed Keras operation
            name = f"{name}_layer"
        name = unique(name, self.names)
        self.names.add(name)
        return name

    def configured(self, kind: str, config: Config, weights: Sequence[Placed], path: str) -> str:
        """Return the name of a layer that a handler configures itself; one with the same parameters is used again."""
        key = (kind, repr(config), tuple(placed.held.path for placed in weights)) if weights else object()
        if key not in self._shared:
            own = self._shared[key] = self.new_name(path or kind.rpartition(".")[2])
            spec = _frozen(LayerSpec(kind=kind, config=config), [placed.held for placed in weights])
            self.modules[own] = Module(name=own, spec=spec)
            self.placements.extend(
                Placement(
                    layer=own,
                    torch=(placed.held.path,),
                    roles=(placed.role,),
                    transform=placed.transform,
                    rule=placed.rule,
                    owner=placed.held.owner if placed.rule else "",
                )
                for placed in weights
            )
        return self._shared[key]

    def by_rule(self, call: LayerCall, spec: LayerSpec, place: int, rule: Rule | None, path: str) -> str:
        """Return the name of the Keras layer for a torch layer; a layer with the same torch parameters is used again.

        Args:
            call: The torch layer.
            spec: The Keras layer, which accepts any input shape.
            place: The index of the Keras layer among those of the torch layer.
            rule: The rule by which the parameters of the torch layer go into this Keras layer; None if none do.
            path: The path of the torch layer, which identifies it if it has no parameters.
        """
        held = list(call.tensors.values())
        key = (tuple(one.path for one in held), place, spec.kind, repr(spec.config)) if held else object()
        if key not in self._shared:
            owner = next((one.owner or one.path for one in held), path)
            short = "pad" if "Padding" in spec.kind else identifier(spec.kind.rpartition(".")[2])
            base = owner or short
            name = self._shared[key] = self.new_name(base if rule else f"{base}_{short}")
            self.modules[name] = Module(name=name, spec=spec)
            if rule and held:
                self.modules[name] = Module(name=name, spec=_frozen(spec, held), source=owner, rule=rule.name)
                self.placements.extend(_placements(rule, call, name))
        return self._shared[key]


def chosen_layers(call: LayerCall) -> tuple[Rule, LayerSpecs]:
    """Return the rule that converts a torch layer, and the Keras layers that the rule creates, in call order.

    Args:
        call: The torch layer, with its parameters, and with the shapes of its inputs under "inputs" in `config`.

    Raises:
        RuleError: No rule converts it to Keras layers; the message has the reason of every rule that was tried.
    """
    config = call.config
    if call.rule is not None:
        return call.rule, keras_layers_of(call.rule, config)
    reasons: list[str] = []
    for rule in _candidates(call):
        try:
            specs = keras_layers_of(rule, config) if rule.applies(config) else ()
        except RuleError as error:
            reasons.append(message_of(error))
            continue
        if specs and all(spec.kind.startswith(_STOCK) for spec in specs):
            return rule, specs
    name = call.kind.removeprefix("torch.nn.")
    unknown = f"no Keras layer computes torch.nn.{name} with the arguments {config}"
    raise RuleError("; ".join(dict.fromkeys(reasons)) or unknown)


def _candidates(call: LayerCall) -> list[Rule]:
    """Return the rules that convert the torch class of a layer to one Keras layer, the preferred ones first.

    The preference is the order of `call.keras`, the beginnings of Keras class names.
    """
    found = [rule for rule in lookup((call.kind,), ()) if rule.torch == call.kind and not rule.between]
    return [
        rule
        for start in call.keras
        for rule in found
        if rule.keras.startswith(f"keras.layers.{start}") and rule.keras_count == 1 and not rule.variant
    ]


def _placements(rule: Rule, call: LayerCall, layer: str) -> Iterator[Placement]:
    """Yield which tensors of a torch layer go into which variables of a Keras layer, given by its name."""
    owners = {held.owner for held in call.tensors.values()}
    for mapping in rule.weights(call.config):
        if all(role in call.tensors for role in mapping.torch):
            paths = tuple(call.tensors[role].path for role in mapping.torch)
            yield Placement(
                layer=layer,
                torch=paths,
                roles=mapping.keras,
                transform=mapping.transform,
                rule=rule.name,
                owner=next(iter(owners)) if len(owners) == 1 else "",
            )


def with_data_format(spec: LayerSpec, channels: Channels, rank: int) -> LayerSpec:
    """Return a layer with its arguments for channels-first images if the model has such images; else the same layer.

    The argument is `data_format`, `axis` for a normalization, or a permuted `pad_width`.

    Args:
        spec: The layer, as for channels-last images.
        channels: The position of the channel axis of images in the model: "last" or "first".
        rank: The number of axes of the layer's input; with fewer than three axes the layer is unchanged.
    """
    if channels == "last" or rank < 3:
        return spec
    name = spec.kind.rpartition(".")[2]
    if spec.kind == "keras.ops.pad":
        first, *spatial, last = spec.config["pad_width"]
        return replace(spec, config={**spec.config, "pad_width": (first, last, *spatial)})
    if any(word in name for word in _WITH_DATA_FORMAT):
        return replace(spec, config={**spec.config, "data_format": "channels_first"})
    if name in ("BatchNormalization", "GroupNormalization"):
        return replace(spec, config={**spec.config, "axis": 1})
    return spec


def with_options(spec: LayerSpec, options: Config) -> LayerSpec:
    """Return a layer with further constructor arguments; a Bidirectional passes them to the layer that it wraps."""
    if not options:
        return spec
    inner = spec.config.get("layer")
    if inner is None:
        return replace(spec, config={**spec.config, **options})
    return replace(spec, config={**spec.config, "layer": {**inner, "config": {**inner["config"], **options}}})


def _frozen(spec: LayerSpec, weights: Sequence[Held]) -> LayerSpec:
    """Return a Keras layer, with trainable=False if all of its torch parameters have requires_grad=False.

    A BatchNormalization stays trainable: with trainable=False, Keras runs it in inference mode also in training.
    """
    if not weights or any(held.parameter.trainable for held in weights) or "BatchNormalization" in spec.kind:
        return spec
    return replace(spec, config={**spec.config, "trainable": False})


def shared_parameters(graph: Graph) -> frozenset[str]:
    """Return the names of the parameters that several layers use (tied weights).

    A parameter is shared if operators of different kinds use it, or operators that also use different parameters. An
    example is an embedding table that is also the kernel of the output layer.
    """
    names = {parameter.tensor.name for parameter in graph.parameters}
    uses: dict[str, set[object]] = {}
    for node in graph.nodes:
        used = tuple(name for name in node.inputs if name in names)
        for name in used:
            uses.setdefault(name, set()).add((node.kind, used))
    return frozenset(name for name, found in uses.items() if len(found) > 1)
