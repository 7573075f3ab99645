"""Resolve the two sides of a workflow, and derive their views and inputs."""

from dataclasses import dataclass
from typing import Any

from keras3conv.errors import InputError
from keras3conv.frameworks.adapter import Adapter, ModelFile, resolve
from keras3conv.frameworks.shared.inputs import Inputs, input_arrays
from keras3conv.frameworks.shared.recording import traced
from keras3conv.model.views import ModelView

Model = Any
"""A torch module, a Keras model, or the path of a file."""


Views = tuple[ModelView, ModelView]
"""The views of the torch side and the Keras side."""


def view(model: Model) -> ModelView:
    """Views a live model or a file as named tensors.

    Args:
        model: A torch module, a Keras model, or the path of a file.

    Raises:
        InputError: It is neither.
        FileError: The file cannot be read.
    """
    return resolve(model).view()


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a workflow."""

    torch: Adapter
    keras: Adapter

    @classmethod
    def of(cls, torch: Model, keras: Model) -> "Sides":
        """Return the sides of two arguments.

        Raises:
            InputError: They are not a torch side and a Keras side, in this order.
        """
        first, second = resolve(torch, "torch"), resolve(keras, "keras")
        if (first.side, second.side) == ("keras", "torch"):
            raise InputError("the arguments are the wrong way round: the torch side comes first, then the Keras side")
        if first.side == second.side:
            raise InputError(f"both arguments are {first.side} models: one of each framework is needed")
        return cls(torch=first, keras=second)

    def build(self, inputs: Any, keras_inputs: Any) -> None:
        """Call a live Keras model that was never called, so that it has variables; do nothing without inputs."""
        if isinstance(self.keras, ModelFile) or (inputs is None and keras_inputs is None):
            return
        self.keras.build({} if inputs is None else input_arrays(inputs), keras_inputs)

    def views(self, *, described: bool = True) -> Views:
        """Return the views of both sides."""
        return self.torch.view(described=described), self.keras.view(described=described)

    def files(self) -> list[Adapter]:
        """Return the sides that are files."""
        return [side for side in (self.torch, self.keras) if not side.is_live]

    def can_run(self, keras_view: ModelView, inputs: Any) -> bool:
        """Return whether a side is live, and inputs are given or can be made from the Keras side's specification."""
        specs = keras_view.input_specs
        can_make = bool(specs) and all(None not in spec.shape[1:] for spec in specs)
        return len(self.files()) < 2 and (inputs is not None or can_make)

    def traced_torch(self, view: ModelView, given: Inputs) -> ModelView:
        """Return the view of the torch side with the call order of a run, if the side is live."""
        return view if isinstance(self.torch, ModelFile) else traced(view, self.torch.run(given.torch))

    def traced_keras(self, view: ModelView, given: Inputs) -> ModelView:
        """Return the view of the Keras side with the call order of a run, if the side is live."""
        return view if isinstance(self.keras, ModelFile) else traced(view, self.keras.run(given.keras))

    def traced(self, views: Views, given: Inputs) -> Views:
        """Return the views with the call order of a run of each live side."""
        return self.traced_torch(views[0], given), self.traced_keras(views[1], given)
