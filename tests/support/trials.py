"""Build both sides of a rule from an example, fill them with the same probe weights, and run them."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
import torch

from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.layout import like_keras
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.rules.units import children_of, numbered, whole_of
from keras3conv.transforms import Array, Shape
from tests.support import stand_ins
from tests.support.trial_layers import Attending, Joined, KerasFunction, TorchFunction, make_layer, make_torch

stand_ins.install()

Tensors = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A rule, one of its examples, and both sides built from it.

    Attributes:
        rule: The rule.
        example: The example.
        module: The torch layer, with probe weights.
        config: The fields of the torch layer that the rule reads.
        specs: The Keras layers that the rule's `to_keras` returns for the configuration.
        layers: The built Keras layers, filled with the same weights.
        inputs: The input arrays in torch's layout.
        input_shapes: The shapes of the inputs of each Keras layer.
        returned: The shape of the Keras output, where the rule selects among the outputs of torch.
    """

    rule: Rule
    example: Example
    module: torch.nn.Module
    config: Config
    specs: LayerSpecs
    layers: tuple[keras.layers.Layer, ...]
    inputs: tuple[Array, ...]
    input_shapes: tuple[tuple[Shape, ...], ...]
    returned: Shape = ()

    @cached_property
    def variables(self) -> dict[str, keras.Variable]:
        """The variables of the layers that own tensors, by role; cached, because viewing a layer is slow."""
        return _variables_by_role(self)

    @cached_property
    def exact_outputs(self) -> list[Array]:
        """The outputs of the torch layer in float64, in Keras' layout; cached, because several laws use them."""
        return torch_outputs(self, float64=True)


def make_trial(rule: Rule, example: Example) -> Trial:
    """Build both sides and transfer the weights by the rule."""
    module = make_module(rule, example)
    config = config_of(rule, module)
    inputs = make_inputs(example)
    specs = rule.to_keras(with_inputs(config, example))
    layers = tuple(make_layer(spec) for spec in specs)
    shapes = tuple(_build(rule, layers, [to_keras_layout(rule, config, array) for array in inputs]))
    trial = Trial(
        rule=rule,
        example=example,
        module=module,
        config=config,
        specs=specs,
        layers=layers,
        inputs=inputs,
        input_shapes=shapes,
    )
    transfer(trial)
    return replace(trial, returned=keras_outputs(trial, float64=False)[0].shape) if rule.output else trial


def make_module(rule: Rule, example: Example) -> torch.nn.Module:
    """Create the torch layer of an example, in evaluation mode, with probe values in every tensor.

    Several layers form a sequence, or run in parallel where the rule says so.
    """
    if rule.torch_count == 1:
        module = make_torch(LayerSpec(kind=rule.torch, config=example.config))
    else:
        specs = tuple(LayerSpec(kind=rule.torch, config=part) for part in example.config.values())
        module = assembled(rule, specs, example)
    module.eval()
    names = {name: tensor for name, tensor in torch_tensors(module).items() if tensor.dtype.kind == "f"}
    torch_side.write(module, {name: probe_values(name, tensor.shape) for name, tensor in names.items()})
    return module


def assembled(rule: Rule, specs: LayerSpecs, example: Example) -> torch.nn.Module:
    """Combine the torch layers of some specs into one module: in parallel, in sequence, or as an attention."""
    if rule.torch_count == 1:
        return make_torch(specs[0])
    parts = [make_torch(spec) for spec in specs]
    if example.keras is not None:
        return Attending(example.keras, *parts)
    return Joined(*parts) if rule.parallel else torch.nn.Sequential(*parts)


def probe_values(name: str, shape: Shape) -> Array:
    """Return values without zeros and ones and with both signs; positive values for a variance.

    They have few binary digits, so the sum of two (the biases of an LSTM) is exact in float32 too.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()))
    sizes = np.round(random.uniform(0.2, 0.9, shape) * 2**16) / 2**16
    signs = 1 if name.endswith("var") else random.choice([-1, 1], shape)
    return np.asarray(signs * sizes, "float32")


def make_inputs(example: Example) -> tuple[Array, ...]:
    """Return inputs that reach every branch of an activation, or indices that cover the whole range."""
    random = np.random.default_rng(7)
    if example.integers:
        return tuple(random.integers(0, example.integers, shape).astype("int32") for shape in example.inputs)
    return tuple(random.uniform(-8, 8, shape).astype("float32") for shape in example.inputs)


def config_of(rule: Rule, module: torch.nn.Module) -> Config:
    """Return the fields of the rule, read from the module; for a function its keyword arguments."""
    if isinstance(module, TorchFunction):
        return {name: module.arguments[name] for name in rule.fields if name in module.arguments}
    if rule.torch_count == 1:
        return rule.config_of(torch_side.view(torch.nn.Sequential(module)).layers[0])
    parts = [torch_side.view(torch.nn.Sequential(part)).layers[0] for part in module.children()]
    return rule.config_of(numbered(parts, "torch"))


def with_inputs(config: Config, example: Example) -> Config:
    """Return a configuration with the entries that a model adds: the shapes of the inputs, the Keras layer."""
    return {**config, **example.beyond}


def torch_tensors(module: torch.nn.Module) -> Tensors:
    """Return copies of the parameters and buffers, by name."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: np.array(torch_side.to_numpy(tensor)) for name, tensor in named}


