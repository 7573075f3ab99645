"""The plan: which tensor belongs where. A value that can be read, edited, saved as JSON and reviewed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from typing import Literal

from keras3conv.alignment_difference import first_difference
from keras3conv.errors import AlignmentError, Problem, TransformError, UnsupportedLayerError, count, lay_out
from keras3conv.model import LayerView, ModelView, Side, TensorRef
from keras3conv.rule import WeightMapping, known_classes
from keras3conv.transforms import Transform

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
    """A tensor that is left out on purpose, and why."""

    side: Side
    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A plan for one pair of models. Edits return a new plan.

    Attributes:
        pairs: The layers that correspond.
        ignored: The tensors that are left out, each with its reason.
        torch: Names and shapes of the torch side.
        keras: Names and shapes of the Keras side.
        format: The version of the JSON form.
        notes: What was done to find the pairs, and what could not be done.
    """

    pairs: tuple[Pair, ...]
    ignored: tuple[Ignored, ...]
    torch: ModelView = field(repr=False)
    keras: ModelView = field(repr=False)
    format: int = 1
    notes: tuple[str, ...] = ()

    @property
    def mappings(self) -> tuple[WeightMapping, ...]:
        """Every mapping of every pair."""
        return tuple(mapping for pair in self.pairs for mapping in pair.weights)

    @cached_property
    def problems_found(self) -> tuple[Problem, ...]:
        """The problems, computed once."""
        return (*_misfits(self), *_repeated(self), *_unplaced(self))

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong: tensors without a place, with two places, or of a shape that does not fit."""
        return self.problems_found

    def check(self) -> "Alignment":
        """Returns the plan if every tensor of both sides has its place.

        Raises:
            AlignmentError: Once, with everything that is wrong, and the calls that would settle it.
            UnsupportedLayerError: It is one of these, and among the layers without a place are some that no rule
                knows.
        """
        if problems := self.problems():
            where = f"the alignment of {self.torch.title} and {self.keras.title}"
            matched = f"; {count(len(self.pairs), 'pair')} matched" if self.pairs else ""
            first = [Problem(fact=fact)] if (fact := first_difference(self)) else []
            message = lay_out(f"{count(len(problems), 'problem')} in {where}{matched}", [*first, *problems])
            unknown = any("no rule knows" in problem.fact for problem in problems)
            raise (UnsupportedLayerError if unknown else AlignmentError)(message)
        return self

    def of(self, path: str) -> Pair | None:
        """The pair of a layer of either side."""
        return next((pair for pair in self.pairs if path in (*pair.torch.split(" + "), *pair.keras.split(" + "))), None)

    def pair(self, torch: str, keras: str, *, transform: str | Transform | None = None) -> "Alignment":
        """Pairs two layers, or two tensors, by hand. Pairs with any of their tensors dissolve.

        Args:
            torch: The path of a layer, or of a tensor; several layers are joined by " + ".
            keras: Likewise.
            transform: What becomes of a tensor, where no rule says it: a pattern such as "1 n d -> n d", or a
                transform. Of two layers it is about the one tensor that each has.

        Raises:
            AlignmentError: A name is unknown, no rule fits the two layers, or the transform does not fit the tensors.
        """
        # The planner builds plans, so it imports this module.
        from keras3conv.planner.bare import are_tensors, pair_of_tensors
        from keras3conv.planner.structure import pair_by_hand

        views = self.torch, self.keras
        single = transform is not None or are_tensors(*views, torch, keras)
        made = pair_of_tensors(*views, torch, keras, transform) if single else pair_by_hand(*views, torch, keras)
        taken = _tensors_of(made)
        kept = tuple(pair for pair in self.pairs if not taken & _tensors_of(pair))
        layers = {("torch", name) for name in torch.split(" + ")} | {("keras", name) for name in keras.split(" + ")}
        seeds = {tensor.path for tensor in self.keras.tensors() if tensor.is_seed}  # the state of no weight stays out
        left = [entry for entry in self.ignored if entry.side == "torch" or entry.path not in seeds]
        free = [entry for entry in left if any(_is_in(entry, side, path) for side, path in layers)]
        ignored = tuple(entry for entry in self.ignored if entry not in free)
        return replace(self, pairs=(*kept, made), ignored=ignored)

    def unpair(self, layer: str) -> "Alignment":
        """Dissolves the pairs of a layer of either side; unknown names change nothing."""
        pair = self.of(layer)
        return replace(self, pairs=tuple(other for other in self.pairs if other is not pair))

    def ignore(self, path: str, reason: str, *, side: Side | None = None) -> "Alignment":
        """Leaves a layer or a tensor out on purpose.

        Args:
            path: The path of a layer or of a tensor.
            reason: Why; it stands in every report.
            side: Which side is meant; needed only where both sides have this name.

        Raises:
            AlignmentError: The name is unknown, or known on both sides and `side` is not given.
        """
        found: dict[Side, list[str]] = {
            view.side: [tensor.path for layer in view.layers for tensor in layer.tensors if _belongs(tensor.path, path)]
            for view in (self.torch, self.keras)
        }
        sides = [name for name, paths in found.items() if paths and side in (None, name)]
        if len(sides) != 1:
            fact = "is a name on both sides" if sides else "is not a layer or a tensor of either side"
            fix = f'plan.ignore("{path}", "{reason}", side="torch")'
            problem = Problem(torch=path, fact=fact, fixes=(fix,) if sides else ())
            raise AlignmentError(
                lay_out(f"nothing was ignored in {self.torch.title} and {self.keras.title}", [problem])
            )
        entries = (Ignored(side=sides[0], path=tensor, reason=reason) for tensor in found[sides[0]])
        return replace(self.unpair(path), ignored=(*self.ignored, *entries))

    def to_json(self) -> str:
        """The plan as JSON; `Alignment.from_json` reads it back. Nothing in it is ever imported or evaluated."""
        from keras3conv import alignment_json

        return alignment_json.dump(self)

    @staticmethod
    def from_json(text: str) -> "Alignment":
        """The plan that `to_json` wrote.

        Raises:
            AlignmentError: The text is no plan, or of a version that is not known.
        """
        from keras3conv import alignment_json

        return alignment_json.load(text)

    def __str__(self) -> str:
        from keras3conv import alignment_text

        return alignment_text.describe(self)

    def _repr_html_(self) -> str:
        from keras3conv import alignment_text

        return alignment_text.describe_html(self)


def _tensors_of(pair: Pair) -> set[tuple[str, str]]:
    """The tensors of both sides that a pair has a place for, each with its side."""
    torch = {("torch", path) for mapping in pair.weights for path in mapping.torch}
    return torch | {("keras", path) for mapping in pair.weights for path in mapping.keras}


def _is_in(entry: Ignored, side: str, path: str) -> bool:
    return entry.side == side and _belongs(entry.path, path)


def _belongs(tensor: str, path: str) -> bool:
    """Whether a tensor is this path, or in the layer of this path."""
    return tensor == path or tensor.startswith((f"{path}.", f"{path}/"))


def tensors_by_path(view: ModelView) -> dict[str, TensorRef]:
    """The tensors of a model by their paths."""
    return {tensor.path: tensor for tensor in view.tensors()}


def _misfits(plan: Alignment) -> Iterator[Problem]:
    torch, keras = tensors_by_path(plan.torch), tensors_by_path(plan.keras)
    for pair in plan.pairs:
        for mapping in pair.weights:
            if missing := [path for path in mapping.torch if path not in torch]:
                yield Problem(torch=missing[0], keras=pair.keras, fact=f"{missing[0]} is not in {plan.torch.title}")
            elif missing := [path for path in mapping.keras if path not in keras]:
                yield Problem(torch=pair.torch, keras=missing[0], fact=f"{missing[0]} is not in {plan.keras.title}")
            elif fact := misfit(mapping, torch, keras):
                yield Problem(torch=pair.torch, keras=pair.keras, fact=fact, fixes=(f'plan.unpair("{pair.torch}")',))


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


def _repeated(plan: Alignment) -> Iterator[Problem]:
    for side in ("torch", "keras"):
        uses = Counter(path for mapping in plan.mappings for path in getattr(mapping, side))
        for path, times in uses.items():
            if times > 1:
                yield Problem.on(side, path, f"has {times} places in the plan; a tensor has one")


def _unplaced(plan: Alignment) -> Iterator[Problem]:
    for view, other in ((plan.torch, plan.keras), (plan.keras, plan.torch)):
        placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
        placed |= {entry.path for entry in plan.ignored if entry.side == view.side}
        ties = {tensor.storage for tensor in view.tensors() if tensor.storage and tensor.path in placed}
        free, wholes = _free_layers(plan, other), _wholes(view)
        for layer in view.layers:
            left = [tensor for tensor in layer.tensors if tensor.path not in placed and tensor.storage not in ties]
            if left:
                unknown = "" if layer.path in wholes else unknown_class(view.side, layer)
                yield _unplaced_layer(view.side, layer, left, free, unknown)


def _wholes(view: ModelView) -> set[str]:
    """The layers that others are part of: one that holds a parameter beside them needs no rule."""
    between = "." if view.side == "torch" else "/"
    paths = [layer.path for layer in view.layers if layer.path]
    return {path.rpartition(between)[0] for path in paths}


def _free_layers(plan: Alignment, view: ModelView) -> list[LayerView]:
    """The layers of a side of which no tensor is placed: what an unplaced layer of the other side may belong to."""
    placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
    return [layer for layer in view.layers if layer.tensors and not placed & {tensor.path for tensor in layer.tensors}]


def _unplaced_layer(
    side: Side, layer: LayerView, left: list[TensorRef], free: list[LayerView], unknown: str
) -> Problem:
    names = ", ".join(f"{tensor.role} {tensor.shape}" for tensor in left[:4])
    similar = [other.path for other in free if _sizes(other) == _sizes(layer)][:4]
    fact = f"{names} would keep its initial value" if side == "keras" else f"{names} matched nothing"
    if similar:
        fact += f"; same sizes: {', '.join(similar)}"
    stub = ""
    if unknown:
        fact += f"; no rule knows {layer.kind}, the nearest class is {unknown}"
        stub = f'k3c.register(k3c.Rule({side}="{layer.kind}", ...))'
    where = layer.path if len(left) == len(layer.tensors) and layer.path else left[0].path
    fixes = [
        f'plan.pair("{where}", "{path}")' if side == "torch" else f'plan.pair("{path}", "{where}")' for path in similar
    ]
    return Problem.on(side, where, fact, (*fixes[:1], *([stub] if stub else []), f'plan.ignore("{where}", "reason")'))


def unknown_class(side: Side, layer: LayerView) -> str:
    """The known class whose name is most like that of a layer that no rule knows; empty if a rule knows it."""
    known = known_classes()[0 if side == "torch" else 1]
    if not layer.kinds or known.intersection(layer.kinds):
        return ""
    return _nearest_class(layer.kind.rpartition(".")[2], known)


@lru_cache(maxsize=1024)
def _nearest_class(name: str, known: frozenset[str]) -> str:
    """Return the known class whose last name resembles this one most; the first by name among equals."""
    matcher = SequenceMatcher(b=name)

    def resemblance(kind: str) -> float:
        matcher.set_seq1(kind.rpartition(".")[2])
        return matcher.ratio()

    return max(sorted(known), key=resemblance)


def _sizes(layer: LayerView) -> Counter[int]:
    """How many numbers each floating-point tensor has: equal for tensors that differ only in their layout."""
    sizes = Counter[int]()
    for tensor in layer.tensors:
        if tensor.dtype.startswith(("float", "bfloat")):
            size = 1
            for extent in tensor.shape:
                size *= extent
            sizes[size] += 1
    return sizes
