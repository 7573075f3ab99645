"""Convert a torch module: export its graph, write the Keras source code, instantiate the model, copy the weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.alignment.plan import Alignment
from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.own_rules import layout_hint, require_arguments
from keras3conv.builder.program.program import Program
from keras3conv.builder.source.keras_source import write
from keras3conv.builder.source.keras_spelling import is_inline
from keras3conv.builder.to_keras.call import handler_of
from keras3conv.builder.to_keras.functions import with_functions
from keras3conv.builder.to_keras.lowered import Lowered
from keras3conv.builder.to_keras.lowering import lower
from keras3conv.builder.to_keras.operations_loops import with_orders
from keras3conv.builder.to_keras.pairing import alignment_of
from keras3conv.builder.to_keras.recognising import recognised
from keras3conv.builder.to_keras.refused_by_keras import model_or_problem
from keras3conv.errors import AlignmentError, Problem, UnsupportedLayerError
from keras3conv.messages import count, lay_out
from keras3conv.model.graph import Graph
from keras3conv.rules.obstacle import obstacle
from keras3conv.transforms import Array

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.program_graph import Captured

_ROUNDS = 5
"""The number of rounds in which torch operators are decomposed into others, as these may need a decomposition, too."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A Keras model with the weights of a torch module, before the validation.

    Attributes:
        model: The model.
        source: The text of `model.py`.
        constants: The arrays of `constants.npz`, which `model.py` reads, by name.
        alignment: The plan (the pairs of tensors).
        graph: The exported call graph.
        program: The program from which `source` was written.
    """

    model: Any
    source: str
    constants: dict[str, Array]
    alignment: Alignment
    graph: Graph
    program: Program


def build(module: Any, channels: Channels, inputs: Any, dynamic: Mapping[str, Sequence[int]] | None = None) -> Built:
    """Return the Keras model for a live torch module.

    Args:
        module: The module.
        channels: The position of the channel axis of images in the Keras model: "last" or "first".
        inputs: The inputs of the module.
        dynamic: The dynamic axes besides the batch axis, by the name of the input.

    Raises:
        UnsupportedLayerError: Operators of the module have no counterpart in Keras (the message has all of them), or
            Keras does not accept a call.
        InputError: The module cannot be called with the inputs.
    """
    from keras3conv.alignment.staging import stage
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import export

    captured, lowered = _lowered(export.capture(module, inputs, dynamic), channels)
    require_none(captured.graph.name, (*captured.problems, *lowered.problems, *_inner_problems(captured, channels)))
    structure, placements = with_functions(lowered, captured.graph.view)
    require_arguments(lowered.program, "to_keras")
    source, constants = write(structure), _constants(lowered.program)
    model, problems = model_or_problem(source, constants, captured, lowered)
    require_none(captured.graph.name, problems)
    target = keras_side.view(model)
    plan = alignment_of(placements, captured.graph.view, target)
    _require_fitting(plan, lowered.program)
    staged = stage(plan, captured.graph.view, target, cast=False)
    keras_side.write(model, dict(staged.values()))
    return Built(
        model=model,
        source=source,
        constants=constants,
        alignment=plan,
        graph=captured.graph,
        program=lowered.program,
    )


def _lowered(captured: "Captured", channels: Channels) -> tuple["Captured", Lowered]:
    """Return a torch module's call graph, and its Keras program with the problems of calls that cannot be converted.

    Operators without a counterpart in Keras are first replaced by simpler ones, by torch's own decompositions; the
    returned graph has the simpler ones. The problems name the operators that cannot be replaced. If a decomposition
    leads to further operators without a counterpart, the problems name the original operator.

    Args:
        captured: The call graph of the module, as `torch.export` records it.
        channels: The position of the channel axis of images in the Keras model: "last" or "first".
    """
    first = _lowered_once(captured, channels)
    made, lowered = captured, first
    for _ in range(_ROUNDS):
        simpler = made.without(lowered.refused) if lowered.refused else None
        if simpler is None:
            break
        made, lowered = simpler, _lowered_once(simpler, channels)
    return (made, lowered) if lowered.refused <= first.refused else _lowered_in_part(captured, first, channels)


def _lowered_in_part(captured: "Captured", lowered: Lowered, channels: Channels) -> tuple["Captured", Lowered]:
    """Return a call graph without the operators that torch can replace by known ones, so that no problem names these.

    An operator is replaced only if Keras has no counterpart for it at all, and if the other problems stay the same.

    Args:
        captured: The call graph, with other operators, too, that torch replaces by unknown ones.
        lowered: Its Keras program.
        channels: The position of the channel axis of images in the Keras model: "last" or "first".
    """
    for name in sorted(name for name in lowered.refused if handler_of(name) is None):
        simpler = captured.without({name})
        found = None if simpler is None else _lowered_once(simpler, channels)
        if simpler is not None and found is not None and {*found.problems} < {*lowered.problems}:
            captured, lowered = simpler, found
    return captured, lowered


def _lowered_once(captured: "Captured", channels: Channels) -> Lowered:
    """Return the Keras program of a call graph; the first value in a loop gets the axis order of the later ones."""
    graph, shapes, lines = recognised(captured.graph), dict(captured.shapes), dict(captured.lines)
    lowered = lower(graph, shapes, lines, channels)
    started = with_orders(graph, lowered)
    return lowered if started is graph else lower(started, shapes, lines, channels)


def _inner_problems(captured: "Captured", channels: Channels) -> Iterator[Problem]:
    """Yield a problem for each operator without a counterpart in Keras in submodules that are exported alone.

    This is done with the submodules of a module that torch cannot export as a whole.

    Args:
        captured: The result of the export, with these submodules and the arguments of their calls.
        channels: The position of the channel axis of images in the Keras model: "last" or "first".
    """
    from keras3conv.frameworks.torch import export

    for inner in captured.inner:
        own, lowered = _lowered(export.capture_call(inner.module, inner.arguments, {}), channels)
        for problem in (*own.problems, *lowered.problems, *_inner_problems(own, channels)):
            if problem.torch == own.graph.name:
                yield obstacle(captured.graph.view, inner.path, problem.fact)
            else:
                yield replace(problem, torch=f"{inner.path}.{problem.torch}")


def _require_fitting(plan: Alignment, program: Program) -> None:
    """Raise `AlignmentError` if the layers of a new Keras model do not have the shapes that its weights need.

    Args:
        plan: The plan of the conversion. No user made it, so its problems suggest no change of it.
        program: The program of the Keras model.
    """
    problems = [Problem(torch=one.torch, keras=one.keras, fact=one.fact) for one in plan.problems()]
    if problems:
        counted = count(len(problems), "problem")
        headline = f"{counted} in {plan.torch.title}: its weights do not fit the layers that the rules make"
        hint = layout_hint(program)
        raise AlignmentError(lay_out(headline, problems) + (f"\n{hint}" if hint else ""))


def require_none(name: str, problems: tuple[Problem, ...]) -> None:
    """Raise `UnsupportedLayerError` with all problems of a conversion; do nothing if there are none."""
    if problems:
        headline = f"{count(len(problems), 'problem')} in {name} (torch): it cannot be converted to Keras"
        raise UnsupportedLayerError(lay_out(headline, problems, limit=50))


def _constants(program: Program) -> dict[str, Array]:
    """Return the constants of a program, by name, that are too large for source code and so are stored in a file."""
    arrays = {weight.name: weight.array for weight in program.weights.values() if weight.array is not None}
    return {name: array for name, array in arrays.items() if not is_inline(array)}


def proof_inputs(module: Any, program: Program, inputs: Any) -> tuple[Any, ...]:
    """Return the inputs of a torch module as arrays for its Keras model: in the model's order, and in its axis order.

    Args:
        module: The torch module.
        program: The Keras program, which has the axis order of each input.
        inputs: The inputs of the torch module.
    """
    from keras3conv.frameworks.torch.module import call_arguments
    from keras3conv.frameworks.torch.tensors import tensors_in, to_numpy

    args, kwargs = call_arguments(module, inputs)
    arrays = [np.array(to_numpy(tensor)) for tensor in tensors_in((args, kwargs))]
    return tuple(
        np.ascontiguousarray(array.transpose(value.order)) for array, value in zip(arrays, program.inputs, strict=True)
    )
