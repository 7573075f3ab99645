"""Resolve the models that the user gave, and hold the two of a workflow: their views, their inputs, and their runs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, InputError, ModelError, message_of
from keras3conv.frameworks.adapter import Adapter, KerasFile, Model, ModelFile, TorchFile
from keras3conv.frameworks.shared.inputs import Accepts, Inputs, random_inputs
from keras3conv.frameworks.shared.inputs_given import given_inputs, input_arrays
from keras3conv.frameworks.shared.recording import traced
from keras3conv.messages import with_article
from keras3conv.model.numbered import names_by_location
from keras3conv.model.views import ModelView
from keras3conv.transforms import Shape

Views = tuple[ModelView, ModelView]
"""The views (layers and named tensors) of the torch side and the Keras side, as a pair."""


def resolve(
    model: Any, argument: str = "model", *, entry: str = "", keras_weights: str | Path | None = None
) -> Adapter:
    """Return the adapter of a model, through which workflows use it: of a torch module, a Keras model, or a file.

    No framework is imported: an object can be a model of a framework only if that framework is imported already. The
    exception is a Keras architecture without weights (.json), which becomes a live model.

    Args:
        model: The model or the path.
        argument: The name of the argument, for the message of an error.
        entry: The name of a state dict, if the model is a torch checkpoint that holds several.
        keras_weights: The weights of a Keras architecture without weights (.json); None for initial weights.

    Raises:
        InputError: `model` is neither a module, nor a Keras model, nor a path.
        FileError: The path has an unknown suffix, or the file has other content than its suffix says.
        ModelError: Keras cannot make a model of an architecture, or the weights are of another model.
    """
    if formats.is_architecture(model):
        from keras3conv.frameworks.keras import architecture
        from keras3conv.frameworks.keras.adapter import KerasModel

        return KerasModel(architecture.load(Path(model), None if keras_weights is None else Path(keras_weights)))
    if isinstance(model, str | Path):
        path = formats.file_of(model)
        formats.check_content(path)
        return KerasFile(path) if formats.side_of(path) == "keras" else TorchFile(path, entry)
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    # On the torch backend a Keras layer is also a torch module, so Keras is tested first.
    if keras is not None and isinstance(model, keras.layers.Layer):
        from keras3conv.frameworks.keras.adapter import KerasModel

        return KerasModel(model)
    if torch is not None and isinstance(model, torch.nn.Module):
        from keras3conv.frameworks.torch.adapter import TorchModule

        return TorchModule(model)
    raise InputError(
        f"{argument} must be a torch module, a Keras model, or the path of a file, but is "
        f"{with_article(type(model).__name__)}"
    )


def require_architecture(keras: Model, weights: str | PathLike[str] | None) -> None:
    """Raise `InputError` if weights are given for a Keras side that is no architecture without weights (.json)."""
    if weights is not None and not formats.is_architecture(keras):
        raise InputError(
            "keras_weights is the file of weights of an architecture (.json), but the Keras side is no such file; "
            "load the weights into the model first\nFix:  keras_weights=None"
        )


def view(model: Model) -> ModelView:
    """Return the view of a live model or of a file: its layers and named tensors.

    Args:
        model: A torch module, a Keras model, or the path of a file.

    Raises:
        InputError: `model` is neither a model nor a path.
        FileError: The file cannot be read.
    """
    return resolve(model).view()


def both_inputs(
    torch: ModelView, keras: ModelView, inputs: Any, keras_inputs: Any, accepts: Accepts | None = None
) -> Inputs:
    """Return the inputs of both sides, given by the user or random; see `given_inputs` for the arguments."""
    if inputs is None and keras_inputs is None:
        return random_inputs(torch, keras, accepts)
    return given_inputs(torch, keras, inputs, keras_inputs, accepts)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The torch model and the Keras model of a workflow; `not_run` is the reason why a Keras file was not loaded."""

    torch: Adapter
    keras: Adapter
    not_run: str = ""

    @classmethod
    def of(cls, torch: Model, keras: Model, *, entry: str = "", keras_weights: str | Path | None = None) -> "Sides":
        """Return the two sides of a workflow for the user's arguments.

        Args:
            torch: The torch module, or a file of torch weights.
            keras: The Keras model, or a Keras file.
            entry: The name of the state dict in a torch checkpoint that holds several.
            keras_weights: The weights of a Keras architecture without weights (.json); None for initial weights.

        Raises:
            InputError: The arguments are not a torch side and a Keras side, in this order, or weights are given for a
                Keras side that is no architecture.
        """
        require_architecture(keras, keras_weights)
        first = resolve(torch, "torch", entry=entry)
        second = resolve(keras, "keras", keras_weights=keras_weights)
        if (first.side, second.side) == ("keras", "torch"):
            raise InputError(
                "the arguments are in the wrong order: the torch side is first, the Keras side second; exchange them"
            )
        if first.side == second.side:
            raise InputError(f"both arguments are {first.side} models: give one torch model and one Keras model")
        return cls(torch=first, keras=second)

    def opened(self) -> tuple["Sides", tuple[str, ...]]:
        """Return the two sides and notes for a report; a file that Keras 2 saved is loaded as a live model."""
        if isinstance(self.keras, KerasFile):
            keras, notes = self.keras.opened()
            return replace(self, keras=keras), notes
        return self, () if isinstance(self.keras, TorchFile) else self.keras.notes()

    def build(self, inputs: Any, keras_inputs: Any) -> None:
        """Call a live Keras model that was never called, so that it has variables; do nothing without inputs.

        Args:
            inputs: The inputs of the torch side, or None.
            keras_inputs: The inputs of the Keras model; None to derive them from `inputs`.
        """
        if isinstance(self.keras, ModelFile) or (inputs is None and keras_inputs is None):
            return
        self.keras.build({} if inputs is None else input_arrays(inputs), keras_inputs)

    def views(self, *, described: bool = True, planned: ModelView | None = None) -> Views:
        """Return the views (layers and tensors by name) of both sides; the arguments are those of `LiveModel.view`."""
        return self.torch.view(described=described, planned=planned), self.keras.view(described=described)

    def files(self) -> list[Adapter]:
        """Return the sides that are files, not live models, as adapters (the interface to a model)."""
        return [side for side in (self.torch, self.keras) if not side.is_live]

    def can_run(self, keras_view: ModelView, *inputs: Any) -> bool:
        """Return whether at least one side is live, and inputs are given or can be generated.

        Args:
            keras_view: The Keras side, which has the input specification.
            *inputs: The user's inputs for the torch side and for the Keras side; None for those that were not given.
        """
        are_given = any(one is not None for one in inputs)
        return len(self.files()) < 2 and (are_given or bool(keras_view.input_specs))

    def inputs(self, views: Views, inputs: Any, keras_inputs: Any) -> Inputs:
        """Return the inputs of both sides, given by the user or generated.

        To choose the dynamic sizes of generated inputs, the live sides are run.

        Args:
            views: The views of both sides.
            inputs: The user's inputs for the torch side, or None.
            keras_inputs: The user's inputs for the Keras side, or None.

        Raises:
            InputError: No inputs are given and none can be made, or the Keras inputs cannot be derived from the torch
                inputs.
        """
        return both_inputs(*views, inputs, keras_inputs, self.accept)

    def possible_inputs(
        self, views: Views, inputs: Any, keras_inputs: Any, accepts: Accepts | None = None
    ) -> tuple[Inputs | None, str]:
        """Return the inputs of both sides and an empty text; or None and the reason why there are no inputs.

        Args:
            views: The views of both sides.
            inputs: The user's inputs for the torch side, or None.
            keras_inputs: The user's inputs for the Keras side, or None.
            accepts: Returns whether both models accept inputs; by default, the live sides are run.

        Raises:
            InputError: The inputs that the user gave are wrong.
        """
        if not self.can_run(views[1], inputs, keras_inputs):
            return None, ""
        try:
            return both_inputs(*views, inputs, keras_inputs, accepts or self.accept), ""
        except InputError as error:
            if inputs is not None or keras_inputs is not None:
                raise
            return None, message_of(error)

    def accept(self, inputs: Inputs) -> bool:
        """Return whether the live models run on these inputs without raising."""
        try:
            for side, arguments in ((self.torch, inputs.torch), (self.keras, inputs.keras)):
                if not isinstance(side, ModelFile):
                    side.run(arguments, watch=False)
        except ModelError:
            return False
        return True

    def traced_torch(self, view: ModelView, inputs: Inputs) -> ModelView:
        """Run the torch module and return its view with the order of the layer calls; a file's view is unchanged."""
        return view if isinstance(self.torch, ModelFile) else traced(view, self.torch.run(inputs.torch))

    def traced_keras(self, view: ModelView, inputs: Inputs) -> ModelView:
        """Run the Keras model and return its view with the order of the layer calls; a file's view is unchanged."""
        return view if isinstance(self.keras, ModelFile) else traced(view, self.keras.run(inputs.keras))

    def traced(self, views: Views, inputs: Inputs) -> Views:
        """Run both models and return their views with the order of the layer calls; a file's view is unchanged."""
        return self.traced_torch(views[0], inputs), self.traced_keras(views[1], inputs)


def with_live_keras(sides: Sides) -> Sides:
    """Return the sides with a Keras file loaded as a live model; if that is not possible, with the reason.

    Nothing is loaded if the torch side is a file: a probe (a run of both) needs two live models.
    """
    if not isinstance(sides.keras, KerasFile) or not sides.torch.is_live:
        return sides
    keras, reason = _loaded(sides.keras)
    return replace(sides, keras=keras, not_run=reason)


def _loaded(file: KerasFile) -> tuple[Adapter, str]:
    """Load a Keras file: return the adapter of the live model and "", or that of the file and why it was not loaded.

    The file is not loaded if it has no architecture, if Keras cannot load it, or if the model has other names for its
    tensors than the file. Numbers in the file in place of the model's names are no other names.
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
        names: For a file that numbers its variables, the path in the file for each path in the model. A path that is
            not a key stays as it is.
    """
    kept = names or {}
    return {
        (layer.path, kept.get(one.path, one.path), one.shape)
        for layer in view.layers
        for one in layer.tensors
        if not one.is_seed
    }
