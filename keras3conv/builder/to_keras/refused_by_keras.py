"""Execute the source code of a new Keras model, and name the torch operator if Keras refuses an operation or layer."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras3conv.builder.program.operation import walk
from keras3conv.builder.program.own_rules import layout_hint
from keras3conv.builder.program.program import Program, Step
from keras3conv.builder.program.structure import Structure
from keras3conv.builder.source.keras_source import write
from keras3conv.builder.source.keras_spelling import with_constants
from keras3conv.builder.to_keras.lowered import Lowered
from keras3conv.builder.to_keras.recognising import recognised
from keras3conv.errors import ModelError, Problem
from keras3conv.model.graph import Node
from keras3conv.rules.obstacle import call_problem
from keras3conv.transforms import Array

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.program_graph import Captured

_MARK = "the statement "
"""The start of a comment before each statement, which names the value that the statement computes."""


def model_or_problem(
    source: str, constants: Mapping[str, Array], captured: "Captured", lowered: Lowered
) -> tuple[Any, tuple[Problem, ...]]:
    """Return the model that the generated source code builds; if Keras raises an exception, None and a problem.

    The problem names the torch operator or the module, the line of the user's code, and the message of Keras.

    Args:
        source: The text of `model.py`.
        constants: The large constants, which the text reads from a file, by name.
        captured: The call graph of the torch module.
        lowered: The Keras program from which the text was written.

    Raises:
        ModelError: Keras raises an exception for which no call of the torch module is found, or the axis order of a
            rule of the user may be the cause.
    """
    from keras3conv.frameworks.keras.values import error_message, raised_by_keras

    try:
        return _model_of(source, constants), ()
    except raised_by_keras() as error:
        said = f"{type(error).__name__}: {error_message(error)}"
        if hint := layout_hint(lowered.program):
            raise ModelError(f"{said}\n{hint}") from error
        step = _failing_step(lowered.program, constants)
        node = None if step is None else _origin(step, captured, lowered)
        if step is None or node is None:
            raise ModelError(f"Keras cannot build the model of {captured.graph.name}: {said}") from error
    fact = f"{', '.join(dict.fromkeys(_names(step, lowered.program)))} of Keras does not accept this call: {said}"
    if "None" in said:
        fact += " (None is a size that changes from batch to batch, such as the batch size)"
    line = captured.lines.get(node.outputs[0].name, "")
    return None, (call_problem(captured.graph.view, node, fact + (f"; {line}" if line else "")),)


def _failing_step(program: Program, constants: Mapping[str, Array]) -> Step | None:
    """Return the statement of a program in which Keras raises an exception; None if it raises none.

    The program is written without functions and loops, and with a comment before each statement.
    """
    from keras3conv.frameworks.keras.values import raised_by_keras

    plain, defined = with_constants(program)
    marked = tuple(replace(step, comment=f"{_MARK}{step.outputs[0]}") for step in plain.steps)
    text = write(Structure(program=replace(plain, steps=marked, weights={}), constants=defined))
    try:
        _model_of(text, constants, name=__name__)
    except raised_by_keras() as error:
        place, frames = 0, error.__traceback__
        while frames is not None:
            code = frames.tb_frame.f_code
            is_built = code.co_name == "build_model" and frames.tb_frame.f_globals.get("__name__") == __name__
            place, frames = frames.tb_lineno if is_built else place, frames.tb_next
        marks = [line.strip() for line in text.splitlines()[:place] if line.strip().startswith(f"# {_MARK}")]
        return program.makers[marks[-1].partition(_MARK)[2]] if marks else None
    return None


def _origin(step: Step, captured: "Captured", lowered: Lowered) -> Node | None:
    """Return the call of the torch module that a statement comes from: the first one that needs its result.

    Values are created in the order of these calls, and the last values of a call are its results.
    """
    places = {name: place for place, name in enumerate(lowered.program.values)}
    place = max(places[name] for name in step.outputs)
    for node in recognised(captured.graph).nodes:
        results = [lowered.results[tensor.name].name for tensor in node.outputs if tensor.name in lowered.results]
        if any(places.get(name, -1) >= place for name in results):
            return node
    return None


def _names(step: Step, program: Program) -> Iterator[str]:
    """Yield the names of the Keras functions and layers that a statement calls."""
    for node in walk(step.expression):
        if getattr(node, "kind", "") == "module":
            yield program.modules[node.name].spec.kind
        elif getattr(node, "kind", "") == "function":
            yield node.name


def _model_of(source: str, constants: Mapping[str, Array], name: str = "model") -> Any:
    """Execute generated source code and return the model that it builds.

    Args:
        source: The source code.
        constants: Its large constants, by name.
        name: The name of the Python module in tracebacks.
    """
    from keras3conv.frameworks.torch.generated import module_of

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.py"
        if constants:
            np.savez(path.with_name("constants.npz"), **constants)  # type: ignore[arg-type]
        return module_of(source, name, path).build_model()
