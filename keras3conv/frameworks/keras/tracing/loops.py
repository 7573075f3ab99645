"""Trace layers and functions that repeat a call: time steps, custom recurrent cells, `fori_loop`, `scan`."""

from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import LAYER_MODULES
from keras3conv.frameworks.keras.operations import arguments_of, kind_of_operation
from keras3conv.frameworks.keras.tracing.unsupported import UnsupportedCall

MOST_STEPS = 1000
"""The number of turns after which a `while_loop` is not followed any more."""


def distributed(layer: keras.layers.TimeDistributed, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """Compute a `TimeDistributed` by one call of its inner layer, with the time steps as rows of the batch.

    Keras itself loops over the time steps. A batch normalization, and a model, is called for each step here too: in
    training a batch normalization computes the statistics of each step.

    Args:
        layer: The `TimeDistributed`.
        inputs: Its input, of shape (batch, steps, ...).
        training: Whether the inner layer runs in training mode; None for the default.
        mask: The mask of the input, of shape (batch, steps, ...); None if it has none.
    """
    if isinstance(layer.layer, keras.layers.BatchNormalization):
        if inputs.shape[1] is None:
            raise UnsupportedCall(
                "TimeDistributed",
                "a batch normalization for a dynamic number of steps",
                "its statistics differ from step to step in training: fix the number of steps in the input "
                "specification",
            )
        masks = [{} if mask is None else {"mask": mask[:, step]} for step in range(inputs.shape[1])]
        return keras.ops.stack([layer.layer(inputs[:, step], **given) for step, given in enumerate(masks)], axis=1)
    if isinstance(layer.layer, keras.Model):
        return layer.call(inputs, mask=mask)
    rows = keras.ops.reshape(inputs, (-1, *inputs.shape[2:]))
    given = {}
    if mask is not None and layer.layer._call_has_mask_arg:
        given["mask"] = keras.ops.reshape(mask, (-1, *mask.shape[2:]))
    output = layer.layer(rows, **given)
    return keras.ops.reshape(output, (-1, inputs.shape[1], *output.shape[1:]))


def has_own_cell(layer: keras.layers.Layer) -> bool:
    """Return True for a `keras.layers.RNN` whose cell, or one of whose stacked cells, is not a class of Keras."""
    if type(layer) is not keras.layers.RNN:
        return False
    cells = getattr(layer.cell, "cells", [layer.cell])
    return any(not type(cell).__module__.startswith(LAYER_MODULES) for cell in cells)


def step_by_step(layer: keras.layers.RNN, sequences: Any, initial_state: Any = None, mask: Any = None, **_: Any) -> Any:
    """Compute an RNN by one call of its cell for each step, in inference mode.

    In a masked step the state is that of the step before, and so is the output, unless the layer returns zeros there.

    Args:
        layer: The RNN.
        sequences: Its input, of shape (batch, steps, ...).
        initial_state: The state before the first step; None for the cell's own.
        mask: The mask of the steps, of shape (batch, steps); None if there is none.

    Raises:
        UnsupportedCall: The layer keeps its state between calls.
    """
    if layer.stateful:
        raise UnsupportedCall(
            "an RNN with a custom cell",
            "stateful=True",
            "use return_state=True, and give these states to the next call as initial_state",
        )
    if initial_state is None:
        initial_state = layer.get_initial_state(keras.ops.shape(sequences)[0])
    states = list(initial_state) if keras.tree.is_nested(initial_state) else [initial_state]
    steps = keras.ops.unstack(sequences, axis=1)  # in torch, a sequence of another length raises
    masks = [None] * len(steps) if mask is None else keras.ops.unstack(mask, axis=1)
    pairs = list(zip(steps, masks, strict=True))
    outputs: list[Any] = []
    for step, seen in reversed(pairs) if layer.go_backwards else pairs:
        output, new = layer.cell(step, states)
        new = list(new) if keras.tree.is_nested(new) else [new]
        zeros = keras.tree.map_structure(keras.ops.zeros_like, output) if seen is not None else None
        before = outputs[-1] if outputs and not layer.zero_output_for_mask else zeros
        states = _unless_masked(seen, new, states)
        outputs.append(_unless_masked(seen, output, before))
    result = outputs[-1]
    if layer.return_sequences:
        result = keras.tree.map_structure(lambda *parts: keras.ops.stack(parts, axis=1), *outputs)
    return (result, *states) if layer.return_state else result


def _unless_masked(mask: Any, new: Any, old: Any) -> Any:
    """Return the new values of the samples whose step is not masked, and the old values of the others.

    Args:
        mask: The mask of one step, of shape (batch,); None if no sample is masked.
        new: Nested tensors of shape (batch, ...).
        old: Nested tensors of the same structure; not used without a mask.
    """
    if mask is None:
        return new

    def chosen(one: Any, other: Any) -> Any:
        expanded = keras.ops.reshape(mask, (-1, *(1,) * (len(one.shape) - 1)))
        return keras.ops.where(expanded, one, other)

    return keras.tree.map_structure(chosen, new, old)


def unrolled(operation: keras.Operation, args: Any, kwargs: Any) -> Callable[[], Any] | None:
    """Return a function that makes all turns of a loop function in Python, if their number is known in a trace.

    None is returned for other operations, and for loops whose number of turns depends on values.

    Args:
        operation: The operation, such as the object of `keras.ops.fori_loop`.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
    """
    kind = kind_of_operation(operation)
    if kind not in ("keras.ops.fori_loop", "keras.ops.scan", "keras.ops.while_loop"):
        return None
    made: Any = operation
    given = arguments_of(operation, args, kwargs)
    if kind == "keras.ops.scan":
        return lambda: _scanned(given, made.length, reverse=made.reverse)
    if kind == "keras.ops.fori_loop":
        if not isinstance(made.lower, int) or not isinstance(made.upper, int):
            return None
        return lambda: _repeated(range(made.lower, made.upper), made.body_fun, given["init_val"])
    return lambda: _while(made.cond, made.body, given["loop_vars"], made.maximum_iterations)


def _repeated(turns: Iterable[int], body: Callable[[int, Any], Any], value: Any) -> Any:
    for turn in turns:
        value = body(turn, value)
    return value


def _while(condition: Callable[..., Any], body: Callable[..., Any], values: Any, most: int | None) -> Any:
    is_sequence = isinstance(values, tuple | list)
    turns = 0
    while (most is None or turns < most) and condition(*(values if is_sequence else (values,))):
        turns += 1
        if turns > MOST_STEPS:
            found = f"a loop of more than {MOST_STEPS} turns"
            raise UnsupportedCall("keras.ops.while_loop", found, "use fewer turns, which are written out one by one")
        values = body(*(values if is_sequence else (values,)))
        if is_sequence and not isinstance(values, tuple | list):
            values = (values,)
    return type(values)(values) if is_sequence else values


def _scanned(given: Any, length: int | None, *, reverse: bool) -> Any:
    """Compute `keras.ops.scan` for arguments of fixed length."""
    function, carry, rows = given["f"], given["init"], given["xs"]
    unstacked = [keras.ops.unstack(one, axis=0) for one in keras.tree.flatten(rows)] if rows is not None else []
    steps = range(int(length if length is not None else len(unstacked[0])))
    outputs = []
    for step in reversed(steps) if reverse else steps:
        row = None if rows is None else keras.tree.pack_sequence_as(rows, [parts[step] for parts in unstacked])
        carry, output = function(carry, row)
        outputs.append(output)
    if reverse:
        outputs.reverse()
    return carry, keras.tree.map_structure(lambda *parts: keras.ops.stack(parts, axis=0), *outputs)
