"""The probe of two live models: PyTorch runs once, then Keras, and every layer is found, filled and verified."""

from collections.abc import Iterator
from typing import Any

from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.frameworks.shared.recording import Recording, traced
from keras3conv.messages import count
from keras3conv.model.views import ModelView
from keras3conv.planner.evidence.names import Ranks
from keras3conv.planner.evidence.rows import row_pairs
from keras3conv.planner.evidence.structure import Fits
from keras3conv.planner.probe.candidates import Options
from keras3conv.planner.probe.constants import constants
from keras3conv.planner.probe.pairs import Probed, probed_pairs
from keras3conv.planner.probe.record import ROUNDED, TorchRun
from keras3conv.planner.probe.search import Search
from keras3conv.planner.probe.stacks import stacks_of
from keras3conv.planner.probe.weights import probe_weights
from keras3conv.rules.units import units

_SHOWN = 3


def probe(torch: Any, keras: Any, views: tuple[ModelView, ModelView], given: Inputs, hinted: dict[str, str]) -> Probed:
    """Finds the pairs of two live models by running both under random weights. Both are as before afterwards.

    One sample tells as much as many: where there are more, the first is taken.

    Args:
        torch: The torch module.
        keras: The Keras model.
        views: Their names and shapes.
        given: What they are called with.
        hinted: The torch paths that the user gave for Keras paths.

    Raises:
        ModelError: A model raised, or returned NaN; the message names the layer.
    """
    if few := first_samples(given, views[1].input_specs):
        try:
            return _probe(torch, keras, views, few, hinted)
        except ModelError:
            pass  # a model may ask for just as many as there are, and what is wrong is to be said of all of them
    return _probe(torch, keras, views, given, hinted)


def _probe(torch: Any, keras: Any, views: tuple[ModelView, ModelView], given: Inputs, hinted: dict[str, str]) -> Probed:
    from keras3conv.planner.probe import run_keras as keras_probe
    from keras3conv.planner.probe import run_torch as torch_probe

    torch_view, keras_view = views
    layers = units(torch_view, ties=True)
    paths = {layer.path for layer in layers}
    weights = probe_weights(layers, constants(layers, units(keras_view)))
    run = torch_probe.run(torch, torch_view, given.torch, weights, lambda path: path in paths)
    torch_units, keras_units = units(run.view, ties=True), units(keras_view)
    rows = row_pairs(Fits(torch_layers=torch_units, keras_layers=keras_units))
    stacks = stacks_of(rows, {layer.path: layer for layer in torch_units if run.of(layer.path)})
    ranks = Ranks.of(layer.path for layer in torch_units), Ranks.of(layer.path for layer in keras_units)
    search = Search(Options(torch_units, run), hinted=hinted, stacks=stacks, ranks=ranks)
    calls = keras_probe.run(keras, keras_units, given.keras, search)
    judged = [stack.judged() for stack in {id(stack): stack for stack in stacks.values()}.values()]
    return Probed(
        torch=run.view,
        keras=traced(keras_view, Recording(calls=tuple(calls))),
        pairs=(*judged, *probed_pairs(search)),
        notes=(*_narrowed(run), *_differing(search), _note(search, given)),
    )


def _note(search: Search, given: Inputs) -> str:
    said = f"probed{given.samples}: both models ran in float64 under the same random weights"
    first = next((f", first at {choice.path}" for choice in search.choices.values() if choice.forced), "")
    if search.ended:
        return f"{said}, and their outputs agree" + (f"; layers differ{first}" if first else "")
    return f"{said}; they differ{first}"


def _differing(search: Search) -> Iterator[str]:
    """The layers that have the same weights, and do not compute the same."""
    found = [choice for choice in search.choices.values() if choice.forced and not choice.doubtful]
    if found:
        shown = ", ".join(f"{choice.path} by {choice.error or 0:.2g}" for choice in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield (
            f"{count(len(found), 'layer')} with the weights of torch's computed something else, by up to 1 % of the "
            f"largest value: {shown}{more}"
        )


def _narrowed(run: TorchRun) -> Iterator[str]:
    """What torch has in float32 only, by function and layer, and what follows of it."""
    by_function: dict[str, list[str]] = {}
    for function, path in run.narrowed:
        by_function.setdefault(function, []).append(path or "the module itself")
    for function, paths in by_function.items():
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        yield (
            f"torch has no float64 kernel for {function} (in {', '.join(paths[:_SHOWN])}{more}): it ran in float32, "
            f"and what depends on it is compared up to {ROUNDED:.0e} only"
        )
