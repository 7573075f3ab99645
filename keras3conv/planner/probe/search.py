"""Find the torch layer of each Keras layer: run both models under the same random weights and compare the outputs.

PyTorch has run before, and its run was recorded (`TorchRun`). Then Keras runs. At each layer call, the search fills the
Keras layer: it writes the weights of a candidate torch layer into its variables. All layers before it have the right
weights, so its input is right, and its output must equal the recorded output of the corresponding torch layer. Several
candidates may have the same input and shapes (query, key, value). Then the search takes the best by names and call
order, and backtracks to the next one when a later layer receives a wrong input. If no candidate reproduces the recorded
output, the best one is kept, unconfirmed, and the layer returns the recorded output. So the layers after it receive the
right input.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import Fingerprint
from keras3conv.numerics.probe_values import other_values
from keras3conv.planner.probe.compare import Measurement, RunLayer, has_recorded_size, measure, reproducing
from keras3conv.planner.probe.nearness import (
    CLOSE_LIMIT,
    InputMatch,
    find_recorded,
    match_input,
    output_limit,
    outputs_are_swapped,
    uses_other_tensors,
)
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.outcome import Choice
from keras3conv.planner.probe.outputs import NOT_COMPARED, ROUNDED_CONSTANTS, OutputComparison, compare_outputs
from keras3conv.planner.probe.ranking import CandidateRanking, RankedCandidate
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.planner.probe.stacks import Stack
from keras3conv.planner.probe.trail import Abandoned, Trail
from keras3conv.rules.constants import is_constant
from keras3conv.transforms import Array

_MOST_GUESSES = 12
"""The maximum number of candidates to try for a Keras layer although torch recorded another input for them."""

_SIGNIFICANT = 0.03
"""A candidate's weights count as right if its error is below this fraction of the error with wrong random weights."""

_MOST_FORCED = 5
"""The maximum number of candidates that are recorded for a Keras layer if none of them reproduced its output."""

OUTPUTS = "the outputs"
"""The name that replaces the path of a layer when the outputs of the whole models are compared."""


@dataclass(frozen=True)
class _LayerCall:
    """One call of a Keras layer for which no candidate has been chosen yet.

    Attributes:
        keras: The layer.
        fingerprint: The fingerprint of its first input; None if it has none.
        run: Writes values into the variables of the layer and calls it.
    """

    keras: LayerView
    fingerprint: Fingerprint | None
    run: RunLayer

    @property
    def path(self) -> str:
        """The path of the layer."""
        return self.keras.path


