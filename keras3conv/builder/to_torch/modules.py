"""Choose the torch layers for a Keras layer among those that the rules for its class give (see `keras3conv.rules`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keras3conv.builder.operations.call import HANDLERS
from keras3conv.builder.operations.expressions import F, torch
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.operation import Function, Operation
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.errors import RuleError, message_of
from keras3conv.frameworks.torch.constructors import constructor
from keras3conv.model.graph import Node
from keras3conv.model.views import LayerView
from keras3conv.rules.applying import torch_layers_of
from keras3conv.rules.library import lookup
from keras3conv.rules.operations import OPERATIONS
from keras3conv.rules.registry import is_users_own
from keras3conv.rules.rule import LayerSpec, LayerSpecs, Rule

_USABLE = ("torch.", OWN_LAYERS)
_PER_PROCESS = frozenset({"torch.nn.SyncBatchNorm", "torch.nn.EmbeddingBag", "torch.nn.RReLU"})
"""Torch classes that no Keras layer becomes, because they need several processes, other arguments or random numbers."""

POINTWISE = frozenset(
    {
        f"{OWN_LAYERS}.GaussianDropout",
        f"{OWN_LAYERS}.GaussianNoise",
        "torch.nn.AlphaDropout",
        "torch.nn.Dropout",
        "torch.nn.Identity",
        *(entry.module for entry in OPERATIONS if entry.is_elementwise and entry.module),
    }
)
"""Pointwise modules, which are independent of the axis order."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The torch layers for one Keras layer.

    Attributes:
        specs: The torch layers, in the order in which they run.
        rule: The rule that created the torch layers.
        order: The axis order that the torch layers need for their input; None if any order is possible.
    """

    specs: LayerSpecs
    rule: Rule
    order: Order | None


def choose(layer: LayerView, tensor: Value, only: str = "") -> Choice:
    """Return the torch layers that are equivalent to a Keras layer.

    If several rules for the class apply, the first one that accepts the axis order of the input is chosen. For example,
    a Dense on a channels-first image becomes a 1x1 convolution, so that no permutation is needed. A rule for a base
    class computes the same in inference only: a SpatialDropout1D is a Dropout that drops whole channels.

    Args:
        layer: The Keras layer, with the tensors of its sublayers.
        tensor: The first input of the layer.
        only: The required prefix of the torch class names: "torch.nn."; empty for any.

    Raises:
        RuleError: No rule can convert the layer; the message has the reasons of all rules that were tried.
    """
    reasons: list[str] = []
    choices = [choice for choice in _choices(layer, tensor, reasons) if choice.rule.torch.startswith(only)]
    if not choices:
        raise RuleError("; ".join(dict.fromkeys(reasons)) or f"no rule knows the class {layer.kind or 'of this layer'}")
    of_class = (choice for choice in choices if choice.rule.keras == choices[0].rule.keras)
    return next((choice for choice in of_class if choice.order in (None, tensor.order)), choices[0])


def _choices(layer: LayerView, value: Value, reasons: list[str]) -> Iterator[Choice]:
    """Yield the torch layers for a Keras layer, once for each rule that can convert it.

    Args:
        layer: The Keras layer.
        value: Its first input.
        reasons: The list to which the reason of each rule that cannot convert the layer is added.
    """
    inputs = (tuple(size if isinstance(size, int) else None for size in value.shape),)
    for rule in _candidates(layer.kinds):
        if not _fits_rank(rule.torch, value.rank):
            continue
        shapes = {rule.aliases.get(tensor.role, tensor.role): tensor.shape for tensor in layer.tensors}
        spec = LayerSpec(kind=layer.kind, config=layer.config or {}, shapes=shapes, inputs=inputs)
        try:
            specs = torch_layers_of(rule, spec)
        except RuleError as error:
            reasons.append(message_of(error))
            continue
        if unknown := _needs_a_size(specs):
            reasons.append(f"{layer.kind.rpartition('.')[2]} {unknown}: give inputs=..., which fix the sizes")
        else:
            yield Choice(specs=specs, rule=rule, order=_needed_order(rule, specs, layer, value.rank))


def _needs_a_size(specs: LayerSpecs) -> str:
    """Return "with padding=... needs the size of its input" (the end of a message), if a layer does; else "".

    A layer of torch.nn has fixed numbers for its padding; the modules of keras3conv compute it when they run.
    """
    of_torch = [spec for spec in specs if spec.kind.startswith("torch.nn.")]
    strided = any(spec.config.get("padding") == "same" and _stride(spec) != {1} for spec in of_torch)
    return 'with padding="same" and a stride needs the size of its input' if strided else ""


def _stride(spec: LayerSpec) -> set[int]:
    stride = spec.config.get("stride", 1)
    return {stride} if isinstance(stride, int) else {*stride}


def _candidates(kinds: tuple[str, ...]) -> tuple[Rule, ...]:
    """Return the rules that convert a Keras layer to one torch layer, or to two consecutive ones.

    Rules of keras3conv must create a layer of torch or of keras3conv; rules of the user may create any class.
    """
    found = [rule for rule in (*lookup((), kinds), *lookup((), kinds, (2, 1))) if not rule.between]
    usable = (rule for rule in found if rule.torch.startswith(_USABLE) or is_users_own(rule))
    return tuple(rule for rule in usable if rule.torch not in _PER_PROCESS)


def is_pointwise(node: Node) -> bool:
    """Return True if a Keras layer is pointwise and has no weights, such as Dropout or ReLU."""
    if node.kind.startswith("keras.ops.") or node.kind in HANDLERS:
        return False
    found = _candidates(node.kinds)
    return bool(found) and all(rule.torch in POINTWISE for rule in found)


def _fits_rank(kind: str, rank: int) -> bool:
    """Return True if a torch class accepts an input with `rank` axes, by the "1d", "2d" or "3d" in its name."""
    ranks = {"1d": (3, 2) if "BatchNorm" in kind else (3,), "2d": (4,), "3d": (5,)}
    return rank in ranks.get(kind[-2:], (rank,))


def _needed_order(rule: Rule, specs: LayerSpecs, layer: LayerView, rank: int) -> Order | None:
    """Return the axis order that torch layers need for their input; None for pointwise layers, which accept any.

    Args:
        rule: The rule that created the torch layers.
        specs: The torch layers.
        layer: The Keras layer.
        rank: The number of axes of the input.
    """
    if all(spec.kind in POINTWISE for spec in specs):
        return None
    config = layer.config or {}
    owner = next((spec for spec in specs if spec.kind == rule.torch), specs[-1])
    layout = rule.layout_for(owner.config)
    if layout == "time":
        raise RuleError(
            f"{rule.torch} takes the time axis before the batch axis, which this conversion does not support; use "
            "batch_first=True"
        )
    if layout == "same" or config.get("data_format") == "channels_first":
        return identity(rank)
    axis = config.get("axis", -1)
    if isinstance(axis, int) and rank > 2:
        return (0, axis % rank, *(other for other in range(1, rank) if other != axis % rank))
    return channels_first(rank)


_FUNCTIONS = {
    "torch.nn.Hardswish": F.hardswish,
    "torch.nn.ReLU": F.relu,
    "torch.nn.ReLU6": F.relu6,
    "torch.nn.SiLU": F.silu,
    "torch.nn.Sigmoid": torch.sigmoid,
    "torch.nn.Tanh": torch.tanh,
}
"""Activation layers without arguments, each with the function that the program calls instead of a submodule."""

Part = Callable[[Value], Operation]
"""What is called instead of a torch layer, with the value that it is given."""


def as_function(spec: LayerSpec) -> Part | None:
    """Return a function that writes a torch layer as an expression, `F.relu(x)`; None if it must be a submodule."""
    config = spec.config
    if spec.kind in _FUNCTIONS:
        return _FUNCTIONS[spec.kind]
    if spec.kind == "torch.nn.Flatten":
        start, end = config.get("start_dim", 1), config.get("end_dim", -1)
        return lambda given: given.method("flatten", *((start,) if end == -1 else (start, end)))
    if spec.kind == "torch.nn.Unflatten":
        return lambda given: given.method("unflatten", config["dim"], tuple(config["unflattened_size"]))
    if spec.kind.rpartition(".")[2][:1].isupper():
        return None
    defaults = constructor(spec.kind)
    settings = {name: value for name, value in config.items() if value != defaults.get(name)}
    return lambda given: Function(spec.kind)(given, **settings)
