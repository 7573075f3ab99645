"""Load a Keras file that has an architecture as a live model, so that `align` can run both models."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

from keras3conv.errors import BudgetExceeded, ModelError, message_of
from keras3conv.frameworks.adapter import Adapter, KerasFile
from keras3conv.frameworks.sides import Sides
from keras3conv.model.numbered import names_by_location
from keras3conv.model.views import ModelView
from keras3conv.transforms import Shape


def with_live_keras(sides: Sides) -> Sides:
    """Return the sides with a Keras file loaded as a live model; if that is not possible, with the reason.

    Nothing is loaded if the torch side is a file: a probe (a run of both) needs two live models.
    """
    if not isinstance(sides.keras, KerasFile) or not sides.torch.is_live:
        return sides
    keras, reason = _loaded(sides.keras)
    return replace(sides, keras=keras, not_run=reason)


def _loaded(file: KerasFile) -> tuple[Adapter, str]:
    """Load a Keras file: return the adapter of the live model and "", or the adapter of the file and the reason.

    The file is not loaded if it has no architecture, if Keras cannot load it, or if the model names its tensors in
    another way than the file does. The file may number variables, which the live model names.
    """
    saved = file.view()
    if not any(layer.config for layer in saved.layers):
        return file, "the Keras side is a file of weights, without an architecture"
    if find_spec("keras") is None:
        return file, "the Keras side is a file, and Keras is not installed"
    from keras3conv.frameworks.keras.files import unloadable

    if problem := next(unloadable([(layer.path, layer.kind) for layer in saved.layers], file.source), None):
        return file, f"the Keras side is a file that Keras cannot load: {problem.keras}: {problem.fact}"
    try:
        model = file.loaded()
    except (ModelError, BudgetExceeded) as error:
        headline_and_first_problem = " ".join(" ".join(message_of(error).splitlines()[:2]).split())
        return file, f"the Keras side is a file: {headline_and_first_problem}"
    live = model.view()
    if _tensors(live, names_by_location(live, saved)) != _tensors(saved):
        return file, f"the Keras side is a file: the model that Keras makes of {file.source} has other names"
    return model, ""


def _tensors(view: ModelView, names: Mapping[str, str] | None = None) -> set[tuple[str, str, Shape]]:
    """Return (path of the layer, path of the tensor, shape) for each tensor that is not the state of a generator.

    Args:
        view: The layers and tensors of a model or file (its view).
        names: The paths in the file of variables that the file numbers; by default every tensor keeps its path.
    """
    kept = names or {}
    return {
        (layer.path, kept.get(one.path, one.path), one.shape)
        for layer in view.layers
        for one in layer.tensors
        if not one.is_seed
    }
