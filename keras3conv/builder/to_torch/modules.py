"""Which torch layers a Keras layer becomes: the rule library is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from keras3conv.builder.operations.call import HANDLERS
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.errors import RuleError
from keras3conv.model.graph import Node
from keras3conv.model.views import LayerView
from keras3conv.rules.library import list_rules, lookup
from keras3conv.rules.rule import LayerSpec, LayerSpecs, Rule

_USABLE = ("torch.", OWN_LAYERS)


_OURS = str(Path(__file__).parents[2])
"""Where our own rules are registered; a rule from elsewhere is the user's."""


_PER_PROCESS = frozenset({"torch.nn.SyncBatchNorm", "torch.nn.EmbeddingBag", "torch.nn.RReLU"})
"""Layers that need more than one process, or another call, or that are random: never what a Keras layer becomes."""


POINTWISE = frozenset({f"{OWN_LAYERS}.GaussianDropout", f"{OWN_LAYERS}.GaussianNoise"}) | frozenset(
    f"torch.nn.{name}"
    for name in (
        "AlphaDropout", "CELU", "Dropout", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh",
        "Identity", "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "Sigmoid", "SiLU", "Softplus",
        "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold",
    )
)  # fmt: skip
"""Modules that treat every value alike, wherever its axes stand."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The torch layers for one Keras layer.

    Attributes:
        specs: The layers, one after the other.
        rule: The rule that made them.
        order: In which order they want the axes of their input; None if any will do.
    """

    specs: LayerSpecs
    rule: Rule
    order: Order | None


def choose(layer: LayerView, given: Value, only: str = "") -> Choice:
    """The torch layers that compute what a Keras layer does.

    Where several can, it is the first that takes the axes in the order that they have: a Dense on an image whose
    channels are second is a convolution of one pixel, and nothing is permuted.

    Args:
        layer: The Keras layer, with the tensors of its parts.
        given: The first thing that it is called with.
        only: How the names of the classes begin that may be chosen; any, if it is empty.

    Raises:
        RuleError: No rule can say it; the message has the reason of every rule that was asked.
    """
    reasons: list[str] = []
    choices = [choice for choice in _choices(layer, given, reasons) if choice.rule.torch.startswith(only)]
    if not choices:
        raise RuleError("; ".join(dict.fromkeys(reasons)) or f"no rule knows {layer.kind or 'this class'}")
    return next((choice for choice in choices if choice.order in (None, given.order)), choices[0])


def _choices(layer: LayerView, given: Value, reasons: list[str]) -> Iterator[Choice]:
    inputs = (tuple(size if isinstance(size, int) else None for size in given.shape),)
    for rule in _candidates(layer.kinds, len(list_rules())):
        if not _fits_rank(rule.torch, given.rank):
            continue
        shapes = {rule.aliases.get(tensor.role, tensor.role): tensor.shape for tensor in layer.tensors}
        spec = LayerSpec(kind=layer.kind, config=layer.config or {}, shapes=shapes, inputs=inputs)
        try:
            specs = rule.to_torch((spec,))
        except RuleError as error:
            reasons.append(str(error))
            continue
        if unknown := _needs_a_size(specs):
            reasons.append(f"{layer.kind.rpartition('.')[2]} {unknown}: give inputs=..., which fix the sizes")
        else:
            yield Choice(specs=specs, rule=rule, order=_wanted(rule, specs, layer, given.rank))


def _needs_a_size(specs: LayerSpecs) -> str:
    """What a layer lacks: with a stride, what "same" pads depends on the size of the input."""
    strided = any(spec.config.get("padding") == "same" and _stride(spec) != {1} for spec in specs)
    return 'with padding="same" and a stride needs the size of its input' if strided else ""


def _stride(spec: LayerSpec) -> set[int]:
    stride = spec.config.get("stride", 1)
    return {stride} if isinstance(stride, int) else {*stride}


@cache
def _candidates(kinds: tuple[str, ...], known: int) -> tuple[Rule, ...]:
    """The rules for a Keras layer, one for one or two torch layers, whose torch layers can be written one by one.

    Those of the user are taken for whatever class they name. `known` is how many rules there are: more may come.
    """
    found = [rule for rule in (*lookup((), kinds), *lookup((), kinds, (2, 1))) if not rule.between]
    usable = (rule for rule in found if rule.torch.startswith(_USABLE) or not rule.origin.startswith(_OURS))
    return tuple(rule for rule in usable if rule.torch not in _PER_PROCESS)


def is_pointwise(node: Node) -> bool:
    """Whether a layer of Keras without tensors treats every value alike: a Dropout, a ReLU."""
    if node.kind.startswith("keras.ops.") or node.kind in HANDLERS:
        return False
    found = _candidates(node.kinds, len(list_rules()))
    return bool(found) and all(rule.torch in POINTWISE for rule in found)


def _fits_rank(kind: str, rank: int) -> bool:
    """Whether a class whose name ends in its number of places is for inputs of this many axes."""
    ranks = {"1d": (3, 2) if "BatchNorm" in kind else (3,), "2d": (4,), "3d": (5,)}
    return rank in ranks.get(kind[-2:], (rank,))


def _wanted(rule: Rule, specs: LayerSpecs, layer: LayerView, rank: int) -> Order | None:
    if all(spec.kind in POINTWISE for spec in specs):
        return None
    config = layer.config or {}
    owner = next((spec for spec in specs if spec.kind == rule.torch), specs[-1])
    layout = rule.layout_for(owner.config)
    if layout == "time":
        raise RuleError(f"{rule.torch} takes the time before the batch")
    if layout == "same" or config.get("data_format") == "channels_first":
        return identity(rank)
    axis = config.get("axis", -1)
    if isinstance(axis, int) and rank > 2:
        return (0, axis % rank, *(place for place in range(1, rank) if place != axis % rank))
    return channels_first(rank)