def keras_tensors(trial: Trial) -> Tensors:
    """Return copies of the variables of the layers that own tensors, by role, without the states of seeds."""
    return {role: np.array(keras_side.to_numpy(variable)) for role, variable in trial.variables.items()}


def _variables_by_role(trial: Trial) -> dict[str, keras.Variable]:
    """Return the variables of the layers that own tensors, by role, in the order in which Keras creates them."""
    many = trial.rule.keras_count != 1
    found = {}
    for place, layer in enumerate(owners(trial)):
        named = roles(layer)
        for variable in layer.weights:
            if id(variable) in named:
                role = trial.rule.aliases.get(named[id(variable)], named[id(variable)])
                found[f"{place}/{role}" if many else role] = variable
    return found


def owners(trial: Trial) -> tuple[keras.layers.Layer, ...]:
    """Return the Keras layers that own tensors; the last layer if none does."""
    return tuple(layer for layer in trial.layers if layer.weights) or trial.layers[-1:]


def roles(layer: keras.layers.Layer) -> dict[int, str]:
    """Return the role of every variable of a layer and its parts by the variable's id, without the states of seeds."""
    view = keras_side.view(layer)
    whole = whole_of(view.layers[0], children_of(view), "keras")
    role_of = {tensor.path: tensor.role for tensor in whole.tensors if not tensor.is_seed}
    paths = {
        id(variable): f"{path}/{role}" if path else role
        for path, part in named_layers(layer)
        for role, variable in variables_of(part)
    }
    return {key: role_of[path] for key, path in paths.items() if path in role_of}


def mappings(trial: Trial) -> tuple[WeightMapping, ...]:
    """Return the mappings of the rule, without those whose tensors exist on neither side."""
    present = {*torch_tensors(trial.module)}, {*keras_tensors(trial)}
    return tuple(
        mapping
        for mapping in trial.rule.weights(with_inputs(trial.config, trial.example))
        if present[0].intersection(mapping.torch) or present[1].intersection(mapping.keras)
    )


def transfer(trial: Trial) -> None:
    """Write the torch tensors into the Keras layers by the mappings; the laws detect missing ones."""
    tensors, variables = torch_tensors(trial.module), trial.variables
    for mapping in mappings(trial):
        if not (tensors.keys() >= {*mapping.torch} and variables.keys() >= {*mapping.keras}):
            continue
        results = mapping.transform(tuple(tensors[name] for name in mapping.torch))
        for name, value in zip(mapping.keras, results, strict=True):
            if value.shape == tuple(variables[name].shape):
                variables[name].assign(np.array(value))
    for layer in trial.layers:
        keras_side.settle(layer)


def to_keras_layout(rule: Rule, config: Config, array: Array) -> Array:
    """Return an array of torch's layout in Keras' layout."""
    return like_keras(array, rule, config, None)


def _build(rule: Rule, layers: tuple[keras.layers.Layer, ...], arrays: list[Array]) -> Iterator[tuple[Shape, ...]]:
    """Call every layer once, which builds it, and yield the shapes of its inputs."""
    given = rule.keras_arguments(tuple(arrays))
    for layer in layers:
        yield tuple(array.shape for _, array in flatten(given, lambda value: isinstance(value, np.ndarray)))
        with keras_side.precise():  # as in the laws, so JAX compiles nothing twice
            outputs = tuple(keras_side.run(layer, given).outputs.values())
        given = given if rule.parallel else outputs


