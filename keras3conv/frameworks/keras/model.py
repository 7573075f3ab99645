"""Keras 3: a model as a `ModelView`, its runs recorded, its variables written; on whatever backend Keras runs.

`KERAS_BACKEND` is read by Keras when it is first imported, and never set here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras.src.api_export import get_name_from_symbol
from keras.src.ops.numpy import Reshape

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.inputs import arguments, input_specs
from keras3conv.frameworks.keras.precision import float64_mode, precise
from keras3conv.frameworks.keras.state import state_kept
from keras3conv.frameworks.keras.tree import attributes, locations, named_layers, owns_variables, variables_of
from keras3conv.frameworks.keras.values import backend, raised_by_keras, to_numpy, to_tensors
from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.recording import Call, Flattened, Recording, flatten, plain
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.numerics.copying import own_copy
from keras3conv.transforms import Array

__all__ = [
    "activation_watched",
    "arguments",
    "backend",
    "class_name",
    "config_of",
    "float64_mode",
    "input_specs",
    "is_built",
    "is_model",
    "kinds_of",
    "precise",
    "require_built",
    "run",
    "settle",
    "to_numpy",
    "view",
    "what_was_said",
    "write",
]


def is_model(model: object) -> bool:
    """Whether this is a Keras layer or model."""
    return isinstance(model, keras.layers.Layer)


def view(model: keras.layers.Layer, *, described: bool = True) -> ModelView:
    """Views a model as named variables, grouped by the layer that owns them.

    A layer is named by the names on the way to it, "outer/inner", a variable by its layer and its own name,
    "outer/inner/kernel". A layer that is used twice stands there once.

    Args:
        model: The model.
        described: Whether its layers come with their configurations, those without variables too, and its variables
            with the places that a weight file has for them. Keras takes longer to say these than to run a model on a
            small input.

    Raises:
        ModelError: A layer has no variables yet, because the model was never called.
    """
    require_built(model)
    where, called = (locations(model), attributes(model)) if described else ({}, {})
    layers = tuple(
        LayerView(
            path=path,
            kinds=kinds_of(layer),
            config=config_of(layer) if described else None,
            tensors=tuple(_tensor_ref(path, role, variable, where) for role, variable in variables_of(layer)),
            attribute=called.get(id(layer), ""),
        )
        for path, layer in named_layers(model)
        if described or owns_variables(layer)
    )
    values: dict[str, keras.Variable] = {}

    def read(path: str) -> Array:
        if not values:
            values.update(_variables(model))
        return to_numpy(values[path])

    return ModelView(
        side="keras",
        name=model.name,
        layers=layers,
        reader=read,
        input_specs=input_specs(model),
        arguments=arguments(model),
        facts={"format": f"live Keras model on the {backend()} backend"},
    )


def is_built(model: keras.layers.Layer) -> bool:
    """Whether a model has variables.

    A subclassed one may hold layers that it never calls; only a model without any variable is surely not built.
    """
    return bool(model.built or model.variables)


def require_built(model: keras.layers.Layer) -> None:
    """Raises `ModelError` if the model has a layer that was never built, and so has no variables to fill."""
    if not is_built(model):
        fact = f"{model.name} has no variables yet"
        problem = Problem(keras=model.name, fact=fact, fixes=("model(example_input)", "inputs=example_input"))
        raise ModelError(lay_out(f"{model.name} (keras) was never built", [problem]))


def write(model: keras.layers.Layer, values: Mapping[str, Array]) -> None:
    """Writes values into a model's variables, all or none: after any exception the model is as it was.

    Args:
        model: The model.
        values: Arrays by the path of the variable, each of the variable's shape.
    """
    variables = _variables(model)
    before: list[tuple[keras.Variable, Array]] = []
    try:
        for path, value in values.items():
            variable = variables[path]
            before.append((variable, np.array(to_numpy(variable))))
            # Own memory: on JAX a variable may alias the array that it was assigned.
            variable.assign(own_copy(value))
        settle(model)
    except BaseException:  # an interrupt too
        for variable, old in before:
            variable.assign(old)
        settle(model)
        raise


def settle(model: keras.layers.Layer) -> None:
    """Has the layers that compute with something made of their variables make it anew, after these were written."""
    for _, layer in named_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def run(
    model: keras.layers.Layer,
    inputs: object,
    *,
    record: Callable[[str], bool] | None = None,
    watch: bool = True,
) -> Recording:
    """Runs a model once, eagerly, in inference mode, and records what ran; its variables are as before afterwards.

    Args:
        model: The model.
        inputs: What it is called with: an array, a list of arrays, or a dict of arrays by name. A tuple is taken as
            positional arguments.
        record: Of which layers (by path) the arrays are kept. The order of the calls is always kept.
        watch: Whether the layers are watched at all; without it the run costs what the model costs.

    Raises:
        ModelError: The model raised; the message names the layer.
    """
    calls: list[Call] = []
    stack: list[str] = []
    args = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    follower = Follower(sees_everything=backend() == "torch")
    with ExitStack() as contexts:
        contexts.enter_context(_without_gradients())
        changed = contexts.enter_context(state_kept(model))
        if watch:
            contexts.enter_context(_intercepted(model, calls, stack, record or (lambda path: False), follower))
            contexts.enter_context(_followed(follower))
        try:
            outputs = model(*args, training=False)
        except raised_by_keras() as error:
            raise _call_error(model, stack, inputs, error) from error
    return Recording(
        calls=tuple(sorted(calls, key=lambda call: call.place)),
        outputs={name: _copy(value) for name, value in flatten(outputs, keras.ops.is_tensor)},
        changed=tuple(changed),
        flows=follower.flows() if watch else None,
    )


def _variables(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """The variables of a model, by their paths."""
    return {
        _join(path, role): variable for path, layer in named_layers(model) for role, variable in variables_of(layer)
    }


def _tensor_ref(path: str, role: str, variable: keras.Variable, where: Mapping[int, str]) -> TensorRef:
    return TensorRef(
        path=_join(path, role),
        role=role,
        shape=tuple(variable.shape),
        dtype=variable.dtype,
        trainable=bool(variable.trainable),
        storage=str(id(variable)),
        location=where.get(id(variable), ""),
    )


def _join(path: str, role: str) -> str:
    return f"{path}/{role}" if path else role


def kinds_of(layer: keras.layers.Layer) -> tuple[str, ...]:
    """The class names of a layer, the most derived first; of an `Activation` first that of its function."""
    cls: type = type(layer)
    if isinstance(layer, keras.layers.Activation):
        return f"keras.activations.{getattr(layer.activation, '__name__', '')}", *_kinds(cls)
    return _kinds(cls)


@lru_cache(maxsize=1024)
def _kinds(cls: type) -> tuple[str, ...]:
    kinds = (class_name(base) for base in cls.__mro__ if issubclass(base, keras.layers.Layer))
    return tuple(kind for kind in kinds if kind != "keras.layers.Layer")


@lru_cache(maxsize=1024)
def class_name(cls: type) -> str:
    """The name under which Keras exports a class, which is not always the one that it was given."""
    exported = str(get_name_from_symbol(cls))
    if exported.startswith("keras.layers."):
        return exported
    module = "keras.layers" if cls.__module__.startswith("keras.src.layers.") else cls.__module__
    module = "keras" if module.startswith("keras.src.models.") else module
    return f"{module}.{cls.__qualname__}"


_SERIALISED = ("activation", "layer", "backward_layer", "cell")
"""What a rule reads although it is no plain value: an activation, and the layers that a wrapper is made of."""


def config_of(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """The plain part of a configuration, and the layers in it; None for a custom layer that does not tell it."""
    try:
        config = layer.get_config()
    except (NotImplementedError, AttributeError, TypeError):  # somebody else's layer, that does not say or cannot
        return None
    return {
        name: value
        for name, value in config.items()
        if plain(value) or name in _SERIALISED or _inner_function(name, value)
    }


def _inner_function(name: str, value: Any) -> bool:
    """Whether it is a function of the user's own that a layer computes inside: it must not pass for the default."""
    return name.endswith("activation") and isinstance(value, dict)


