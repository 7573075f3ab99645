"""Write the statements of a function of a Keras model, some of them in loops."""

import re
from collections.abc import Iterator
from dataclasses import replace

from keras3conv.builder.program.loop import Body, Loop
from keras3conv.builder.program.names import unique
from keras3conv.builder.program.program import Step
from keras3conv.builder.source.formatting import comment_lines, literal, statement
from keras3conv.builder.source.keras_spelling import KerasSpelling, construction
from keras3conv.builder.source.local_names import short_name
from keras3conv.builder.source.rendering import rendered


def statements(body: Body, spelling: KerasSpelling, taken: set[str]) -> Iterator[str]:
    """Yield the source lines of the statements of a function.

    Args:
        body: The statements, some of them in loops.
        spelling: The source code of values, layers and functions.
        taken: The variable names that are in use.
    """
    for one in body:
        if isinstance(one, Step):
            yield from _step(4, one, spelling, taken)
            continue
        for step in one.steps:
            if step.module and step.module not in one.modules:
                yield from _shared_layer(4, step, spelling, taken)
        lists = _lists(one, spelling, taken)
        yield from (f"    {name} = []" for name in lists)
        yield from _head(one, spelling.is_function)
        inner = replace(spelling, loop=_with_variable(one, spelling.is_function))
        for step in one.steps:
            yield from _step(8, step, inner, taken)
        yield from (f"        {name}.append({spelling.value(values[0])})" for name, values in lists.items())
        spelling.lists.update(lists)


def _lists(loop: Loop, spelling: KerasSpelling, taken: set[str]) -> dict[str, tuple[str, ...]]:
    """Return a name for each list to which a loop adds values, and the names of these values in the program.

    Args:
        loop: The loop.
        spelling: The source code of values.
        taken: The variable names that are in use; the names of the lists are added.
    """
    lists = {}
    for values in loop.collected:
        variable = re.sub(r"_\d*$", "", spelling.value(values[0]))
        name = unique(f"all_{variable}" if variable.endswith("s") else f"{variable}s", taken)
        taken.add(name)
        lists[name] = values
    return lists


def _with_variable(loop: Loop, is_function: bool) -> Loop:
    return replace(loop, variable="name") if loop.variable == "part" and not is_function else loop


def _head(loop: Loop, is_function: bool) -> Iterator[str]:
    """Yield the lines of the `for` statement of a loop in the generated code.

    It runs over a range, over the values of one variable, or over the rows of a table for several variables.

    Args:
        loop: The loop.
        is_function: True if the loop is in the function of a block, False if it is in `build_model`.
    """
    columns = {
        _with_variable(loop, is_function).variable if name == loop.variable else name: values
        for name, values in loop.columns.items()
    }
    numbers = columns.get("number") if loop.variable == "number" else None
    if not columns:
        yield from statement(4, f"for _ in range({loop.iterations}):")
        return
    if numbers and len(columns) == 1:
        first, stop = numbers[0], numbers[-1] + 1
        yield f"    for number in range({f'{first}, ' if first else ''}{stop}):"
        return
    variables = ", ".join(columns)
    rows = [*zip(*columns.values(), strict=True)]
    table = literal(tuple(row if len(columns) > 1 else row[0] for row in rows))
    yield from statement(4, f"for {variables} in {table}:")


def _step(indent: int, step: Step, spelling: KerasSpelling, taken: set[str]) -> Iterator[str]:
    yield from comment_lines(indent, step.comment)
    yield from _shared_layer(indent, step, spelling, taken)
    outputs = ", ".join(spelling.value(name) for name in step.outputs)
    yield from statement(indent, f"{outputs} = {rendered(spelling.expression(step.expression), spelling)}")


def _shared_layer(indent: int, step: Step, spelling: KerasSpelling, taken: set[str]) -> Iterator[str]:
    """Yield the lines that create the layer of a statement, if several statements call it and it is not created yet.

    Args:
        indent: The indentation of the statement.
        step: The statement.
        spelling: The source code of values and layers.
        taken: The variable names that are in use; the name of the layer's variable is added.
    """
    program = spelling.program
    is_layer = step.module and not program.modules[step.module].spec.kind.startswith(".")
    if is_layer and program.module_uses[step.module] > 1 and step.module not in spelling.layers:
        variable = unique(f"{short_name(step.module)}_layer", taken)
        made = construction(spelling.module_of(step.module).spec, spelling.name(step.module))
        yield from statement(indent, f"{variable} = {made}")
        taken.add(variable)
        spelling.layers[step.module] = variable
