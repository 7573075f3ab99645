"""Define the parts of a plan: pairs of layers with the evidence for them, and ignored tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from keras3conv.errors import Problem, TransformError
from keras3conv.model.paths import split_layers
from keras3conv.model.views import ModelView, Side, TensorRef
from keras3conv.rules.rule import WeightMapping

EvidenceKind = Literal[
    "by hand",
    "hint",
    "name",
    "shape",
    "data flow",
    "call order",
    "definition order",
    "position",
    "unseen flatten",
    "values",
    "construction",
    "interchangeable",
    "probe",
    "ambiguous",
    "forced",
]

DOUBTS: frozenset[EvidenceKind] = frozenset({"unseen flatten", "interchangeable"})
"""The kinds of evidence that make a pair doubtful, even if other evidence decided it."""

UNCONFIRMED: frozenset[EvidenceKind] = DOUBTS | {"definition order", "position", "ambiguous", "forced"}
"""The kinds of evidence that leave a pair unconfirmed: other layers fit as well, or no run compared the two layers."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One reason why two layers are paired.

    Attributes:
        kind: The kind of evidence.
        detail: The fact that was observed, as text.
    """

    kind: EvidenceKind
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A torch layer and a Keras layer that correspond, and the mappings (tensors with transforms) between them.

    Attributes:
        torch: The path of the torch layer. If there are several, their paths joined by " + ".
        keras: The path of the Keras layer. If there are several, their paths joined by " + ".
        rule: The name of the rule, the two class names, such as "torch.nn.Linear <-> keras.layers.Dense".
        weights: The mappings between the tensors of the layers, by path in the models.
        evidence: The reasons for the pair, in the order in which they were found; the last one decided.
        candidates: The paths of other layers that fit as well. For a packed layer, the calls of `plan.pair` that pair
            it with its rows in another order.
    """

    torch: str
    keras: str
    rule: str
    weights: tuple[WeightMapping, ...]
    evidence: tuple[Evidence, ...] = ()
    candidates: tuple[str, ...] = ()

    @cached_property
    def torch_layers(self) -> tuple[str, ...]:
        """The path of every torch layer of the pair."""
        return split_layers(self.torch)

    @cached_property
    def keras_layers(self) -> tuple[str, ...]:
        """The path of every Keras layer of the pair."""
        return split_layers(self.keras)

    @property
    def decided_by(self) -> str:
        """The kind of the evidence that decided the pair ("names", "probe"); empty if the pair has no evidence."""
        kinds = [evidence.kind for evidence in self.evidence if evidence.kind not in DOUBTS]
        return kinds[-1] if kinds else ""

    @property
    def unconfirmed(self) -> bool:
        """True if running the models has not confirmed the pair, or the order of values in its tensors is unknown."""
        return not self.evidence or any(evidence.kind in UNCONFIRMED for evidence in self.evidence)


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """A tensor that the plan leaves unpaired on purpose, with the reason."""

    side: Side
    path: str
    reason: str


def ignored_seeds(view: ModelView) -> Iterator[Ignored]:
    """Yield an entry for each state of a random generator in a Keras model; torch modules have none."""
    for tensor in view.tensors():
        if tensor.is_seed:
            yield Ignored(side="keras", path=tensor.path, reason="the state of a random generator")


class Plan(Protocol):
    """The attributes of `Alignment` that the checks, the text form and the JSON form of a plan use, as a protocol."""

    @property
    def pairs(self) -> tuple[Pair, ...]: ...  # noqa: D102 - see `Alignment`
    @property
    def ignored(self) -> tuple[Ignored, ...]: ...  # noqa: D102
    @property
    def torch(self) -> ModelView: ...  # noqa: D102
    @property
    def keras(self) -> ModelView: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def difference(self) -> str: ...  # noqa: D102
    @property
    def accepted_difference(self) -> str: ...  # noqa: D102
    @property
    def unconfirmed(self) -> tuple[Pair, ...]: ...  # noqa: D102
    @property
    def format(self) -> int: ...  # noqa: D102
    @property
    def mappings(self) -> tuple[WeightMapping, ...]: ...  # noqa: D102
    def problems(self) -> tuple[Problem, ...]: ...  # noqa: D102


def tensors_by_path(view: ModelView) -> dict[str, TensorRef]:
    """Return the tensors of a model, by path."""
    return {tensor.path: tensor for tensor in view.tensors()}


def placed_tensors(plan: Plan, side: Side) -> set[str]:
    """Return the paths of those tensors of one side that the plan pairs or ignores."""
    mapped = {path for mapping in plan.mappings for path in mapping.names(side)}
    return mapped | {entry.path for entry in plan.ignored if entry.side == side}


def misfit(mapping: WeightMapping, torch: Mapping[str, TensorRef], keras: Mapping[str, TensorRef]) -> str:
    """Return why a mapping's transform does not turn the torch shapes into the Keras shapes; empty if it does."""
    missing = [path for path in mapping.torch if path not in torch] + [
        path for path in mapping.keras if path not in keras
    ]
    if missing:
        return f"the rule for this pair needs the tensor {', '.join(missing)}, which the layer does not have"
    given = tuple(torch[path].shape for path in mapping.torch)
    wanted = tuple(keras[path].shape for path in mapping.keras)
    torch_names, keras_names = ", ".join(mapping.torch), ", ".join(mapping.keras)
    try:
        made = mapping.transform.shapes(given)
    except TransformError as error:
        return f"{torch_names}: {error}"
    if made == wanted:
        return ""
    pattern = getattr(mapping.transform, "pattern", "")
    by = f' by "{pattern}"' if pattern else ""
    return f"{torch_names} {_shapes(given)} becomes {_shapes(made)}{by}, but {keras_names} has shape {_shapes(wanted)}"


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(map(str, shapes))


def belongs(tensor: str, path: str) -> bool:
    """Return True if a tensor has the given path, or if a layer has this path and contains the tensor.

    Args:
        tensor: The path of the tensor.
        path: A path, of a tensor or of a layer.
    """
    return tensor == path or tensor.startswith((f"{path}.", f"{path}/"))
