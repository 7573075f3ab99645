"""The plan: which tensor belongs where. A value that can be read, edited, saved as JSON and reviewed."""

from dataclasses import dataclass, field, replace
from functools import cached_property

from keras3conv.alignment.pair import Ignored, Pair
from keras3conv.alignment.problems import first_difference, misfits, repeated, unplaced
from keras3conv.errors import AlignmentError, Problem, UnsupportedLayerError
from keras3conv.messages import count, lay_out
from keras3conv.model.views import ModelView, Side
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Transform


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
        return (*misfits(self), *repeated(self), *unplaced(self))

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
        from keras3conv.alignment.binding import are_tensors, pair_by_hand, pair_of_tensors

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
        from keras3conv.alignment import json as alignment_json

        return alignment_json.dump(self)

    @staticmethod
    def from_json(text: str) -> "Alignment":
        """The plan that `to_json` wrote.

        Raises:
            AlignmentError: The text is no plan, or of a version that is not known.
        """
        from keras3conv.alignment import json as alignment_json

        return Alignment(**alignment_json.load(text))

    def __str__(self) -> str:
        from keras3conv.alignment import text as alignment_text

        return alignment_text.describe(self)

    def _repr_html_(self) -> str:
        from keras3conv.alignment import text as alignment_text

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
