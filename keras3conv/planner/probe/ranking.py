"""Rank the torch layers that may correspond to a Keras layer: by inputs, hints, names and call order."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from keras3conv.alignment.shapes import same_axes
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import Fingerprint
from keras3conv.planner.evidence import names
from keras3conv.planner.evidence.names import Ranks
from keras3conv.planner.probe.layer_finder import LayerFinder
from keras3conv.planner.probe.nearness import (
    InputMatch,
    count_shared_words,
    distance,
    is_outside,
    match_input,
    name_distance,
)
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.tensor_finder import TensorFinder
from keras3conv.planner.probe.trail import Trail
from keras3conv.rules.constants import is_constant

_BACKWARDS = 1 << 40
"""The number added to the sort key of a torch layer that ran before the last chosen layer; it then ranks behind."""


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate, and whether its torch layer was recorded with the same input as the Keras layer has."""

    match: InputMatch
    candidate: Candidate


@dataclass
class CandidateRanking:
    """Ranks the torch layers that may correspond to a Keras layer, by the recorded torch run and the choices so far.

    Attributes:
        layers: Finds the torch layers that may be a Keras layer.
        tensors: Finds the torch tensors that may be the variables of a Keras layer.
        hinted: The torch path from the user's hint, by Keras path.
        ranks: The ranks of the numbers in the torch names, and in the Keras names.
        trail: The choices in call order.
    """

    layers: LayerFinder
    tensors: TensorFinder
    hinted: Mapping[str, str] = field(default_factory=dict)
    ranks: tuple[Ranks, Ranks] = (Ranks(), Ranks())
    trail: Trail = field(default_factory=Trail)
    _last_index: int = -1

    def note_found(self, candidate: Candidate) -> None:
        """Record the call position of the torch layer that was just chosen; layers called soon after it rank first."""
        if calls := self.layers.run.calls_of(candidate.layers[0].path):
            self._last_index = calls[0].index

    def rank(self, keras: LayerView, fingerprint: Fingerprint | None) -> list[RankedCandidate]:
        """Return the candidate torch weights for a Keras layer, best first, without those rejected or used elsewhere.

        Args:
            keras: The layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        if keras.path not in self.hinted and (named := self._rank_named(keras, fingerprint)):
            return named
        return self.rank_same_input(keras, fingerprint) or self.rank_all(keras, fingerprint)

    def _rank_named(self, keras: LayerView, fingerprint: Fingerprint | None) -> list[RankedCandidate]:
        """Return the torch parameters that have the name of a Keras layer, then the others that fit: names may mislead.

        The list is empty if no parameter has the name of the layer.

        Args:
            keras: The layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        usable = self._usable(keras, self.tensors.by_name(keras))
        named = [RankedCandidate(InputMatch.OTHER, candidate) for candidate in usable]
        known = [entry.candidate.mappings for entry in named]
        others = (
            (entry for entry in self.rank_all(keras, fingerprint) if entry.candidate.kind == "parameter")
            if named
            else ()
        )
        return named + [entry for entry in others if entry.candidate.mappings not in known]

    def rank_same_input(self, keras: LayerView, fingerprint: Fingerprint | None) -> list[RankedCandidate]:
        """Return the best candidates for a Keras layer: torch layers with the same input that a rule pairs with it.

        They are the first results of `rank_all`, found without comparing the many other layers of a deep model.

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        if fingerprint is None or keras.path in self.hinted:
            return []
        candidates = self.layers.by_rule_and_input(keras, fingerprint)
        found = [entry for entry in self._with_match(keras, fingerprint, candidates) if entry.match == InputMatch.SAME]
        return sorted(found, key=lambda entry: self._sort_key(keras, entry))

    def rank_all(self, keras: LayerView, fingerprint: Fingerprint | None) -> list[RankedCandidate]:
        """Return all candidate torch weights for a Keras layer, best first, without those rejected or used elsewhere.

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        found = list(self._with_match(keras, fingerprint, self.layers.by_rule(keras)))
        if not any(entry.match == InputMatch.SAME for entry in found):
            for find in (self.layers.sliced_layers, self.layers.joined_layers):
                usable = self._usable(keras, find(keras, fingerprint))
                found += [RankedCandidate(InputMatch.SAME, candidate) for candidate in usable]
            found += self._with_match(keras, fingerprint, self.tensors.by_tensors(keras))
        if hint := self.hinted.get(keras.path):
            found = [entry for entry in found if entry.candidate.torch == hint]
        wanted = [tensor for tensor in keras.tensors if not tensor.is_seed and not is_constant(tensor)]
        if not found and len(wanted) == 1:
            candidates = self.tensors.single_tensors(keras, wanted[0], self.tensors.bare_parameters)
            found = [RankedCandidate(InputMatch.OTHER, candidate) for candidate in self._usable(keras, candidates)]
        return sorted(found, key=lambda entry: self._sort_key(keras, entry))

    def _with_match(
        self, keras: LayerView, fingerprint: Fingerprint | None, candidates: Iterable[Candidate]
    ) -> Iterator[RankedCandidate]:
        for candidate in self._usable(keras, candidates):
            yield RankedCandidate(match_input(self.layers.run, candidate, fingerprint), candidate)

    def _usable(self, keras: LayerView, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        return (candidate for candidate in candidates if self.trail.allows(keras.path, candidate))

    def _sort_key(self, keras: LayerView, entry: RankedCandidate) -> tuple[float, ...]:
        """Return the sort key of a torch candidate for a Keras layer, smallest for the best.

        It compares how well the inputs of both layers agree, how similar their names are, and how soon torch calls the
        candidate after the layer that was chosen last.
        """
        candidate, similar_input = entry.candidate, entry.match != InputMatch.OTHER
        torch = candidate.layers[0].path
        meanings = {names.meaning(torch), names.meaning(keras.path)} - {""}
        calls = self.layers.run.calls_of(torch)
        steps = calls[0].index - self._last_index if calls else _BACKWARDS
        order = steps if steps > 0 else _BACKWARDS - steps
        words = sum(count_shared_words(layer.path, keras.path) for layer in candidate.layers) / len(candidate.layers)
        elsewhere = candidate.kind == "parameter" and is_outside(self.trail, candidate.owner)
        other_rank = similar_input and self.ranks[0].differ(torch, self.ranks[1], keras.path)
        shared = words if similar_input else 0
        start = candidate.slices[0].start if candidate.slices else 0
        return entry.match, len(meanings) > 1, elsewhere, -shared, other_rank, order, start

    def rank_for_variable(
        self, keras: LayerView, tensor: TensorRef, fingerprint: Fingerprint | None
    ) -> list[Candidate]:
        """Return the candidates for a single Keras variable, best first: parameters of modules that no rule knows.

        If several variables together make up a torch tensor, or several tensors the variable, these come first, but
        after tensors with the sizes of the variable. Of the others, only candidates near the layer are returned:
        parameters of a module with the same input, or of a module that contains the torch layer that was chosen last.

        Args:
            keras: The Keras layer that owns the variable.
            tensor: The variable.
            fingerprint: The fingerprint of the layer's first input; None if it has none.
        """
        found = list(self.tensors.single_tensors(keras, tensor, self.tensors.bare_parameters))
        found += self.tensors.tensors_with_input(keras, tensor, fingerprint)
        parts = list(self.tensors.parts(keras, tensor))
        has_whole = any(same_axes(other.shape, tensor.shape) for entry in found for other in _tensors(entry))
        found += self.tensors.slices_and_stacks(keras, tensor, nothing_else=not found)
        beside = {
            choice.candidate.layers[0].path
            for path, choice in self.trail.choices.items()
            if any(path == other.path for other in keras.tensors)
        }
        both = (found, parts) if has_whole else (parts, found)
        groups = [self._nearest(tensor, some, fingerprint, beside) for some in both]
        return list({candidate.key: candidate for group in groups for candidate in group}.values())

    def _nearest(
        self, tensor: TensorRef, found: Iterable[Candidate], fingerprint: Fingerprint | None, beside: Container[str]
    ) -> list[Candidate]:
        """Return the candidates for a Keras variable that are nearest to the layer, best first, without rejected ones.

        Args:
            tensor: The variable.
            found: The candidates.
            fingerprint: The fingerprint of the layer's first input; None if it has none.
            beside: The paths of the torch modules whose tensors the other variables of the layer have.
        """
        ranked = sorted(
            (
                (
                    *distance(self.layers.run, self.trail, candidate, fingerprint),
                    any(other.trainable != tensor.trainable for other in _tensors(candidate)),
                    *name_distance(candidate.slices[0].path, tensor.path),
                    candidate.layers[0].path not in beside,
                ),
                position,
                candidate,
            )
            for position, candidate in enumerate(found)
        )
        nearest = [entry for entry in ranked if entry[0][:2] == ranked[0][0][:2]]
        return [candidate for *_, candidate in nearest if self.trail.allows(tensor.path, candidate)]


def _tensors(candidate: Candidate) -> Iterator[TensorRef]:
    used = {part.path for part in candidate.slices}
    return (tensor for layer in candidate.layers for tensor in layer.tensors if tensor.path in used)
