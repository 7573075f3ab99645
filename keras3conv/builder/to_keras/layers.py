"""Choose the Keras layers for a torch layer from the rule library, and say where its tensors go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.to_keras.call import LayerCall, Placed
from keras3conv.errors import RuleError
from keras3conv.model.graph import Graph
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule
from keras3conv.transforms import Transform

_STOCK = ("keras.layers.", "keras.ops.")
_WITH_DATA_FORMAT = ("Conv", "Pooling", "ZeroPadding", "UpSampling", "Cropping")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which tensors of the module become which variables of a Keras layer.

    Attributes:
        layer: The name of the Keras layer.
        torch: The paths of the tensors.
        roles: The names of the variables in the layer.
        transform: From the tensors to the variables.
        rule: The rule that made the layer; empty if none did.
        owner: The torch layer; empty if the tensors belong to no layer that a rule knows.
    """

    layer: str
    torch: tuple[str, ...]
    roles: tuple[str, ...]
    transform: Transform
    rule: str = ""
    owner: str = ""


def chosen_layers(call: LayerCall, config: Config) -> tuple[Rule, LayerSpecs]:
    """Return the rule for a torch layer and the stock layers that it makes, in the order in which they run.

    Raises:
        RuleError: No rule makes stock layers of it; the message has the reason of every rule that was tried.
    """
    reasons: list[str] = []
    for rule in _candidates(call):
        try:
            specs = rule.to_keras(config) if rule.applies(config) else ()
        except RuleError as error:
            reasons.append(str(error))
            continue
        if specs and all(spec.kind.startswith(_STOCK) for spec in specs):
            return rule, specs
    name = call.kind.removeprefix("torch.nn.")
    raise RuleError("; ".join(dict.fromkeys(reasons)) or f"no layer of Keras computes {name} with these settings")


def _candidates(call: LayerCall) -> list[Rule]:
    """Return the rules of one torch layer and one Keras class, in the order of the classes that the call prefers."""
    found = [rule for rule in lookup((call.kind,), ()) if rule.torch == call.kind and not rule.between]
    return [
        rule
        for start in call.keras
        for rule in found
        if rule.keras.startswith(f"keras.layers.{start}") and rule.keras_count == 1 and not rule.variant
    ]


def placements(rule: Rule, call: LayerCall, config: Config, layer: str) -> Iterator[Placement]:
    """Yield the places of the tensors of a layer that a rule made."""
    owners = {held.owner for held in call.tensors.values()}
    for mapping in rule.weights(config):
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
    """Return a layer for images with channels first, where the model computes so."""
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
    """Return a layer with further arguments; those of a Bidirectional are the arguments of the layer inside."""
    if not options:
        return spec
    inner = spec.config.get("layer")
    if inner is None:
        return replace(spec, config={**spec.config, **options})
    return replace(spec, config={**spec.config, "layer": {**inner, "config": {**inner["config"], **options}}})


def frozen(spec: LayerSpec, weights: Sequence[Placed]) -> LayerSpec:
    """Return the layer with trainable=False if no optimizer updates any of its parameters.

    A BatchNormalization stays trainable: in Keras one that is not runs in inference mode in training.
    """
    parameters = [placed.held.parameter for placed in weights]
    if not parameters or any(one.trainable for one in parameters) or "BatchNormalization" in spec.kind:
        return spec
    return replace(spec, config={**spec.config, "trainable": False})


def shared_parameters(graph: Graph) -> frozenset[str]:
    """Return the parameters that operators of several kinds, or with different other parameters, use.

    An embedding that is the kernel of the output layer is one.
    """
    names = {parameter.tensor.name for parameter in graph.parameters}
    uses: dict[str, set[object]] = {}
    for node in graph.nodes:
        used = tuple(name for name in node.inputs if name in names)
        for name in used:
            uses.setdefault(name, set()).add((node.kind, used))
    return frozenset(name for name, found in uses.items() if len(found) > 1)


__all__ = [
    "Placement",
    "chosen_layers",
    "frozen",
    "placements",
    "shared_parameters",
    "with_data_format",
    "with_options",
]