@contextmanager
def _without_gradients() -> Iterator[None]:
    """Without a graph for gradients where the backend would keep one."""
    if backend() == "torch":
        from keras3conv.frameworks.torch.modes import inference

        with inference():
            yield
    else:
        yield


def _followed(follower: Follower) -> AbstractContextManager[object]:
    """Follows every operation where the backend reports them; elsewhere those of layers and functional models."""
    if backend() == "torch":
        from keras3conv.frameworks.torch.operations import Following

        return Following(follower)
    return nullcontext()


@contextmanager
def _intercepted(
    model: keras.layers.Layer,
    calls: list[Call],
    stack: list[str],
    record: Callable[[str], bool],
    follower: Follower,
) -> Iterator[None]:
    """Records every call of every layer inside `model` into `calls`; `stack` is where an exception came from."""
    paths = {id(layer): path for path, layer in named_layers(model)}
    original, original_operation = keras.layers.Layer.__call__, keras.Operation.__call__
    counter = iter(range(1 << 62))
    flattened = Flattened()

    def intercept(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        path = paths.get(id(self))
        if path is None:
            return original(self, *args, **kwargs)
        tensors = [tensor for _, tensor in flatten((args, kwargs), keras.ops.is_tensor)]
        call = Call(
            path=path,
            place=next(counter),
            inputs=tuple(map(_copy, tensors)) if record(path) else (),
            shapes=tuple(tuple(tensor.shape) for tensor in tensors),
            flattened=flattened.shape(tensors[0]) if tensors else None,
        )
        stack.append(path)
        follower.enter(path if self.weights else "", tensors)
        with activation_watched(self, record(path)) as seen:
            output = original(self, *args, **kwargs)
        follower.leave([tensor for _, tensor in flatten(output, keras.ops.is_tensor)])
        stack.pop()
        if tensors and not self.weights:
            flattened.note(tensors[0], output)
        kept = _arrays(output) if record(path) else ()
        calls.append(replace(call, outputs=kept, before_activation=seen[0] if len(seen) == 1 else None))
        return output

    def follow(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        output = original_operation(self, *args, **kwargs)
        if not isinstance(self, keras.layers.Layer):  # in a functional model an operation may stand between layers
            tensors = [tensor for _, tensor in flatten((args, kwargs), keras.ops.is_tensor)]
            follower.operation(tensors, [tensor for _, tensor in flatten(output, keras.ops.is_tensor)])
            if isinstance(self, Reshape):
                flattened.note(tensors[0], output)
        return output

    keras.layers.Layer.__call__ = intercept
    keras.Operation.__call__ = follow
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original
        keras.Operation.__call__ = original_operation


@contextmanager
def activation_watched(layer: keras.layers.Layer, wanted: bool) -> Iterator[list[Array]]:
    """What goes into the activation that a Dense or a convolution has inside; torch has it in a module of its own."""
    seen: list[Array] = []
    activation = layer.__dict__.get("activation")
    if not wanted or not callable(activation) or activation is keras.activations.linear or not layer.weights:
        yield seen
        return

    def watched(value: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(_copy(value))
        return activation(value, *args, **kwargs)

    layer.__dict__["activation"] = watched
    try:
        yield seen
    finally:
        layer.__dict__["activation"] = activation


def _arrays(value: object) -> tuple[Array, ...]:
    return tuple(_copy(tensor) for _, tensor in flatten(value, keras.ops.is_tensor))


def _copy(tensor: Any) -> Array:
    """A copy: on the torch backend an array shares the memory of its tensor."""
    return np.array(to_numpy(tensor))


def _call_error(model: keras.layers.Layer, stack: list[str], inputs: object, error: Exception) -> ModelError:
    given = [
        f"{name}: {tuple(array.shape)}" if name else str(tuple(array.shape))
        for name, array in flatten(inputs, lambda value: hasattr(value, "shape"))
    ]
    where = stack[-1] if stack and stack[-1] else model.name
    problem = Problem(keras=where, fact=f"{type(error).__name__}: {what_was_said(error)}")
    return ModelError(
        lay_out(f"{model.name} (keras) raised when it was called with {', '.join(given) or 'nothing'}", [problem])
    )


def what_was_said(error: Exception) -> str:
    """The message of an exception, without what Keras puts around it: where, in bold, and all arguments."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    return said[0] if said else "no message"