@dataclass
class Search:
    """The search for the torch weights of every Keras layer, during one run of the Keras model.

    Attributes:
        ranking: Finds and ranks the candidates of a layer.
        stacks: The pairs of one torch layer and several Keras layers in sequence, by the path of each Keras layer.
        outputs_agree: Whether every output of the model has the values of a recorded torch value, in any order, and no
            two outputs are swapped.
        output_comparison: The comparison of the outputs, element by element.
        must_agree: The run of the Keras model is aborted if the output of one of its first layer calls, up to this
            number, differs from torch; -1 to abort never.
    """

    ranking: CandidateRanking
    stacks: Mapping[str, Stack] = field(default_factory=dict)
    outputs_agree: bool = False
    output_comparison: OutputComparison = NOT_COMPARED
    must_agree: int = -1

    @property
    def run(self) -> TorchRun:
        """The recorded run of the torch model, with which the Keras model is compared."""
        return self.ranking.layers.run

    @property
    def trail(self) -> Trail:
        """The torch weights chosen so far for the Keras layers, in call order."""
        return self.ranking.trail

    @property
    def choices(self) -> dict[str, Choice]:
        """The torch weights chosen for each Keras layer or variable, by its path."""
        return self.trail.choices

    @property
    def replaced_an_output(self) -> bool:
        """True if at least one Keras layer returned the output recorded in the torch run instead of its own output."""
        return any(choice.replaces_output for choice in self.choices.values())

    @property
    def is_equal(self) -> bool:
        """True if no output of the Keras model is known to differ from the torch output.

        A difference as small as the rounding of a constant to float32 (a rotary embedding's table) does not count.
        """
        if self.output_comparison.result == "unknown":
            return self.outputs_agree or not self.replaced_an_output
        return self.output_comparison.result == "equal" or self.output_comparison.error <= ROUNDED_CONSTANTS

    @property
    def first_difference(self) -> int:
        """The index of the first layer call whose output differs from torch.

        It is the number of calls if only the outputs of the models differ, and one more if nothing differs.
        """
        if self.is_equal:
            return len(self.trail.called) + 1
        differing = (self.trail.called.index(choice.path) for choice in self.choices.values() if choice.replaces_output)
        return min(differing, default=len(self.trail.called))

    def choices_before_difference(self) -> list[Choice]:
        """Return the choices for the Keras layers that are called before the first one that differs from torch."""
        return list(takewhile(lambda choice: not choice.replaces_output, self.choices.values()))

    def can_fill(self, keras: LayerView) -> bool:
        """Return whether a rule gives a Keras layer and its sublayers their weights from one torch layer."""
        if keras.path in self.stacks:
            return True
        if keras.path in self.choices:
            return self.choices[keras.path].candidate.kind == "layer"
        return any(self.trail.allows(keras.path, candidate) for candidate in self.ranking.layers.by_rule(keras))

    def fill(self, keras: LayerView, inputs: tuple[Fingerprint, ...], run: RunLayer) -> Any:
        """Choose the weights of a layer during its call, and return its output or the recorded torch output.

        Args:
            keras: The layer.
            inputs: The fingerprints (sums of powers of the values) of its inputs.
            run: Writes values into the variables of the layer and calls it.

        Raises:
            Backtrack: An earlier choice must be changed.
        """
        call_index = self.trail.note_call(keras.path)
        if stack := self.stacks.get(keras.path):
            output = run(stack.values(self.run, keras))
            stack.compare(self.run, keras, output.array, call_index)
            return output.returned
        if choice := self.choices.get(keras.path):
            return self._repeat(choice, run, call_index)
        call = _LayerCall(keras, inputs[0] if inputs else None, run)
        ranked = self.ranking.rank(keras, call.fingerprint)
        if not ranked:
            if self.trail.has_rejections(keras.path):
                self.trail.backtrack(keras.path)
            return self._fill_each_variable(call)
        if ranked[0].candidate.kind == "parameter":  # no recorded torch output corresponds to this layer's output
            best, *others = (entry.candidate for entry in ranked)
            output = run(best.values(self.run.weights))
            self.ranking.note_found(best)
            self.trail.choose(keras.path, best, None, others)
            return output.returned
        return self._search(call, ranked)

    def fill_own_variables(self, keras: LayerView, own: set[str], write: Callable[[dict[str, Array]], None]) -> None:
        """Choose and write the values of a container's own variables, such as a class token or a position table.

        Args:
            keras: The container.
            own: The paths of its own variables.
            write: Writes values into variables, by path.

        Raises:
            Backtrack: An earlier choice must be changed.
        """
        tensors = [tensor for tensor in keras.tensors if tensor.path in own]
        write(self._values_of_each(keras, tensors, None))

    def finish(self, outputs: Mapping[str, Array]) -> None:
        """Compare the Keras outputs with the recorded torch values; confirm choices if they agree, else backtrack.

        Args:
            outputs: The Keras outputs by name.

        Raises:
            Backtrack: The outputs disagree, so an earlier choice must be changed.
        """
        dependencies = self.compare_outputs(outputs)
        if self.outputs_agree:
            self.trail.note_agreement(OUTPUTS)
            for bits in dependencies:
                self.trail.confirm(OUTPUTS, bits or 0, self.run)
        elif not self.trail.has_given_up(OUTPUTS) and not self.replaced_an_output:
            self.trail.backtrack(OUTPUTS)

    def compare_outputs(self, outputs: Mapping[str, Array]) -> list[int | None]:
        """Compare the outputs of the two models, and set `outputs_agree` and `output_comparison`.

        Return for each Keras output the torch tensors that the equal torch value was computed from, as an integer with
        one bit per tensor; None for an output that equals no recorded value.
        """
        self.output_comparison = compare_outputs(self.run.outputs, outputs, output_limit(self.run))
        found = [find_recorded(self.run, array) for array in outputs.values()]
        self.outputs_agree = None not in found and not outputs_are_swapped(self.run, outputs)
        return found

    def _search(self, call: _LayerCall, ranked: list[RankedCandidate]) -> Any:
        """Try the candidates in order: choose the first with which the layer returns the recorded torch output.

        If there is none, choose the candidate with the smallest error, or backtrack. Return the output of the layer, or
        the recorded output of a candidate that was chosen for its error.

        Args:
            call: The call of the Keras layer.
            ranked: The candidates, the best first.
        """
        near: list[tuple[float, RankedCandidate]] = []
        is_comparable = False
        for position, entry in enumerate(self._with_others(call, ranked)):
            if entry.match == InputMatch.OTHER and position >= _MOST_GUESSES:
                break
            candidate = entry.candidate
            output = call.run(candidate.values(self.run.weights))
            measurement = measure(self.run, candidate, output)
            if measurement.comparison.agrees:
                equals = [other.candidate for other in ranked if other.match == entry.match != InputMatch.OTHER]
                if candidate.kind == "tensors":
                    equals = list(reproducing(self.run, call.run, equals, candidate))
                    output = call.run(candidate.values(self.run.weights))
                self._accept(call, candidate, measurement, equals)
                return output.returned
            if measurement.comparison.error <= NEAR:
                near.append((measurement.comparison.error, entry))
            has_size = entry.match != InputMatch.OTHER and has_recorded_size(self.run, candidate, output)
            is_comparable |= candidate.kind != "tensors" or (has_size and candidate.fills_all)
        if not is_comparable and self._fits_each_variable(call):
            return self._fill_each_variable(call)
        return self._accept_near(call, near) if near else self._force(call, ranked)

    def _with_others(self, call: _LayerCall, ranked: list[RankedCandidate]) -> Iterator[RankedCandidate]:
        """Yield the ranked candidates, then those whose recorded torch input differs from the input of the layer.

        The second ones are computed only when the caller asks for them, because a deep model has many.

        Args:
            call: The call of the Keras layer.
            ranked: The ranked candidates; the later ones are added to this list in place.
        """
        yield from ranked
        if ranked[-1].match == InputMatch.SAME:
            others = self.ranking.rank_all(call.keras, call.fingerprint)
            ranked += [entry for entry in others if entry.match != InputMatch.SAME]
            yield from (entry for entry in others if entry.match != InputMatch.SAME)

    def _accept(
        self, call: _LayerCall, candidate: Candidate, measurement: Measurement, equals: Iterable[Candidate]
    ) -> None:
        """Choose a candidate that reproduces its recorded output, and confirm the earlier choices that this proves.

        Args:
            call: The call of the Keras layer.
            candidate: The candidate.
            measurement: The comparison of its recorded output with the output of the Keras layer.
            equals: The candidates with the same input; those with other tensors are recorded as alternatives.
        """
        same_input = match_input(self.run, candidate, call.fingerprint) == InputMatch.SAME
        comparison = replace(measurement.comparison, input_agrees=same_input)
        self.ranking.note_found(candidate)
        self.trail.choose(
            call.path, candidate, comparison, (other for other in equals if uses_other_tensors(other, candidate))
        )
        self.trail.note_agreement(call.path)
        for recorded in self.run.calls_of(candidate.layers[0].path):
            if call.fingerprint and any(entry.agrees(call.fingerprint, CLOSE_LIMIT) for entry in recorded.inputs):
                self.trail.confirm(call.path, recorded.dependencies, self.run)

    def _accept_near(self, call: _LayerCall, near: list[tuple[float, RankedCandidate]]) -> Any:
        """Choose the best ranked candidate among those with about the smallest error, and return its recorded output.

        The Keras layer and this torch layer may have the same weights and differ in a constant, such as an epsilon. But
        a small error proves nothing if wrong random weights give nearly the same error, because the output is mostly
        the input; then the choice is recorded as forced.

        Args:
            call: The call of the Keras layer.
            near: The candidates with a small error, each after its error.
        """
        self._backtrack_unless_input_agrees(call, [entry for _, entry in near])
        smallest = min(error for error, _ in near)
        similar = [entry for error, entry in near if error <= 10 * smallest]  # best rank first
        candidate = similar[0].candidate
        random_output = call.run(other_values(candidate.values(self.run.weights)))
        if smallest > _SIGNIFICANT * measure(self.run, candidate, random_output).comparison.error:
            return self._force(call, similar)
        if len(self.trail.called) - 1 <= self.must_agree:
            raise Abandoned
        output = call.run(candidate.values(self.run.weights))
        measurement = measure(self.run, candidate, output)
        self._accept(call, candidate, measurement, [entry.candidate for entry in similar])
        return measurement.returned(output)

    def _force(self, call: _LayerCall, ranked: list[RankedCandidate]) -> Any:
        """Choose the best candidate although its output differs, or backtrack if an earlier choice may be wrong.

        Args:
            call: The call of the Keras layer.
            ranked: The candidates, the best first; none of them reproduced its recorded output.

        Returns:
            The recorded output of the chosen candidate.
        """
        self._backtrack_unless_input_agrees(call, ranked)
        if len(self.trail.called) - 1 <= self.must_agree:
            raise Abandoned
        candidate = ranked[0].candidate
        output = call.run(candidate.values(self.run.weights))
        measurement = measure(self.run, candidate, output)
        alternatives = [entry.candidate for entry in ranked[1:_MOST_FORCED]]
        hidden_tensors = 0
        for recorded in self.run.calls_of(candidate.layers[0].path):
            hidden_tensors |= recorded.dependencies
        self.ranking.note_found(candidate)
        self.trail.force(call.path, candidate, measurement.comparison, alternatives, hidden_tensors)
        return measurement.returned(output)

    def _backtrack_unless_input_agrees(self, call: _LayerCall, entries: Iterable[RankedCandidate]) -> None:
        """Backtrack, unless the layer's input equals a recorded input, which proves that the earlier choices are right.

        Args:
            call: The call of the Keras layer.
            entries: Candidates, each with how well the layer's input agrees with its recorded input.
        """
        input_agrees = any(entry.match == InputMatch.SAME for entry in entries)
        if (not input_agrees or self.trail.has_rejections(call.path)) and not self.trail.has_given_up(call.path):
            self.trail.backtrack(call.path)

    def _repeat(self, choice: Choice, run: RunLayer, call_index: int) -> Any:
        """Call a layer whose weights were written at an earlier call; return its output.

        If the recorded torch output replaced the output of the earlier call, it also replaces this output.

        Args:
            choice: The choice for the layer.
            run: Calls the layer.
            call_index: The number of the layer's calls before this one.
        """
        output = run({})
        if choice.replaces_output:
            for array, before_activation in output.arrays:
                for recorded in choice.candidate.recorded_outputs(self.run, array.shape, call_index):
                    return output.replace(recorded, before_activation)
        return output.returned

    def _fits_each_variable(self, call: _LayerCall) -> bool:
        """Return whether each variable of a called layer has a candidate: a torch tensor with as many values."""
        tensors = (tensor for tensor in call.keras.tensors if not tensor.is_seed)
        return all(self.ranking.rank_for_variable(call.keras, tensor, call.fingerprint) for tensor in tensors)

    def _fill_each_variable(self, call: _LayerCall) -> Any:
        return call.run(self._values_of_each(call.keras, call.keras.tensors, call.fingerprint)).returned

    def _values_of_each(
        self, keras: LayerView, tensors: Iterable[TensorRef], fingerprint: Fingerprint | None
    ) -> dict[str, Array]:
        """Choose a candidate for each variable of a layer separately, and return the values of the variables by path.

        Later layers prove the choices. The result also has the values of variables that were chosen before, because
        backtracking may have skipped writing them.

        Args:
            keras: The Keras layer.
            tensors: The variables.
            fingerprint: The fingerprint of the layer's first input; None if it has none.
        """
        values: dict[str, Array] = {}
        for tensor in tensors:
            if not tensor.is_seed and not is_constant(tensor) and tensor.path not in self.choices:
                if candidates := self.ranking.rank_for_variable(keras, tensor, fingerprint):
                    self.ranking.note_found(candidates[0])
                    self.trail.choose(tensor.path, candidates[0], None, candidates[1:])
                elif self.trail.has_rejections(tensor.path):
                    self.trail.backtrack(tensor.path)
            if choice := self.choices.get(tensor.path):
                values |= choice.candidate.values(self.run.weights)
        return values