def call_layers(
    trial: Trial, inputs: tuple[Any, ...], call: Callable[[keras.layers.Layer, tuple[Any, ...]], Any]
) -> Any:
    """Call the Keras layers in sequence, or in parallel on the same input."""
    given = trial.rule.keras_arguments(inputs)
    if trial.rule.parallel and trial.rule.keras_count != 1:
        found = [call(layer, given) for layer in trial.layers]
        return keras.ops.concatenate([keras.ops.reshape(part, (*inputs[0].shape[:-1], -1)) for part in found], -1)
    value: Any = given
    for layer in trial.layers:
        value = call(layer, value if isinstance(value, tuple) else (value,))
    return value


def torch_outputs(trial: Trial, *, float64: bool) -> list[Array]:
    """Run the torch layer; return its outputs in the form that the Keras layers return."""
    outputs = torch_side.run(trial.module, trial.rule.torch_arguments(trial.inputs), float64=float64).outputs
    return as_keras_returns(trial, tuple(outputs.values()))


def as_keras_returns(trial: Trial, outputs: tuple[Array, ...]) -> list[Array]:
    """Return the outputs of torch in the form that the Keras layers return."""
    if trial.rule.output is None:
        return [to_keras_layout(trial.rule, trial.config, array) for array in outputs]
    config = keras_side.view(trial.layers[-1]).layers[0].config or {}
    return [trial.rule.output(outputs, trial.config, config, trial.returned)]


def keras_outputs(trial: Trial, *, float64: bool) -> list[Array]:
    """Run the Keras layers; return their outputs, the first one where the rule selects among the outputs of torch."""
    arrays = tuple(to_keras_layout(trial.rule, trial.config, array) for array in trial.inputs)
    with ExitStack() as contexts:
        contexts.enter_context(keras_side.precise())
        if float64:
            enter_float64(contexts, trial.layers)
            arrays = tuple(wide(array) for array in arrays)
        found = call_layers(trial, arrays, lambda layer, given: _arrays(keras_side.run(layer, given).outputs))
        outputs = [np.array(_numpy(value)) for value in (found if isinstance(found, tuple) else (found,))]
        return outputs[:1] if trial.rule.output is not None else outputs


def _arrays(outputs: Mapping[str, Array]) -> tuple[Array, ...] | Array:
    found = tuple(outputs.values())
    return found[0] if len(found) == 1 else found


def _numpy(value: Any) -> Array:
    return value if isinstance(value, np.ndarray) else keras_side.to_numpy(value)


def specs_of_rule(trial: Trial) -> LayerSpecs:
    """Return the specs of the rule with the real shapes of the built Keras layers."""
    return tuple(
        replace(spec, shapes=_shapes(layer), inputs=inputs)
        for spec, layer, inputs in zip(trial.specs, trial.layers, trial.input_shapes, strict=True)
    )


def specs_of_layers(trial: Trial) -> LayerSpecs:
    """Return specs made from the configurations of the built Keras layers."""
    return tuple(
        spec_of_layer(layer, inputs, spec.kind if isinstance(layer, KerasFunction) else "")
        for layer, spec, inputs in zip(trial.layers, trial.specs, trial.input_shapes, strict=True)
    )


def spec_of_layer(layer: keras.layers.Layer, inputs: tuple[Shape, ...], kind: str = "") -> LayerSpec:
    """Return a spec made from the configuration of a built Keras layer."""
    view = keras_side.view(layer).layers[0]
    config = layer.get_config() if isinstance(layer, KerasFunction) else view.config
    return LayerSpec(kind=kind or view.kind, config=config or {}, shapes=_shapes(layer), inputs=inputs)


def _shapes(layer: keras.layers.Layer) -> Mapping[str, Shape]:
    named = roles(layer)
    return {named[id(variable)]: tuple(variable.shape) for variable in layer.weights if id(variable) in named}


def enter_float64(contexts: ExitStack, layers: tuple[keras.layers.Layer, ...]) -> None:
    """Put every layer into float64 until the contexts end."""
    for layer in layers:
        contexts.enter_context(keras_side.float64_mode(layer))


def wide(array: Array) -> Array:
    """Return a floating-point array in float64, and any other array unchanged."""
    return array.astype("float64") if array.dtype.kind == "f" else array


def keras_tensor(trial: Trial, array: Array) -> Any:
    made = np.array(wide(to_keras_layout(trial.rule, trial.config, array)), order="C")
    return keras.ops.convert_to_tensor(made, dtype=made.dtype.name)


def tensors_in(value: Any) -> list[torch.Tensor]:
    return [tensor for _, tensor in flatten(value, lambda item: isinstance(item, torch.Tensor))]
