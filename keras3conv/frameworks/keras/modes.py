"""Define context managers for runs of a Keras model: with its state restored, in float64, or in full precision."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.float64_kernels import float64_kernels
from keras3conv.frameworks.keras.internals import GLOBAL_SEED_GENERATOR, LAYER_MODULES, dtypes, global_state
from keras3conv.frameworks.keras.observing import replaced
from keras3conv.frameworks.keras.tree import layers_of, named_layers, variables_of
from keras3conv.frameworks.keras.values import backend, to_numpy
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.numerics.difference import same_bits


@contextmanager
def float64_mode(model: keras.layers.Layer, overwritten: Collection[int] = ()) -> Iterator[None]:
    """Cast every variable and the dtype policy of every layer to float64 inside the `with` block.

    The model is cast in place, because subclassed models cannot be copied in general. Keras casts the inputs of a
    functional model to the dtypes of its symbolic inputs, so these dtypes are changed as well.

    Args:
        model: The model.
        overwritten: The ids of the variables that the `with` block overwrites first; their values need no cast.
    """
    with _float64_allowed(), float64_kernels(), _torch_kernels(), _mel_weights_in_float32():
        layers = [layer for _, layer in named_layers(model)]
        policies = [(layer, layer._dtype_policy) for layer in layers]
        named = (entry for layer in layers for entry in (*variables_of(layer), *untracked_variables(layer)))
        variables = {id(variable): variable for _, variable in named}
        values = [(variable, variable._value, variable._dtype) for variable in variables.values()]
        tensors = [tensor for layer in layers for tensor in _symbolic_inputs(layer)]
        input_dtypes = [(tensor, tensor.dtype) for tensor in tensors]
        try:
            for layer in layers:
                layer._dtype_policy = keras.dtype_policies.DTypePolicy("float64")
            for variable, value, dtype in values:
                if _is_float(dtype):
                    cast = _unset if id(variable) in overwritten else _cast
                    _replace(variable, cast(value), "float64")
            for tensor, dtype in input_dtypes:
                if _is_float(str(dtype)):
                    _set_dtype(tensor, "float64")
            with _normalization_rebuilt(layers):
                yield
        finally:
            for layer, policy in policies:
                layer._dtype_policy = policy
            for variable, value, dtype in values:
                _replace(variable, value, dtype)
            for tensor, dtype in input_dtypes:
                _set_dtype(tensor, dtype)


def _torch_kernels() -> AbstractContextManager[object]:
    """Replace functions of the torch backend that are slow in float64, or that refuse a float32 constant beside it."""
    if backend() != "torch":
        return nullcontext()
    from keras3conv.frameworks.torch.float64 import Float64Kernels

    return Float64Kernels()


@contextmanager
def _normalization_rebuilt(layers: Iterable[keras.layers.Layer]) -> Iterator[None]:
    """Recompute in float64 the values that `Normalization` layers precompute; restore the old values on exit."""
    found = [layer for layer in layers if isinstance(layer, keras.layers.Normalization) and layer.built]
    before = [(vars(layer), dict(vars(layer))) for layer in found]
    try:
        for layer in found:
            if layer.input_mean is None:
                layer.finalize_state()
            else:
                _rebuild(layer)
        yield
    finally:
        for attributes, old in before:
            attributes.update(old)


def _rebuild(layer: keras.layers.Normalization) -> None:
    """Recompute the constants of a layer whose mean and variance are constructor arguments, not variables."""
    given = layer.input_mean, layer.input_variance
    # TensorFlow converts a list to float32, and keeps the dtype of an array.
    layer.input_mean, layer.input_variance = (np.asarray(value, "float64") for value in given)
    try:
        layer.build(layer._build_input_shape)
    finally:
        layer.input_mean, layer.input_variance = given


NARROW = ("bfloat16", "float16")
"""The dtypes narrower than float32 in which layers may compute; bfloat16, with the larger rounding error, is first."""


def narrow_compute_dtype(model: keras.layers.Layer) -> str:
    """Return the narrowest dtype in which a layer of a model computes; empty if all compute in float32 or float64."""
    found = {layer.compute_dtype for _, layer in named_layers(model)}
    return next((dtype for dtype in NARROW if dtype in found), "")


@contextmanager
def precise() -> Iterator[None]:
    """Use the most precise matrix products of the backend inside the `with` block."""
    name = backend()
    if name == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif name == "tensorflow":
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
    else:
        from keras3conv.frameworks.torch.modes import precise as torch_precise

        with torch_precise():
            yield


@contextmanager
def without_gradients() -> Iterator[None]:
    """Disable the recording of gradients on a backend that records them by default."""
    if backend() == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield


@contextmanager
def _float64_allowed() -> Iterator[None]:
    """Prevent Keras and JAX from converting float64 to float32 inside the `with` block.

    The type promotion of Keras converts float64 to float32, so that a BatchNormalization would compute in float32 with
    any policy. JAX does the same by default. Many normalization and rotary embedding layers cast to "float32"
    explicitly, which would hide differences below 1e-7; so "float32" means float64 meanwhile.
    """
    narrowing, names = dtypes.BIT64_TO_BIT32_DTYPE["float64"], dict(dtypes.PYTHON_DTYPES_MAP)
    floatx = keras.config.floatx()
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    dtypes.PYTHON_DTYPES_MAP["float32"] = "float64"
    keras.config.set_floatx("float64")
    try:
        if backend() == "jax":
            import jax

            with jax.enable_x64(True):
                yield
        else:
            yield
    finally:
        dtypes.PYTHON_DTYPES_MAP.clear()  # restore the saved values, not the defaults: contexts may be nested
        dtypes.PYTHON_DTYPES_MAP.update(names)
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = narrowing
        keras.config.set_floatx(floatx)


def _mel_weights_in_float32() -> AbstractContextManager[None]:
    """Let `MelSpectrogram` compute its constant matrix in float32 inside the `with` block of a float64 run.

    The layer computes the matrix in each call, in float32 with any policy. A torch model stores these values, and the
    matrix in float64 would differ from them by a millionth.
    """
    original = keras.layers.MelSpectrogram.linear_to_mel_weight_matrix

    def computed(*args: Any, **kwargs: Any) -> Any:
        meant, floatx = dtypes.PYTHON_DTYPES_MAP["float32"], keras.config.floatx()
        dtypes.PYTHON_DTYPES_MAP["float32"] = "float32"
        keras.config.set_floatx("float32")
        try:
            return original(*args, **kwargs)
        finally:
            dtypes.PYTHON_DTYPES_MAP["float32"] = meant
            keras.config.set_floatx(floatx)

    return replaced([(keras.layers.MelSpectrogram, "linear_to_mel_weight_matrix", computed)])


def _symbolic_inputs(layer: keras.layers.Layer) -> list[Any]:
    """Return the symbolic inputs of a functional model, or of the functional model inside a sequential model."""
    functional = getattr(layer, "_functional", None) or layer
    inputs = getattr(functional, "_inputs", None)
    return list(keras.tree.flatten(inputs)) if inputs else []  # `flatten` is slow, and few layers have such inputs


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def _cast(value: Any) -> Any:
    """Return a tensor cast to float64, in the tensor type that the backend stores in a variable."""
    name = backend()
    if name == "torch":
        import torch

        float64 = value.detach().to(torch.float64, copy=True)
        return torch.nn.Parameter(float64, requires_grad=value.requires_grad)
    if name == "tensorflow":
        import tensorflow as tf

        return tf.Variable(tf.cast(value, "float64"), dtype="float64", trainable=value.trainable)
    return keras.ops.cast(value, "float64")


def _unset(value: Any) -> Any:
    """Return a float64 tensor of the same shape; on the torch backend with unset values, as setting them takes time."""
    if backend() != "torch":
        return _cast(value)
    import torch

    return torch.nn.Parameter(torch.empty_like(value, dtype=torch.float64), requires_grad=value.requires_grad)


def _replace(variable: keras.Variable, value: Any, dtype: str) -> None:
    variable._value = value
    variable._dtype = dtype


def _set_dtype(tensor: Any, dtype: str) -> None:
    tensor._dtype = dtype


PLAIN: frozenset[type] = frozenset({int, float, bool, str, type(None)})
"""The types of plain values, such as sizes and names, which are most attributes of a layer and items of its lists."""

_MAY_HOLD_VARIABLES = (list, tuple, dict, keras.Variable)


def untracked_variables(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """Yield name and variable for the variables in attributes that Keras does not track, such as "states.0"."""
    # Every run calls this for every layer, so the cheap checks come first. Most attributes are private or plain.
    cls: type = type(layer)
    if _is_stateless(cls):
        return
    held = [(name, value) for name, value in vars(layer).items() if name[:1] != "_" and type(value) not in PLAIN]
    held = [(name, value) for name, value in held if isinstance(value, _MAY_HOLD_VARIABLES) and not _is_plain(value)]
    found = [entry for name, value in held for entry in flatten(value, _is_variable, name)]
    if found:
        tracked = {id(variable) for variable in (*layer._trainable_variables, *layer._non_trainable_variables)}
        yield from (entry for entry in found if id(entry[1]) not in tracked)


@lru_cache(maxsize=1024)
def _is_stateless(cls: type) -> bool:
    """Return True for a Keras class without a method `reset_state`, whose layers keep no state between calls."""
    return cls.__module__.startswith(LAYER_MODULES) and not hasattr(cls, "reset_state")


def _is_plain(value: object) -> bool:
    return isinstance(value, list | tuple) and PLAIN.issuperset(map(type, value))


def _is_variable(value: Any) -> bool:
    return isinstance(value, keras.Variable)


@contextmanager
def global_seed_kept() -> Iterator[None]:
    """Restore Keras' global seed generator when the `with` block ends, or remove it if it is new.

    Layers that were created without a seed generator draw their numbers from the global one.
    """
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    before = None if generator is None else np.array(to_numpy(generator.state))
    try:
        yield
    finally:
        if before is not None and not same_bits(to_numpy(generator.state), before):
            generator.state.assign(before)
        if global_state.get_global_attribute(GLOBAL_SEED_GENERATOR) is not generator:
            global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


@contextmanager
def state_kept(model: keras.layers.Layer) -> Iterator[list[str]]:
    """Restore a model's state when the `with` block ends: variables that no optimizer changes, tensors in attributes.

    Recurrent layers that keep their state between calls (`stateful=True`) begin the `with` block with a state of zeros,
    as torch's layers begin every call.

    Yields:
        A list that then holds the paths of the variables that the `with` block changed.
    """
    before = [(variable, np.array(to_numpy(variable))) for variable in _states(model)]
    changed: list[str] = []
    try:
        _reset_recurrent_states(model)
        with tensors_kept(model):
            yield changed
    finally:
        others = [(variable, old) for variable, old in before if not same_bits(to_numpy(variable), old)]
        if others:
            names = _names(model)
            for variable, old in others:
                variable.assign(old)
                changed.append(names[id(variable)])


def _reset_recurrent_states(model: keras.layers.Layer) -> None:
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            for _, state in flatten(layer.states, _is_variable):
                state.assign(keras.ops.zeros(state.shape, state.dtype))


@contextmanager
def tensors_kept(model: keras.layers.Layer) -> Iterator[None]:
    """Restore the tensors in attributes of layers when the `with` block ends.

    A layer may store a tensor for its next call. A float64 run would leave float64 tensors there.
    """
    layers = [layer for layer in layers_of(model) if not type(layer).__module__.startswith(LAYER_MODULES)]
    before = [(vars(layer), _tensors(layer)) for layer in layers]
    try:
        yield
    finally:
        for (attributes, old), layer in zip(before, layers, strict=True):
            for name, value in _tensors(layer).items():
                if old.get(name) is not value:
                    attributes.pop(name)
            attributes.update(old)


def _tensors(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the tensors in the attributes of a custom layer, by the name of the attribute."""
    return {name: value for name, value in vars(layer).items() if type(value) not in PLAIN and _is_tensor(value)}


