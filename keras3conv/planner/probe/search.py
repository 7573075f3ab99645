"""Find the torch layer of each Keras layer: run both models under the same random weights and compare the outputs.

PyTorch has run before, and its run was recorded (`TorchRun`). Then Keras runs. At each layer call, the search fills the
Keras layer: it writes the weights of a candidate torch layer into its variables. All layers before it have the right
weights, so its input is right, and its output must equal the recorded output of the corresponding torch layer. Several
candidates may have the same input and shapes (query, key, value). Then the search takes the best by names and call
order, and backtracks to the next one when a later layer receives a wrong input. If no candidate reproduces the recorded
output, the best one is kept, unconfirmed, and the layer returns the recorded output. So the layers after it receive the
right input.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import Fingerprint
from keras3conv.planner.probe.compare import RunLayer
from keras3conv.planner.probe.layer_call import LayerCall, values_of_each
from keras3conv.planner.probe.nearness import find_recorded, output_limit, outputs_are_swapped
from keras3conv.planner.probe.outcome import Choice
from keras3conv.planner.probe.outputs import NOT_COMPARED, ROUNDED_CONSTANTS, OutputComparison, compare_outputs
from keras3conv.planner.probe.ranking import CandidateRanking
from keras3conv.planner.probe.record import TorchRun
from keras3conv.planner.probe.stacks import Stack
from keras3conv.planner.probe.trail import Trail
from keras3conv.transforms import Array

OUTPUTS = "the outputs"
"""The name that replaces the path of a layer when the outputs of the whole models are compared."""


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
        call = LayerCall(self.ranking, keras, inputs[0] if inputs else None, run, self.must_agree)
        return call.fill()

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
        write(values_of_each(self.ranking, keras, tensors, None))

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
