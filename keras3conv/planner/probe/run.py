"""Run the probe: call the torch module once, then the Keras model, and find the torch layer of each Keras layer."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from keras3conv.errors import ModelError, first_of
from keras3conv.frameworks.exact_constants import exact_constants
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.frameworks.shared.recording import Recording, traced
from keras3conv.messages import count
from keras3conv.model.views import ModelView
from keras3conv.planner.evidence.keys import (
    keras_layers_alone,
    layers_alone,
    one_sided_cores,
    one_sided_keras_keys,
    one_sided_torch_keys,
)
from keras3conv.planner.evidence.names import Ranks
from keras3conv.planner.evidence.one_sided import bare_normalizations
from keras3conv.planner.evidence.parameters import held_parameters
from keras3conv.planner.evidence.rows import sequence_pairs
from keras3conv.planner.evidence.structure import Unmatched
from keras3conv.planner.probe.containers import containers_like
from keras3conv.planner.probe.layer_finder import LayerFinder
from keras3conv.planner.probe.outcome import Compensated, Forced
from keras3conv.planner.probe.outputs import ROUNDED_CONSTANTS
from keras3conv.planner.probe.pairs import ProbeResult, probed_pairs
from keras3conv.planner.probe.partitions import Partitions
from keras3conv.planner.probe.ranking import CandidateRanking
from keras3conv.planner.probe.record import ROUNDED, TorchRun
from keras3conv.planner.probe.row_orders import RowOrders
from keras3conv.planner.probe.row_trials import Attempt, with_known_orders
from keras3conv.planner.probe.search import Search
from keras3conv.planner.probe.stacks import stacks_of
from keras3conv.planner.probe.tensor_finder import TensorFinder
from keras3conv.planner.probe.weights import constants, own_values, probe_weights
from keras3conv.rules.units import units

_SHOWN = 3


def probe(
    torch: Any, keras: Any, views: tuple[ModelView, ModelView], inputs: Inputs, hinted: dict[str, str]
) -> ProbeResult:
    """Find the pairs of two live models by running both with random weights. Both models are unchanged afterwards.

    One sample proves as much as many, so only the first sample of the inputs is used if the models accept it.

    Args:
        torch: The torch module.
        keras: The Keras model.
        views: The layers of the torch module, and of the Keras model.
        inputs: The inputs of both models.
        hinted: The torch path from the user's hint, by Keras path.

    Raises:
        ModelError: A model raised, or returned NaN; the message names the layer.
    """
    if one_sample := first_samples(inputs, views[1].input_specs):
        try:
            return _probe(torch, keras, views, one_sample, hinted)
        except ModelError:
            pass  # the model may need the full batch, and an error message must describe the inputs as given
    return _probe(torch, keras, views, inputs, hinted)


def _probe(
    torch: Any, keras: Any, views: tuple[ModelView, ModelView], inputs: Inputs, hinted: dict[str, str]
) -> ProbeResult:
    from keras3conv.planner.probe import run_keras, run_torch

    torch_view, keras_view = views
    layers = (*units(torch_view, ties=True), *bare_normalizations(torch_view))
    keras_layers = units(keras_view)
    modules = containers_like(layers, keras_layers)
    paths = {layer.path for layer in (*layers, *modules)}
    weights = probe_weights(layers, constants(layers, keras_layers))
    buffers = [one.path for one in torch_view.tensors() if not one.trainable and one.path not in weights]
    if buffers:
        weights |= exact_constants(torch_view, buffers, keras, inputs.keras)
    run = run_torch.run(torch, torch_view, inputs.torch, weights, lambda path: path in paths)
    kept = own_values(torch_view, weights)
    run = replace(run, weights={**kept, **weights}, kept=frozenset(kept))
    torch_layers = (*units(run.view, ties=True), *bare_normalizations(run.view))
    pairs = sequence_pairs(Unmatched(torch_layers=torch_layers, keras_layers=keras_layers))
    called = {layer.path: layer for layer in torch_layers if run.calls_of(layer.path)}
    alone = layers_alone(torch_layers, keras_layers)
    one_sided_keys = (
        one_sided_torch_keys(torch_layers, scales=True),
        one_sided_keras_keys(keras_layers, scales=True),
    )
    one_sided = frozenset(one_sided_cores(*one_sided_keys))
    held = {one.layer.path: one for one in held_parameters(run.view, keras_view)}
    keras_alone = keras_layers_alone(torch_layers, keras_layers)
    in_sequence = {path for pair in pairs for path in (pair.torch, *pair.keras_layers)}
    partitions = Partitions.of(
        (layer for layer in torch_layers if layer.path in alone - in_sequence),
        (layer for layer in keras_layers if layer.path in keras_alone - in_sequence),
    )
    ranks = Ranks.of(layer.path for layer in torch_layers), Ranks.of(layer.path for layer in keras_layers)

    def attempt(orders: RowOrders, must_agree: int) -> Attempt:
        finder = LayerFinder(torch_layers, run, one_sided, orders)
        tensors = TensorFinder(finder, alone, held, modules, partitions)
        ranking = CandidateRanking(finder, tensors, hinted=hinted, ranks=ranks)
        search = Search(ranking, stacks=stacks_of(pairs, called), must_agree=must_agree)
        return Attempt(search, run_keras.run(keras, keras_layers, inputs.keras, search))

    found = with_known_orders(attempt, run.integers)
    search = found.search
    stacks = {id(stack): stack for stack in search.stacks.values()}.values()
    return ProbeResult(
        torch=run.view,
        keras=traced(keras_view, Recording(calls=tuple(found.calls))),
        pairs=(*(stack.with_evidence() for stack in stacks), *probed_pairs(search)),
        notes=(*_float32_notes(run), *_difference_notes(search), _summary(search, inputs)),
        difference=_output_difference(search, found.tried),
        constants=constants_shown(search),
        unused=unused_tensors(search),
    )


def _summary(search: Search, inputs: Inputs) -> str:
    text = f"probed{inputs.samples}: both models ran in float64 under the same random weights"
    first = _first_difference(search)
    result = search.output_comparison.result
    if result == "equal":
        return f"{text}, and their outputs agree" + (f"; layers differ{first}" if first else "")
    if result == "unknown" and (search.outputs_agree or not first):
        differing = f"; layers differ{first}" if first else ""
        return f"{text}; their outputs have no layout in common, and were not compared{differing}"
    if result == "different" and search.output_comparison.error <= ROUNDED_CONSTANTS:
        error = search.output_comparison.error
        return f"{text}, and their outputs agree to {error:.2g}: one side may store constants as float32"
    return f"{text}; they differ{first}" if first else f"{text}; {_output_difference(search)}"


def _first_difference(search: Search) -> str:
    """Return ", first at PATH" with the first Keras layer whose output differs from torch; empty if none differs."""
    return next((f", first at {choice.path}" for choice in search.choices.values() if choice.replaces_output), "")


def _output_difference(search: Search, tried: str = "") -> str:
    """Return "their outputs differ by 0.1 of the largest value, ..."; empty if the models' outputs are not different.

    Args:
        search: The search, after the run of the Keras model.
        tried: A sentence about the row orders that were tried without success, to be added; may be empty.
    """
    if search.output_comparison.result != "different" or search.output_comparison.error <= ROUNDED_CONSTANTS:
        return ""
    order = "; they hold the same values in another order" if search.outputs_agree else ""
    first = "" if order else _first_difference(search)
    differ = f"their outputs differ by {search.output_comparison.error:.2g} of the largest value{first}{order}"
    return f"{differ}; {tried}" if tried else differ


def _difference_notes(search: Search) -> Iterator[str]:
    """Yield a remark that names the layers with equal weights in both models but slightly different outputs.

    Nothing is yielded if there are no such layers.
    """
    errors = {
        choice.path: choice.outcome.comparison.error
        for choice in search.choices.values()
        if choice.replaces_output and choice.outcome.comparison and not isinstance(choice.outcome, Forced | Compensated)
    }
    if errors:
        shown = first_of([f"{path} by {error:.2g}" for path, error in errors.items()], _SHOWN)
        yield (
            f"{count(len(errors), 'layer')} with the same weights as torch returned different values, by up to 1 % of "
            f"the largest value: {shown}"
        )


def _float32_notes(run: TorchRun) -> Iterator[str]:
    """Yield a remark for each function that torch computed in float32, with the layers and the consequence."""
    by_function: dict[str, list[str]] = {}
    for function, path in run.float32_functions:
        by_function.setdefault(function, []).append(path or "the module itself")
    for function, paths in by_function.items():
        yield (
            f"torch has no float64 kernel for {function} (in {first_of(paths, _SHOWN)}): it ran in float32, "
            f"and values that depend on it are compared up to {ROUNDED:.0e} only"
        )


def constants_shown(search: Search) -> dict[str, str]:
    """Return the torch buffers that Keras needs no variable for, each with the reason; none if the outputs differ.

    The probe did not change the values of these buffers, and the outputs agree. So Keras has the same values as
    constants, or no output of the torch model depends on them.

    Args:
        search: The search, after the run of the Keras model.
    """
    run = search.run
    if search.output_comparison.result != "equal":
        return {}
    buffers = [
        one.path
        for one in run.view.tensors()
        if not one.trainable and (one.path not in run.weights or one.path in run.kept)
    ]
    unused = unused_tensors(search)
    reasons = "the outputs agree, so Keras has it as a constant", "no output of the module depends on it"
    return {path: reasons[path in unused] for path in buffers}


def unused_tensors(search: Search) -> frozenset[str]:
    """Return the torch tensors on which no output of the module depended in the run.

    Args:
        search: The search, after the run of the Keras model.
    """
    return frozenset(path for path in search.run.tensor_bits if not search.run.is_used(path))
