"""Open the two sides of a workflow: live models or files become views, traces and inputs."""

from pathlib import Path
from typing import Any

from keras3conv.errors import InputError, ModelError, Problem
from keras3conv.frameworks.shared.inputs import Inputs, both_inputs, derive
from keras3conv.frameworks.sides import side_and_form
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView

Model = Any
"""A torch module, a Keras model, or the path of a file."""


Views = tuple[ModelView, ModelView]
"""The torch side and the Keras side."""


def view(model: Model) -> ModelView:
    """Views a live model or a file as named tensors.

    Args:
        model: A torch module, a Keras model, or the path of a file.

    Raises:
        InputError: It is neither.
        FileError: The file cannot be read.
    """
    side, form = side_and_form(model)
    if form == "file":
        from keras3conv import formats

        return formats.read(Path(model))
    if side == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        return torch_side.view(model)
    from keras3conv.frameworks.keras import model as keras_side

    return keras_side.view(model)


def opened(keras: Model) -> Model:
    """Return the live model of a file that Keras 2 saved; any other model or file as it is.

    Keras 3 gives some settings in such a file another meaning, so the file is never left to it: every workflow that
    takes a Keras file opens it here first.

    Raises:
        ModelError: Keras 3 cannot compute what is in the file; all of it is named at once.
        FileError: The file cannot be read.
    """
    model, problems = _opened(keras)
    if problems:
        raise ModelError(lay_out(f"{keras} cannot be read as a model of Keras 3", list(problems)))
    return model


def opened_or_file(keras: Model) -> tuple[Model, tuple[str, ...]]:
    """Return the same, and what a plan notes of it; a file whose model Keras 3 cannot compute stays a file.

    Its names and shapes are enough for a plan.
    """
    model, problems = _opened(keras)
    if problems:
        named = ", ".join(problem.keras for problem in problems)
        return keras, (f"only the names and shapes in {keras} count: Keras 3 cannot compute {named}",)
    return model, origin_notes(model)


def origin_notes(keras: Model) -> tuple[str, ...]:
    """Return what a plan or a report says of the file that a live Keras model was read from."""
    if side_and_form(keras)[1] == "file":
        return ()
    from keras3conv.frameworks.keras.origin import notes_of

    return notes_of(keras)


def _opened(keras: Model) -> tuple[Model, tuple[Problem, ...]]:
    if side_and_form(keras)[1] == "live" or not Path(keras).exists():
        return keras, ()
    from keras3conv.formats.keras2.file import saved_model

    saved = saved_model(Path(keras))
    if saved is None:
        return keras, ()
    from keras3conv.frameworks.keras.keras2.reading import problems_of, read_model

    problems = problems_of(saved)
    return (keras, problems) if problems else (read_model(saved), ())


def outline(model: Model) -> ModelView:
    """A live model or a file as its tensors: their names, shapes and dtypes, without what takes long to ask for."""
    side, form = side_and_form(model)
    if form == "file":
        return view(model)
    if side == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        return torch_side.view(model, described=False)
    from keras3conv.frameworks.keras import model as keras_side

    return keras_side.view(model, described=False)


def check_sides(torch: Model, keras: Model) -> None:
    """Raises `InputError` unless the arguments are a torch side and a Keras side, in this order."""
    sides = side_and_form(torch, "torch")[0], side_and_form(keras, "keras")[0]
    if sides == ("keras", "torch"):
        raise InputError("the arguments are the wrong way round: the torch side comes first, then the Keras side")
    if sides != ("torch", "keras"):
        raise InputError(f"both arguments are {sides[0]} models: one of each framework is needed")


def build(keras: Model, inputs: Any, keras_inputs: Any) -> None:
    """Calls a live Keras model that was never called, so that it has variables; nothing without inputs."""
    if side_and_form(keras)[1] == "file" or (inputs is None and keras_inputs is None):
        return
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import module as torch_side

    if not keras_side.is_built(keras):
        arrays = {} if inputs is None else torch_side.input_arrays(inputs)
        derived = derive(arrays, (), keras_side.arguments(keras)) if keras_inputs is None else keras_inputs
        keras_side.run(keras, derived)


def both_given(torch: ModelView, keras: ModelView, inputs: Any, keras_inputs: Any) -> Inputs:
    """The inputs of both sides; raises `InputError` where they are neither given nor can be made."""
    arrays = None
    if inputs is not None:
        from keras3conv.frameworks.torch import module as torch_side

        arrays = torch_side.input_arrays(inputs)
    return both_inputs(torch, keras, inputs, keras_inputs, arrays)


def traced_views(torch: Model, keras: Model, views: Views, given: Inputs, only: int | None = None) -> Views:
    """The views, with what a run of the live sides, or of the one at a place, tells: which layer runs when."""
    from keras3conv.frameworks.shared.recording import traced

    torch_view, keras_view = views
    if side_and_form(torch)[1] == "live" and only in (None, 0):
        from keras3conv.frameworks.torch import module as torch_side

        torch_view = traced(torch_view, torch_side.run(torch, given.torch))
    if side_and_form(keras)[1] == "live" and only in (None, 1):
        from keras3conv.frameworks.keras import model as keras_side

        keras_view = traced(keras_view, keras_side.run(keras, given.keras))
    return torch_view, keras_view


def views_for_plan(torch: Model, keras: Model, inputs: Any, keras_inputs: Any) -> Views:
    """Both sides, run once where that can be done."""
    check_sides(torch, keras)
    build(keras, inputs, keras_inputs)
    views = view(torch), view(keras)
    if can_run(torch, keras, views[1], inputs):
        views = traced_views(torch, keras, views, both_given(*views, inputs, keras_inputs))
    return views


def can_run(torch: Model, keras: Model, keras_view: ModelView, inputs: Any) -> bool:
    """Whether a side is live, and there are inputs or they can be made up from the Keras side's specification."""
    specs = keras_view.input_specs
    can_make = bool(specs) and all(None not in spec.shape[1:] for spec in specs)
    return "live" in (side_and_form(torch)[1], side_and_form(keras)[1]) and (inputs is not None or can_make)
