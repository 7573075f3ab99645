"""The parts of a plan: pairs of layers, the evidence for each, and the tensors that are left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from keras3conv.errors import Problem, TransformError
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
    "construction",
    "interchangeable",
    "probe",
    "ambiguous",
    "forced",
]


DOUBTS: frozenset[EvidenceKind] = frozenset({"unseen flatten", "interchangeable"})
"""What speaks against a pair, whatever decided it."""


UNCONFIRMED: frozenset[EvidenceKind] = DOUBTS | {"definition order", "position", "ambiguous", "forced"}
"""Evidence that may be wrong without anybody noticing: other layers would fit as well, or none was seen to."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What decided a pair.

    Attributes:
        kind: The kind of evidence.
        detail: The fact itself, in words.
    """

    kind: EvidenceKind
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two layers that correspond, and how their tensors do.

    Attributes:
        torch: The path of the torch layer; several, joined by " + ", where one layer stands against many.
        keras: The path of the Keras layer; likewise.
        rule: The name of the rule that the mappings come from.
        weights: The mappings, with full tensor paths.
        evidence: What decided the pair, strongest last.
        candidates: Other layers, of the side that was chosen from, that would fit as well.
    """

    torch: str
    keras: str
    rule: str
    weights: tuple[WeightMapping, ...]
    evidence: tuple[Evidence, ...] = ()
    candidates: tuple[str, ...] = ()

    @property
    def decided_by(self) -> str:
        """The kind of the evidence that decided."""
        kinds = [evidence.kind for evidence in self.evidence if evidence.kind not in DOUBTS]
        return kinds[-1] if kinds else ""

    @property
    def unconfirmed(self) -> bool:
        """Whether only weak evidence speaks for the pair, or for the order of its rows."""
        return not self.evidence or any(evidence.kind in UNCONFIRMED for evidence in self.evidence)


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """A tensor that is left out on purpose, with the reason."""

    side: Side
    path: str
    reason: str


class Plan(Protocol):
    """The fields of a plan that its checks, its text and its JSON form read."""

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
    def format(self) -> int: ...  # noqa: D102
    @property
    def mappings(self) -> tuple[WeightMapping, ...]: ...  # noqa: D102
    def problems(self) -> tuple[Problem, ...]: ...  # noqa: D102


def tensors_by_path(view: ModelView) -> dict[str, TensorRef]:
    """The tensors of a model by their paths."""
    return {tensor.path: tensor for tensor in view.tensors()}


def misfit(mapping: WeightMapping, torch: Mapping[str, TensorRef], keras: Mapping[str, TensorRef]) -> str:
    """Why the shapes of a mapping do not fit, in words; empty if they do."""
    given = tuple(torch[path].shape for path in mapping.torch)
    wanted = tuple(keras[path].shape for path in mapping.keras)
    try:
        made = mapping.transform.shapes(given)
    except TransformError as error:
        return f"{', '.join(mapping.torch)}: {error}"
    if made == wanted:
        return ""
    names = ", ".join(mapping.torch), ", ".join(mapping.keras)
    pattern = getattr(mapping.transform, "pattern", "")
    by = f' by "{pattern}"' if pattern else ""
    return f"{names[0]} {_shapes(given)} becomes {_shapes(made)}{by}; {names[1]} is {_shapes(wanted)}"


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(map(str, shapes))
