"""Define the plan: the pairs of torch and Keras tensors that correspond. It can be printed, edited and saved."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from keras3conv.alignment.adapted import adapted, merged_first, quantized_in_torch
from keras3conv.alignment.by_hand import pair_by_hand
from keras3conv.alignment.first_difference import first_difference
from keras3conv.alignment.pair import Ignored, Pair, belongs
from keras3conv.alignment.problems import misfits, repeated, unplaced
from keras3conv.alignment.unfit_rules import with_unfit_rules
from keras3conv.errors import AlignmentError, Problem, UnsupportedLayerError
from keras3conv.messages import count, lay_out
from keras3conv.model.views import ModelView, Side
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Transform
from keras3conv.width import folded

_CAUSE = ("k3c.validate(torch, keras, plan=plan)",)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A plan for one torch model and one Keras model. The methods that edit it return a new plan.

    Attributes:
        pairs: The layers that correspond, with the mappings of their tensors.
        ignored: The tensors that are left out, each with its reason.
        torch: The layers of the torch side, with the names and shapes of their tensors.
        keras: The layers of the Keras side, with the names and shapes of their tensors.
        format: The version of the JSON format.
        notes: How the pairs were found, in sentences: the inputs of the probe, or the reason why the models were not
            probed.
        difference: A sentence on how the outputs of the two models differed with the same weights; empty if
            no difference is known. A change of the pairs removes it, because the models have not run with the new ones.
        accepted_difference: The text of `difference`, after the user has accepted the difference; else empty.
    """

    pairs: tuple[Pair, ...]
    ignored: tuple[Ignored, ...]
    torch: ModelView = field(repr=False)
    keras: ModelView = field(repr=False)
    format: int = 1
    notes: tuple[str, ...] = ()
    difference: str = ""
    accepted_difference: str = ""

    @property
    def mappings(self) -> tuple[WeightMapping, ...]:
        """The mappings of all pairs; a mapping has torch tensors, Keras variables, and the transform between them."""
        return tuple(mapping for pair in self.pairs for mapping in pair.weights)

    @property
    def unconfirmed(self) -> tuple[Pair, ...]:
        """The pairs that may be wrong: other layers fit as well, or the two layers were not run and compared."""
        return tuple(pair for pair in self.pairs if pair.unconfirmed and pair.decided_by != "ambiguous")

    @cached_property
    def problems_found(self) -> tuple[Problem, ...]:
        """The errors of the plan, computed on the first access."""
        of_layers = *adapted(self.keras), *merged_first(self), *quantized_in_torch(self)
        rest = tuple(unplaced(self))
        if of_layers:  # the weights of these layers are not there: a line that ignores their places would be wrong
            rest = tuple(Problem(torch=entry.torch, keras=entry.keras, fact=entry.fact) for entry in rest)
        return (*of_layers, *misfits(self), *repeated(self), *with_unfit_rules(self, rest))

    def problems(self) -> tuple[Problem, ...]:
        """Return all errors of the plan: unpaired tensors, tensors in two pairs, and shapes that do not fit."""
        return self.problems_found

    def check(self) -> "Alignment":
        """Return the plan if all tensors of both sides are paired or ignored, and no output difference is known.

        Raises:
            AlignmentError: The plan has problems; the message lists all of them, and calls that fix them. Or the
                outputs of the two models are known to differ although both ran with the same weights.
            UnsupportedLayerError: An unpaired layer has a class without a rule (a subclass of `AlignmentError`).
        """
        problems = self.problems()
        if not problems and not self.difference:
            return self
        if not problems:
            headline = f"{self.torch.title} and {self.keras.title} do not compute the same with the same weights"
            fact = f"{self.difference}; validate names the cause, accept_difference=True moves the weights nevertheless"
            raise AlignmentError(lay_out(headline, [Problem(fact=fact, fixes=_CAUSE)]))
        headline = f"{count(len(problems), 'problem')} in the alignment of {self.torch.title} and {self.keras.title}"
        if self.pairs:
            headline += f"; {count(len(self.pairs), 'pair')} matched"
        difference = first_difference(self)
        first = [Problem(fact=difference)] if difference else []
        unknown = any("no rule knows" in problem.fact for problem in problems)
        error = UnsupportedLayerError if unknown else AlignmentError
        raise error(lay_out(headline, [*first, *problems]))

    def accepting_difference(self) -> "Alignment":
        """Return a copy of the plan in which the difference of the outputs is accepted, so that `check` passes."""
        return replace(self, difference="", accepted_difference=self.difference or self.accepted_difference)

    def of(self, path: str) -> Pair | None:
        """Return the pair that contains the torch or Keras layer with a path; None if there is no such pair."""
        return next((pair for pair in self.pairs if path in (*pair.torch_layers, *pair.keras_layers)), None)

    def pair(
        self,
        torch: str | Sequence[str],
        keras: str | Sequence[str],
        *,
        transform: str | Transform | None = None,
        heads: int = 1,
    ) -> "Alignment":
        """Return the plan with these layers or tensors paired. Existing pairs that share a tensor are removed.

            plan.pair("fc", "predictions")
            plan.pair("pos_embed", "pos/table", transform="1 n d -> n d")
            plan.pair("qkv", ["query", "key", "value"], heads=12)
            plan.pair(["q", "k", "v"], "qkv", transform=Chain(Concat(0, (8, 8, 8)), Axes("o i -> i o")))

        Args:
            torch: The path of a torch layer or tensor, or a list of several. `"q + k + v"` means the same as `["q",
                "k", "v"]`.
            keras: The path of a Keras layer or tensor, or a list of several.
            transform: The transform from the torch tensors to the Keras tensors, if no rule provides it. A pattern such
                as "1 n d -> n d" is for one tensor on each side. The path of a layer with one tensor then means this
                tensor.
            heads: The number of attention heads, if the rows of a fused layer go head by head: the query, key and value
                rows of the first head, then those of the second. 1 if all query rows come first, then all key rows. If
                it is the number of rows of one part, the rows alternate: one of the query, one of the key, one of the
                value. If both layers are fused, the torch rows go head by head.

        Raises:
            AlignmentError: A name is unknown, no rule pairs the layers, or the transform does not fit the tensors.
        """
        made = pair_by_hand(self.torch, self.keras, torch, keras, transform=transform, heads=heads)
        placed = _tensors_of(made)
        kept = tuple(pair for pair in self.pairs if not placed & _tensors_of(pair))
        # The state of a random generator is never mapped, so it stays ignored.
        seeds = {("keras", tensor.path) for tensor in self.keras.tensors() if tensor.is_seed}
        ignored = tuple(entry for entry in self.ignored if (entry.side, entry.path) in seeds or not _is_of(entry, made))
        return replace(self, pairs=(*kept, made), ignored=ignored, difference="", accepted_difference="")

    def unpair(self, layer: str) -> "Alignment":
        """Return the plan without the pair that contains a layer, or the same plan if there is no such pair.

        Args:
            layer: The path of the torch or Keras layer.
        """
        pair = self.of(layer)
        pairs = tuple(other for other in self.pairs if other is not pair)
        known = ("", "") if pair else (self.difference, self.accepted_difference)
        return replace(self, pairs=pairs, difference=known[0], accepted_difference=known[1])

    def ignore(self, path: str, reason: str, *, side: Side | None = None) -> "Alignment":
        """Return the plan with a tensor, or all tensors of a layer, marked as ignored: they need no counterpart.

        Args:
            path: The path of a layer or of a tensor.
            reason: Why the tensors are ignored; every report shows it.
            side: The model that has the path, "torch" or "keras"; needed only if both have it.

        Raises:
            AlignmentError: The path is unknown, or known on both sides and `side` is not given.
        """
        found: dict[Side, list[str]] = {}
        for view in (self.torch, self.keras):
            paths = [tensor.path for tensor in view.tensors() if belongs(tensor.path, path)]
            if paths and side in (None, view.side):
                found[view.side] = paths
        if len(found) != 1:
            fact = (
                "this path exists on both sides: name the side"
                if found
                else ("neither model has a layer or a tensor of this name")
            )
            fixes = (f'plan = plan.ignore("{path}", "{reason}", side="torch")',) if found else ()
            problem = Problem(torch=path, fact=fact, fixes=fixes)
            raise AlignmentError(
                lay_out(f"nothing was ignored in {self.torch.title} and {self.keras.title}", [problem])
            )
        ((only_side, paths),) = found.items()
        entries = [Ignored(side=only_side, path=tensor, reason=reason) for tensor in paths]
        known = self.difference, self.accepted_difference
        plan = replace(self.unpair(path), ignored=(*self.ignored, *entries))
        return replace(plan, difference=known[0], accepted_difference=known[1])

    def to_json(self) -> str:
        """Return the plan as JSON; `Alignment.from_json` reads it without importing or evaluating anything."""
        from keras3conv.alignment import json as alignment_json

        return alignment_json.dump(self)

    @staticmethod
    def from_json(text: str) -> "Alignment":
        """Return the plan in a JSON text that `to_json` wrote.

        Raises:
            AlignmentError: The text is not a plan, or its format version is unknown.
        """
        from keras3conv.alignment import json as alignment_json

        return Alignment(**alignment_json.load(text))

    def __str__(self) -> str:
        from keras3conv.alignment import text as alignment_text

        return folded(alignment_text.describe(self))

    def _repr_html_(self) -> str:
        from keras3conv.alignment import text as alignment_text

        return alignment_text.describe_html(self)


def _tensors_of(pair: Pair) -> set[tuple[str, str]]:
    """Return the tensors of a pair, each as its side ("torch" or "keras") and its path."""
    torch = {("torch", path) for mapping in pair.weights for path in mapping.torch}
    return torch | {("keras", path) for mapping in pair.weights for path in mapping.keras}


def _is_of(entry: Ignored, pair: Pair) -> bool:
    """Return True if an ignored tensor belongs to one of the layers of a pair.

    Args:
        entry: The ignored tensor.
        pair: The pair.
    """
    layers = pair.torch_layers if entry.side == "torch" else pair.keras_layers
    return any(belongs(entry.path, layer) for layer in layers)