def _is_tensor(value: object) -> bool:
    return isinstance(value, keras.KerasTensor) or bool(keras.ops.is_tensor(value))


def _states(model: keras.layers.Layer) -> list[keras.Variable]:
    """Return the variables of a model that no optimizer changes, each once."""
    trained: set[int] = set()
    found: dict[int, keras.Variable] = {}
    for layer in layers_of(model):
        trained.update(map(id, layer._trainable_variables))
        for _, variable in _state_variables(layer):
            found[id(variable)] = variable
    return [variable for key, variable in found.items() if key not in trained]


def _state_variables(layer: keras.layers.Layer) -> list[tuple[str, keras.Variable]]:
    """Return the variables of a layer that no optimizer changes, with their names in the layer."""
    own = [(variable.name, variable) for variable in layer._non_trainable_variables]
    own += [("seed_generator_state", generator.state) for generator in getattr(layer, "_seed_generators", ())]
    return [*own, *untracked_variables(layer)]


def _names(model: keras.layers.Layer) -> dict[int, str]:
    """Return the path of each variable that no optimizer changes, by the id of the variable."""
    names: dict[int, str] = {}
    for path, layer in named_layers(model):
        for name, variable in _state_variables(layer):
            names.setdefault(id(variable), f"{path}/{name}".lstrip("/"))
    return names
