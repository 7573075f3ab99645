"""Choose the torch weights of a Keras layer during its call: those with which it returns the recorded torch output."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import Fingerprint
from keras3conv.numerics.probe_values import other_values
from keras3conv.planner.probe.compare import LayerOutput, Measurement, RunLayer, has_recorded_size, measure, reproducing
from keras3conv.planner.probe.nearness import CLOSE_LIMIT, InputMatch, match_input, uses_other_tensors
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.ranking import CandidateRanking, RankedCandidate
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.planner.probe.trail import Abandoned, Trail
from keras3conv.rules.constants import is_constant
from keras3conv.transforms import Array

_MOST_GUESSES = 12
"""The maximum number of candidates to try for a Keras layer although torch recorded another input for them."""

_SIGNIFICANT = 0.03
"""A candidate's weights count as right if its error is below this fraction of the error with wrong random weights."""

_MOST_FORCED = 5
"""The maximum number of candidates that are recorded for a Keras layer if none of them reproduced its output."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a Keras layer for which no candidate has been chosen yet.

    Attributes:
        ranking: Finds and ranks the candidates, and has the choices for the layers before.
        keras: The layer.
        fingerprint: The fingerprint of its first input; None if it has none.
        run: Writes values into the variables of the layer and calls it.
        must_agree: The run of the Keras model is aborted if the output of one of its first layer calls, up to this
            number, differs from torch; -1 to abort never.
    """

    ranking: CandidateRanking
    keras: LayerView
    fingerprint: Fingerprint | None
    run: RunLayer
    must_agree: int = -1

    @property
    def path(self) -> str:
        """The path of the layer."""
        return self.keras.path

    @property
    def trail(self) -> Trail:
        """The torch weights chosen so far for the Keras layers, in call order."""
        return self.ranking.trail

    @property
    def torch(self) -> TorchRun:
        """The recorded run of the torch model."""
        return self.ranking.layers.run

    def fill(self) -> Any:
        """Choose the weights of the layer, and return its output or the recorded torch output.

        Raises:
            Backtrack: An earlier choice must be changed.
        """
        ranked = self.ranking.rank(self.keras, self.fingerprint)
        if not ranked:
            if self.trail.has_rejections(self.path):
                self.trail.backtrack(self.path)
            return self._fill_each_variable()
        if ranked[0].candidate.kind == "parameter":  # no recorded torch output corresponds to this layer's output
            best, *others = (entry.candidate for entry in ranked)
            output = self._output(best)
            self.ranking.note_found(best)
            self.trail.choose(self.path, best, None, others)
            return output.returned
        return self._search(ranked)

    def _output(self, candidate: Candidate) -> LayerOutput:
        """Return the output of the layer with the weights of a candidate."""
        return self.run(candidate.values(self.torch.weights))

    def _search(self, ranked: list[RankedCandidate]) -> Any:
        """Try the candidates in order: choose the first with which the layer returns the recorded torch output.

        If there is none, choose the candidate with the smallest error, or backtrack. Return the output of the layer, or
        the recorded output of a candidate that was chosen for its error.

        Args:
            ranked: The candidates, the best first.
        """
        near: list[tuple[float, RankedCandidate]] = []
        is_comparable = False
        for position, entry in enumerate(self._with_others(ranked)):
            if entry.match == InputMatch.OTHER and position >= _MOST_GUESSES:
                break
            candidate = entry.candidate
            output = self._output(candidate)
            measurement = measure(self.torch, candidate, output)
            if measurement.comparison.agrees:
                equals = [other.candidate for other in ranked if other.match == entry.match != InputMatch.OTHER]
                if candidate.kind == "tensors":
                    equals = list(reproducing(self.torch, self.run, equals, candidate))
                    output = self._output(candidate)
                self._accept(candidate, measurement, equals)
                return output.returned
            if measurement.comparison.error <= NEAR:
                near.append((measurement.comparison.error, entry))
            has_size = entry.match != InputMatch.OTHER and has_recorded_size(self.torch, candidate, output)
            is_comparable |= candidate.kind != "tensors" or (has_size and candidate.fills_all)
        if not is_comparable and self._fits_each_variable():
            return self._fill_each_variable()
        return self._accept_near(near) if near else self._force(ranked)

    def _with_others(self, ranked: list[RankedCandidate]) -> Iterator[RankedCandidate]:
        """Yield the ranked candidates, then those whose recorded torch input differs from the input of the layer.

        The second ones are computed only when the caller asks for them, because a deep model has many.

        Args:
            ranked: The ranked candidates; the later ones are added to this list in place.
        """
        yield from ranked
        if ranked[-1].match == InputMatch.SAME:
            others = self.ranking.rank_all(self.keras, self.fingerprint)
            ranked += [entry for entry in others if entry.match != InputMatch.SAME]
            yield from (entry for entry in others if entry.match != InputMatch.SAME)

    def _accept(self, candidate: Candidate, measurement: Measurement, equals: Iterable[Candidate]) -> None:
        """Choose a candidate that reproduces its recorded output, and confirm the earlier choices that this proves.

        Args:
            candidate: The candidate.
            measurement: The comparison of its recorded output with the output of the Keras layer.
            equals: The candidates with the same input; those with other tensors are recorded as alternatives.
        """
        same_input = match_input(self.torch, candidate, self.fingerprint) == InputMatch.SAME
        comparison = replace(measurement.comparison, input_agrees=same_input)
        self.ranking.note_found(candidate)
        self.trail.choose(
            self.path, candidate, comparison, (other for other in equals if uses_other_tensors(other, candidate))
        )
        self.trail.note_agreement(self.path)
        for recorded in self.torch.calls_of(candidate.layers[0].path):
            if self.fingerprint and any(entry.agrees(self.fingerprint, CLOSE_LIMIT) for entry in recorded.inputs):
                self.trail.confirm(self.path, recorded.dependencies, self.torch)

    def _accept_near(self, near: list[tuple[float, RankedCandidate]]) -> Any:
        """Choose the best ranked candidate among those with about the smallest error, and return its recorded output.

        The Keras layer and this torch layer may have the same weights and differ in a constant, such as an epsilon. But
        a small error proves nothing if wrong random weights give nearly the same error, because the output is mostly
        the input; then the choice is recorded as forced.

        Args:
            near: The candidates with a small error, each after its error.
        """
        self._backtrack_unless_input_agrees([entry for _, entry in near])
        smallest = min(error for error, _ in near)
        similar = [entry for error, entry in near if error <= 10 * smallest]  # best rank first
        candidate = similar[0].candidate
        random_output = self.run(other_values(candidate.values(self.torch.weights)))
        if smallest > _SIGNIFICANT * measure(self.torch, candidate, random_output).comparison.error:
            return self._force(similar)
        if len(self.trail.called) - 1 <= self.must_agree:
            raise Abandoned
        output = self._output(candidate)
        measurement = measure(self.torch, candidate, output)
        self._accept(candidate, measurement, [entry.candidate for entry in similar])
        return measurement.returned(output)

    def _force(self, ranked: list[RankedCandidate]) -> Any:
        """Choose the best candidate although its output differs, or backtrack if an earlier choice may be wrong.

        Args:
            ranked: The candidates, the best first; none of them reproduced its recorded output.

        Returns:
            The recorded output of the chosen candidate.
        """
        self._backtrack_unless_input_agrees(ranked)
        if len(self.trail.called) - 1 <= self.must_agree:
            raise Abandoned
        candidate = ranked[0].candidate
        output = self._output(candidate)
        measurement = measure(self.torch, candidate, output)
        alternatives = [entry.candidate for entry in ranked[1:_MOST_FORCED]]
        hidden_tensors = 0
        for recorded in self.torch.calls_of(candidate.layers[0].path):
            hidden_tensors |= recorded.dependencies
        self.ranking.note_found(candidate)
        self.trail.force(self.path, candidate, measurement.comparison, alternatives, hidden_tensors)
        return measurement.returned(output)

    def _backtrack_unless_input_agrees(self, entries: Iterable[RankedCandidate]) -> None:
        """Backtrack, unless the layer's input equals a recorded input, which proves that the earlier choices are right.

        Args:
            entries: Candidates, each with how well the layer's input agrees with its recorded input.
        """
        input_agrees = any(entry.match == InputMatch.SAME for entry in entries)
        if (not input_agrees or self.trail.has_rejections(self.path)) and not self.trail.has_given_up(self.path):
            self.trail.backtrack(self.path)

    def _fits_each_variable(self) -> bool:
        """Return whether each variable of a called layer has a candidate: a torch tensor with as many values."""
        tensors = (tensor for tensor in self.keras.tensors if not tensor.is_seed)
        return all(self.ranking.rank_for_variable(self.keras, tensor, self.fingerprint) for tensor in tensors)

    def _fill_each_variable(self) -> Any:
        return self.run(values_of_each(self.ranking, self.keras, self.keras.tensors, self.fingerprint)).returned


def values_of_each(
    ranking: CandidateRanking, keras: LayerView, tensors: Iterable[TensorRef], fingerprint: Fingerprint | None
) -> dict[str, Array]:
    """Choose a candidate for each variable of a layer separately, and return the values of the variables by path.

    Later layers prove the choices. The result also has the values of variables that were chosen before, because
    backtracking may have skipped writing them.

    Args:
        ranking: Ranks the candidates, and has the choices so far.
        keras: The Keras layer.
        tensors: The variables.
        fingerprint: The fingerprint of the layer's first input; None if it has none.
    """
    trail = ranking.trail
    values: dict[str, Array] = {}
    for tensor in tensors:
        if not tensor.is_seed and not is_constant(tensor) and tensor.path not in trail.choices:
            if candidates := ranking.rank_for_variable(keras, tensor, fingerprint):
                ranking.note_found(candidates[0])
                trail.choose(tensor.path, candidates[0], None, candidates[1:])
            elif trail.has_rejections(tensor.path):
                trail.backtrack(tensor.path)
        if choice := trail.choices.get(tensor.path):
            values |= choice.candidate.values(ranking.layers.run.weights)
    return values
