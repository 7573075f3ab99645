"""How two sides become a plan: probed where both can be run; where not, the plan says why."""

from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError, ModelError
from keras3conv.frameworks.shared.inputs import Inputs, refuse_unprovable
from keras3conv.frameworks.sides import side_and_form
from keras3conv.model.views import ModelView
from keras3conv.planner.evidence.hints import Hints
from keras3conv.planner.plan import hinted_paths
from keras3conv.planner.plan import plan as make_plan
from keras3conv.workflows.sides import Model, Views, both_given, can_run, traced_views


def planned(
    torch: Model,
    keras: Model,
    views: Views,
    inputs: Any,
    keras_inputs: Any,
    *,
    hints: Hints = None,
    probe: bool | None = None,
    notes: tuple[str, ...] = (),
) -> Alignment:
    """The plan for two sides that were viewed already; see `api.align`.

    Raises:
        ModelError: A model cannot be run with the inputs that were given. With inputs that were made up here the plan
            is made without a run, and says so.
    """
    reason = _no_probe(torch, keras, views[1], inputs)
    if probe and reason:
        raise InputError(f"align(..., probe=True): {reason}")
    given = both_given(*views, inputs, keras_inputs) if can_run(torch, keras, views[1], inputs) else None
    if probe is False or reason or given is None:
        return _without_probe(torch, keras, views, given, hints, reason or "probe=False", notes)
    refuse_unprovable(given)
    from keras3conv.planner.probe import run as probing

    try:
        found = probing.probe(torch, keras, views, given, hinted_paths(*views, hints))
    except ModelError as error:
        if probe or inputs is not None:
            raise
        return _without_probe(torch, keras, views, given, hints, f"with {given.note}, {_in_one_line(error)}", notes)
    return make_plan(found.torch, found.keras, hints, probed=found, notes=(given.note, *notes))


def _without_probe(
    torch: Model, keras: Model, views: Views, given: Inputs | None, hints: Hints, reason: str, origin: tuple[str, ...]
) -> Alignment:
    """The plan by names, shapes and the order of the calls, as far as a run or a graph tells it."""
    notes = [f"not probed: {reason}", *origin]
    if given is not None:
        views, unknown = _traced_where_possible(torch, keras, views, given)
        notes += [note for note in unknown if note not in notes[0]]
    return make_plan(*views, hints, notes=tuple(notes))


def _traced_where_possible(torch: Model, keras: Model, views: Views, given: Inputs) -> tuple[Views, list[str]]:
    """The views with what a run tells of each side, and why a side could not be run."""
    made, notes = list(views), []
    for place in (0, 1):
        try:
            made[place] = traced_views(torch, keras, views, given, only=place)[place]
        except ModelError as error:
            notes.append(_in_one_line(error))
    return (made[0], made[1]), notes


def _in_one_line(error: ModelError) -> str:
    return " ".join(str(error).split())


def _no_probe(torch: Model, keras: Model, keras_view: ModelView, inputs: Any) -> str:
    """Why the models cannot be run to decide; empty if they can."""
    files = [name for name, model in (("torch", torch), ("Keras", keras)) if side_and_form(model)[1] == "file"]
    if files:
        return "both sides are files" if len(files) > 1 else f"the {files[0]} side is a file"
    if not can_run(torch, keras, keras_view, inputs):
        return "there are no inputs, and the Keras side does not tell what they are: give inputs=..."
    return ""


__all__ = ["planned"]
