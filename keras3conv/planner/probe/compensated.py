"""Confirm forced choices by the outputs of the whole models, if layers around a Keras layer compensate its difference.

Torch crops the output of a transposed convolution inside the layer, and Keras may do so in the next layer. Then no
torch weights give the Keras layer the recorded output, so the search forced its choice. But the whole models are equal.
"""

from collections.abc import Callable, Iterator, Mapping

from keras3conv.numerics.probe_values import other_values
from keras3conv.planner.probe.nearness import output_limit
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.outcome import Forced
from keras3conv.planner.probe.outputs import compare_outputs
from keras3conv.planner.probe.search import OUTPUTS, Search
from keras3conv.transforms import Array

RunModel = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""A function that writes values into variables of the Keras model, by path, runs the model, and returns its outputs."""


def compare_whole_models(search: Search, run: RunModel) -> None:
    """Run the Keras model with the chosen weights, no output replaced; compare its outputs, and confirm forced choices.

    A forced choice is confirmed if the outputs of the models are equal with its weights, and differ with other weights.
    Then the earlier choices that it hid from the outputs are confirmed as well.

    Args:
        search: The search, after the run in which every choice was made.
        run: Runs the Keras model.
    """
    dependencies = search.compare_outputs(run({}))
    if search.output_comparison.result != "equal":
        return
    forced = [choice for choice in search.choices.values() if isinstance(choice.outcome, Forced)]
    for choice in forced:
        if _decides_outputs(choice.candidate, search, run):
            search.trail.compensate(choice.path)
    for bits in dependencies if forced else ():
        search.trail.confirm(OUTPUTS, bits or 0, search.run)


def _decides_outputs(candidate: Candidate, search: Search, run: RunModel) -> bool:
    """Return whether the outputs of the models differ as soon as a Keras layer gets other weights than the candidate's.

    Args:
        candidate: The torch weights of the Keras layer.
        search: The search, with the recorded torch run.
        run: Runs the Keras model.
    """
    values = candidate.values(search.run.weights)
    for replaced in _replaced_together(candidate, values):
        outputs = run({**values, **other_values(replaced)})
        if compare_outputs(search.run.outputs, outputs, output_limit(search.run)).result != "different":
            run(values)
            return False
    run(values)
    return True


def _replaced_together(candidate: Candidate, values: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """Yield the values of a layer that get other values together: all of them if a rule pairs them, else each alone."""
    if candidate.rule is not None:
        yield values
    else:
        yield from ({path: value} for path, value in values.items())
