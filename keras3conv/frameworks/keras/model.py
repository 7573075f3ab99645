"""Run a live Keras model, on any backend; the module `tree` creates its view, `writing` writes its variables.

Keras reads `KERAS_BACKEND` when it is first imported; this module does not set it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.internals import Reshape, get_keras_mask
from keras3conv.frameworks.keras.modes import float64_mode, narrow_compute_dtype, precise, without_gradients
from keras3conv.frameworks.keras.observing import Original, activation_inputs, layer_calls, operation_calls
from keras3conv.frameworks.keras.state import state_kept
from keras3conv.frameworks.keras.tree import is_built, layers_of, named_layers, require_built, variables_by_path
from keras3conv.frameworks.keras.values import (
    assign,
    backend,
    error_message,
    is_parameter,
    memory_orders,
    raised_by_keras,
    to_numpy,
    to_tensors,
    version_of,
)
from keras3conv.frameworks.keras.view import call_arguments, class_name, config_of, input_specs, kinds_of, view
from keras3conv.frameworks.keras.writing import settle, write
from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.recording import CallRecorder, Recording
from keras3conv.garbage import collect_after_a_run
from keras3conv.messages import lay_out
from keras3conv.transforms import Array

__all__ = [
    "backend",
    "call_arguments",
    "call_error",
    "class_name",
    "config_of",
    "error_message",
    "float64_mode",
    "float64_weights",
    "input_specs",
    "is_built",
    "kinds_of",
    "narrow_compute_dtype",
    "precise",
    "require_built",
    "run",
    "settle",
    "to_numpy",
    "view",
    "without_gradients",
    "write",
]


@contextmanager
def float64_weights(model: keras.layers.Layer, values: Mapping[str, Array]) -> Iterator[None]:
    """Run the `with` block with a model in float64 and with other values; afterwards dtype and values are restored.

    Args:
        model: The model.
        values: Arrays by the path of the variable; the other variables keep their values.
    """
    variables, orders = variables_by_path(model), memory_orders(layers_of(model), float64=True)
    overwritten = {id(variables[path]) for path in values}
    with precise(), float64_mode(model, overwritten):  # restores every value, so no backup is needed
        for path, value in values.items():
            assign(variables[path], value, orders.get(id(variables[path])))
        settle(model)
        yield


def run(
    model: keras.layers.Layer,
    inputs: object,
    *,
    record: Callable[[str], bool] | None = None,
    watch: bool = True,
) -> Recording:
    """Run a model once, eagerly, in inference mode, and record the calls of its layers; its variables do not change.

    Args:
        model: The model.
        inputs: The inputs: an array, a list of arrays, or a dict of arrays by name. A tuple has positional arguments.
        record: Selects by path the layers whose input and output arrays are recorded; None for no layer.
        watch: Whether to record layer calls; if False, only the outputs are recorded, and the run is faster.

    Raises:
        ModelError: The model raised; the message names the layer.
    """
    selected = record or (lambda path: False)
    found, is_valid = _run(model, inputs, selected, watch=watch, view=_view)
    collect_after_a_run()
    # A layer may write into the output of another one, which must then be copied before that.
    return found if is_valid else _run(model, inputs, selected, watch=watch, view=None)[0]


def _run(
    model: keras.layers.Layer,
    inputs: object,
    record: Callable[[str], bool],
    *,
    watch: bool,
    view: Callable[[Any], Array] | None,
) -> tuple[Recording, bool]:
    """Run a model once, eagerly, in inference mode; return the recording, and whether the recording is valid.

    Args:
        model: The model.
        inputs: The inputs.
        record: Selects by path the layers whose arrays are recorded.
        watch: Whether to record layer calls.
        view: Returns a tensor as an array that shares its memory; None to copy. The recording is then valid only if the
            model overwrote no recorded tensor.
    """
    args = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    recorder = CallRecorder(
        record=record,
        follower=Follower(sees_everything=backend() == "torch"),
        copy=_copy,
        version=version_of,
        view=view,
    )
    stack: list[str] = []
    masks: dict[str, Array] = {}
    with ExitStack() as contexts:
        contexts.enter_context(without_gradients())
        changed = contexts.enter_context(state_kept(model))
        if watch:
            contexts.enter_context(_recording(model, recorder, stack, masks))
        try:
            outputs = model(*args, training=False)
        except raised_by_keras() as error:
            raise call_error(model, stack, inputs, error) from error
    recording = Recording(
        calls=recorder.calls(),
        outputs={name: _copy(value) for name, value in flatten(outputs, keras.ops.is_tensor)},
        changed=tuple(changed),
        flows=recorder.follower.flows() if watch else None,
        masks=masks,
        functions=frozenset(recorder.follower.functions),
    )
    return recording, recorder.is_valid


@contextmanager
def _recording(
    model: keras.layers.Layer, recorder: CallRecorder, stack: list[str], masks: dict[str, Array]
) -> Iterator[None]:
    """Record every layer call of a model inside the `with` block.

    Args:
        model: The model.
        recorder: Records the calls.
        stack: A list that gets the paths of the running layers, the innermost last.
        masks: A dict that gets the mask that each layer received with its first input, by path.
    """
    paths = {id(layer): path for path, layer in named_layers(model)}

    def on_layer(original: Original, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = paths.get(id(layer))
        if path is None:
            return original(layer, *args, **kwargs)
        tensors = _tensors((args, kwargs))
        call = recorder.begin(path, tensors, is_operation=not layer.weights)
        stack.append(path)
        mask = kwargs.get("mask", get_keras_mask(tensors[0]) if tensors else None)
        if mask is not None and keras.ops.is_tensor(mask):
            masks[path] = _copy(mask).astype(bool)
        with activation_inputs(layer, recorder.record(path)) as seen:
            output = original(layer, *args, **kwargs)
        stack.pop()
        recorder.end(call, _tensors(output), before_activation=seen[0] if len(seen) == 1 else None)
        if tensors and not layer.weights:
            recorder.flattened.note(tensors[0], output)
        return output

    def on_operation(original: Original, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = original(operation, *args, **kwargs)
        tensors = _tensors((args, kwargs))
        recorder.follower.functions.add(type(operation).__name__)
        recorder.follower.operation(tensors, _tensors(output))
        if isinstance(operation, Reshape):
            recorder.flattened.note(tensors[0], output)
        return output

    with layer_calls(on_layer), operation_calls(on_operation), _tensor_operations_followed(recorder.follower):
        yield


def _tensor_operations_followed(follower: Follower) -> AbstractContextManager[object]:
    """Report every tensor operation to a follower, an object that tracks the data flow, inside the `with` block.

    Only the torch backend allows this.
    """
    if backend() == "torch":
        from keras3conv.frameworks.torch.observing import OperationsFollowed

        return OperationsFollowed(follower)
    return nullcontext()


def _tensors(value: object) -> list[Any]:
    return [tensor for _, tensor in flatten(value, keras.ops.is_tensor)]


def _view(tensor: Any) -> Array:
    """Return a tensor as an array that may share its memory; a variable, which the model keeps, is copied."""
    return _copy(tensor) if isinstance(tensor, keras.Variable) or is_parameter(tensor) else to_numpy(tensor)


def _copy(tensor: Any) -> Array:
    """Return a tensor as an array that does not share memory with it."""
    return np.array(to_numpy(tensor))


def call_error(model: keras.layers.Layer, stack: list[str], inputs: object, error: Exception) -> ModelError:
    """Return the error for a model that raised when it was called.

    Args:
        model: The model.
        stack: The paths of the layers that were running, the innermost last.
        inputs: The inputs of the call.
        error: The exception.
    """
    given = [
        f"{name}: {tuple(array.shape)}" if name else str(tuple(array.shape))
        for name, array in flatten(inputs, lambda value: hasattr(value, "shape"))
    ]
    where = stack[-1] if stack and stack[-1] else model.name
    problem = Problem(keras=where, fact=f"{type(error).__name__}: {error_message(error)}")
    return ModelError(
        lay_out(f"{model.name} (keras) raised when it was called with {', '.join(given) or 'nothing'}", [problem])
    )
