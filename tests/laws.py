"""The laws that every rule obeys: plain functions that take a trial and raise `AssertionError`.

A trial is one rule with one of its examples: the torch layer, and the Keras layers that the rule makes of it, filled
with the same probe weights.
"""

import copy
import importlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import torch

from keras3conv.compare import compare, judge
from keras3conv.frameworks import keras_side, torch_side
from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Array, Shape, from_json

FLOAT64_AGREEMENT = 1e-12
"""One layer in float64: a few roundings of 1e-16 each, and nothing else."""

FLOAT64_GRADIENTS = 1e-11
"""Gradients sum over more terms than outputs, some of which cancel."""

Tensors = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A rule, an example, and what the rule made of it.

    Attributes:
        rule: The rule.
        example: The example.
        module: The torch layer, with probe weights.
        config: Its configuration, as a rule reads it.
        specs: What the rule's `to_keras` makes of the configuration.
        layers: The built Keras layers; nothing is transferred yet.
        inputs: The input arrays in torch's layout.
        input_shapes: The shapes of what each Keras layer is given.
    """

    rule: Rule
    example: Example
    module: torch.nn.Module
    config: Config
    specs: LayerSpecs
    layers: tuple[keras.layers.Layer, ...]
    inputs: tuple[Array, ...]
    input_shapes: tuple[tuple[Shape, ...], ...]


Law = Callable[[Trial], None]


def resolve(name: str) -> Any:
    """What a qualified name stands for: "torch.nn.Linear"."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def make_trial(rule: Rule, example: Example) -> Trial:
    """Builds both sides and transfers the weights by the rule."""
    module = make_module(rule.torch, example)
    config = config_of(rule, module)
    inputs = make_inputs(example)
    specs = rule.to_keras(config)
    layers = tuple(resolve(spec.kind)(**spec.config) for spec in specs)
    shapes = tuple(_build(layers, [to_keras_layout(rule, array) for array in inputs]))
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
    return trial


def make_module(kind: str, example: Example) -> torch.nn.Module:
    """The torch layer of an example, in evaluation mode, every tensor filled with probe values."""
    module: torch.nn.Module = resolve(kind)(**example.config).eval()
    names = {name: tensor for name, tensor in torch_tensors(module).items() if tensor.dtype.kind == "f"}
    torch_side.write(module, {name: probe_values(name, tensor.shape) for name, tensor in names.items()})
    return module


def probe_values(name: str, shape: Shape) -> Array:
    """Values that hide nothing: no zeros, no ones, both signs; positive for what is a variance."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    sizes = random.uniform(0.2, 0.9, shape)
    signs = 1 if name.endswith("var") else random.choice([-1, 1], shape)
    return np.asarray(signs * sizes, "float32")


def make_inputs(example: Example) -> tuple[Array, ...]:
    """Inputs that reach every branch of an activation, or indices, all values of which occur."""
    random = np.random.default_rng(7)
    if example.integers:
        return tuple(random.integers(0, example.integers, shape).astype("int32") for shape in example.inputs)
    return tuple(random.uniform(-8, 8, shape).astype("float32") for shape in example.inputs)


def config_of(rule: Rule, module: torch.nn.Module) -> Config:
    """The fields of the rule, read off the module as they are in a model."""
    view = torch_side.view(torch.nn.Sequential(module))
    return rule.config_of(view.layers[0])


def torch_tensors(module: torch.nn.Module) -> Tensors:
    """Copies of the parameters and buffers, by name."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: np.array(torch_side.to_numpy(tensor)) for name, tensor in named}


def keras_tensors(trial: Trial) -> Tensors:
    """Copies of the variables of the layer that owns the tensors, by today's names; the states of seeds left out."""
    view = keras_side.view(trial.layers[-1])
    named = {trial.rule.aliases.get(tensor.path, tensor.path): tensor.path for tensor in view.tensors()}
    return {name: np.array(view.read(path)) for name, path in named.items() if "seed_generator_state" not in name}


def mappings(trial: Trial) -> tuple[WeightMapping, ...]:
    """The rule's mappings, without those whose tensors neither side has."""
    present = {*torch_tensors(trial.module)}, {*keras_tensors(trial)}
    return tuple(
        mapping
        for mapping in trial.rule.weights(trial.config)
        if present[0].intersection(mapping.torch) or present[1].intersection(mapping.keras)
    )


def transfer(trial: Trial) -> None:
    """Writes the torch tensors into the Keras layer, by the mappings. A tensor that is missing is left to the laws."""
    tensors, known = torch_tensors(trial.module), keras_tensors(trial)
    for mapping in mappings(trial):
        if not (tensors.keys() >= {*mapping.torch} and known.keys() >= {*mapping.keras}):
            continue
        results = mapping.transform(tuple(tensors[name] for name in mapping.torch))
        fitting = {
            name: value for name, value in zip(mapping.keras, results, strict=True) if value.shape == known[name].shape
        }
        keras_side.write(trial.layers[-1], fitting)


def to_keras_layout(rule: Rule, array: Array) -> Array:
    """An array in torch's layout, as Keras has it."""
    return np.moveaxis(array, 1, -1) if rule.layout == "channels" and array.ndim > 2 else array


def _build(layers: tuple[keras.layers.Layer, ...], arrays: list[Array]) -> Iterator[tuple[Shape, ...]]:
    for layer in layers:
        yield tuple(array.shape for array in arrays)
        arrays = list(keras_side.run(layer, tuple(arrays)).outputs.values())


def law_transforms(trial: Trial) -> None:
    """Law 1: the transforms lead back, bit for bit, and can be written down."""
    tensors = torch_tensors(trial.module)
    for transform, names in [(mapping.transform, mapping.torch) for mapping in mappings(trial)]:
        arrays = tuple(tensors[name] for name in names)
        results = transform(arrays)
        assert transform.inverse.inverse == transform
        assert from_json(transform.to_json()) == transform
        assert _bits(transform(transform.inverse(results))) == _bits(results), f"{transform!r}: Keras to torch to Keras"
        if transform.lossless:
            assert _bits(transform.inverse(results)) == _bits(arrays), f"{transform!r}: torch to Keras to torch"


def law_shapes(trial: Trial) -> None:
    """Law 2: the transforms make the shapes that the Keras layer has."""
    tensors, known = torch_tensors(trial.module), keras_tensors(trial)
    for mapping in mappings(trial):
        made = mapping.transform.shapes(tuple(tensors[name].shape for name in mapping.torch))
        wanted = tuple(known[name].shape for name in mapping.keras)
        assert made == wanted, f"{mapping.torch} becomes {made}, {mapping.keras} is {wanted}"


def law_names(trial: Trial) -> None:
    """Law 3: every tensor of both sides is named once, in the order in which Keras creates its variables."""
    named = mappings(trial)
    torch_names = sorted(name for mapping in named for name in mapping.torch)
    wanted = sorted(torch_tensors(trial.module).keys() - trial.rule.ignored.keys())
    assert torch_names == wanted, f"torch: the rule names {torch_names}, the layer has {wanted}"
    keras_names = [name for mapping in named for name in mapping.keras]
    variables = [*keras_tensors(trial)]
    assert keras_names == variables, f"keras: the rule names {keras_names}, the layer has {variables}"
    for layer in trial.layers[:-1]:
        assert not layer.weights, f"{layer.name} is not the last layer and owns tensors"


def law_float64(trial: Trial) -> None:
    """Law 4: in float64 both sides compute the same, to rounding."""
    expected = torch_outputs(trial, float64=True)
    actual = keras_outputs(trial, float64=True)
    _require_agreement(actual, expected, FLOAT64_AGREEMENT, "output")


def law_float32(trial: Trial) -> None:
    """Law 4, deployed: in float32 both sides differ by no more than torch's own rounding."""
    source, truth = torch_outputs(trial, float64=False), torch_outputs(trial, float64=True)
    for actual, here, exact in zip(keras_outputs(trial, float64=False), source, truth, strict=True):
        assert actual.shape == here.shape, f"shape {actual.shape} is not {here.shape}"
        assert actual.dtype == here.dtype
        judgement = judge(actual, here, exact)
        assert judgement.passed, str(judgement)


def law_training(trial: Trial) -> None:
    """Law 4 in training mode: outputs, and every tensor afterwards, agree. Only for rules that claim it."""
    if not trial.rule.train:
        return
    expected, after_torch = torch_training(trial)
    actual, after_keras = keras_training(trial)
    _require_agreement(actual, expected, FLOAT64_AGREEMENT, "training output")
    for mapping in mappings(trial):
        wanted = mapping.transform(tuple(after_torch[name] for name in mapping.torch))
        found = [after_keras[name] for name in mapping.keras]
        _require_agreement(found, list(wanted), FLOAT64_AGREEMENT, f"{mapping.keras} after a training step")


def law_moving_statistics(trial: Trial) -> None:
    """Law 4 for batch statistics: in training both sides move alike, up to torch's N/(N-1) for the variance."""
    before = torch_tensors(trial.module)
    if "running_var" not in before:
        return
    expected, after_torch = torch_training(trial)
    actual, after_keras = keras_training(trial)
    _require_agreement(actual, expected, FLOAT64_AGREEMENT, "training output")
    number = trial.inputs[0].size // trial.inputs[0].shape[1]
    kept = (1 - trial.config["momentum"]) * before["running_var"].astype("float64")
    biased = kept + (after_torch["running_var"] - kept) * (number - 1) / number
    _require_agreement([after_keras["moving_mean"]], [after_torch["running_mean"]], FLOAT64_AGREEMENT, "moving mean")
    _require_agreement([after_keras["moving_variance"]], [biased], FLOAT64_AGREEMENT, "moving variance")


def law_gradients(trial: Trial) -> None:
    """Law 5: the gradients with respect to the inputs and to every trained tensor agree."""
    if not all(np.issubdtype(array.dtype, np.floating) for array in torch_outputs(trial, float64=True)):
        return
    inputs_torch, torch_found = torch_gradients(trial)
    inputs_keras, keras_found = keras_gradients(trial)
    _require_agreement(inputs_keras, inputs_torch, FLOAT64_GRADIENTS, "gradient of the input")
    for mapping in mappings(trial):
        # A lossless transform only moves values, so it moves their gradients as well; a sum does not.
        if mapping.transform.lossless and torch_found.keys() >= {*mapping.torch}:
            wanted = mapping.transform(tuple(torch_found[name] for name in mapping.torch))
            found = [keras_found[name] for name in mapping.keras]
            _require_agreement(found, list(wanted), FLOAT64_GRADIENTS, f"gradient of {mapping.keras}")


def law_way_back(trial: Trial) -> None:
    """Law 6: what the rule made, and what the built Keras layers say of themselves, leads back to the torch layer."""
    for specs in (specs_of_rule(trial), specs_of_layers(trial)):
        back = trial.rule.to_torch(specs)
        assert [spec.kind for spec in back] == [trial.rule.torch], f"came back as {back}"
        found = {name: back[0].config.get(name, "nothing") for name in trial.rule.fields}
        if trial.example.canonical:
            assert found == trial.config, f"came back as {found}, was {trial.config}"
        else:
            assert trial.rule.to_keras(found) == trial.specs, f"{found} becomes another Keras layer"
        _require_same_function(trial, back[0])


def law_applies(trial: Trial) -> None:
    """Law 6, and the rule is for its own examples, and makes its own Keras class."""
    assert trial.rule.applies(trial.config)
    kinds = keras_side.view(trial.layers[-1]).layers[0].kinds
    assert trial.rule.keras in kinds, f"{trial.rule.keras} is none of {kinds}"


LAWS: tuple[Law, ...] = (
    law_applies,
    law_names,
    law_transforms,
    law_shapes,
    law_float64,
    law_float32,
    law_training,
    law_moving_statistics,
    law_gradients,
    law_way_back,
)


def specs_of_rule(trial: Trial) -> LayerSpecs:
    """The rule's own Keras layers, with the shapes that they really have."""
    return tuple(
        replace(spec, shapes=_shapes(layer), inputs=inputs)
        for spec, layer, inputs in zip(trial.specs, trial.layers, trial.input_shapes, strict=True)
    )


def specs_of_layers(trial: Trial) -> LayerSpecs:
    """The built Keras layers as they describe themselves."""
    return tuple(spec_of_layer(layer, inputs) for layer, inputs in zip(trial.layers, trial.input_shapes, strict=True))


def spec_of_layer(layer: keras.layers.Layer, inputs: tuple[Shape, ...]) -> LayerSpec:
    """A built Keras layer as it describes itself."""
    view = keras_side.view(layer).layers[0]
    return LayerSpec(kind=view.kind, config=view.config or {}, shapes=_shapes(layer), inputs=inputs)


def _shapes(layer: keras.layers.Layer) -> Mapping[str, Shape]:
    return {tensor.path: tensor.shape for tensor in keras_side.view(layer).tensors()}


def _require_same_function(trial: Trial, spec: LayerSpec) -> None:
    again = resolve(spec.kind)(**spec.config).eval()
    torch_side.write(again, torch_tensors(trial.module))
    actual = torch_outputs(replace(trial, module=again), float64=True)
    _require_agreement(actual, torch_outputs(trial, float64=True), FLOAT64_AGREEMENT, "output of the layer made again")


def _require_agreement(actual: list[Array], expected: list[Array], limit: float, what: str) -> None:
    for found, wanted in zip(actual, expected, strict=True):
        assert found.shape == wanted.shape, f"{what}: shape {found.shape} is not {wanted.shape}"
        diff = compare(found, wanted)
        assert diff.nonfinite == 0, f"{what}: {diff.nonfinite} values are not finite"
        assert diff.max_rel <= limit, f"{what}: {diff}"


def _bits(arrays: tuple[Array, ...]) -> list[tuple[str, Shape, bytes]]:
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]


def torch_outputs(trial: Trial, *, float64: bool) -> list[Array]:
    """What the torch layer computes, in Keras' layout."""
    outputs = torch_side.run(trial.module, trial.inputs, float64=float64).outputs
    return [to_keras_layout(trial.rule, array) for array in outputs.values()]


def keras_outputs(trial: Trial, *, float64: bool) -> list[Array]:
    """What the Keras layers compute, one after the other."""
    arrays = [to_keras_layout(trial.rule, array) for array in trial.inputs]
    with ExitStack() as contexts:
        contexts.enter_context(keras_side.precise())
        if float64:
            _enter_float64(contexts, trial.layers)
            arrays = [_wide(array) for array in arrays]
        for layer in trial.layers:
            arrays = list(keras_side.run(layer, tuple(arrays)).outputs.values())
    return arrays


def torch_training(trial: Trial) -> tuple[list[Array], Tensors]:
    """One call of the torch layer in float64 and in training mode: the outputs, and the tensors afterwards."""
    module = copy.deepcopy(trial.module).double().train()
    outputs = module(*[torch_side.to_torch(_wide(array)) for array in trial.inputs])
    return [to_keras_layout(trial.rule, np.array(torch_side.to_numpy(outputs)))], torch_tensors(module)


def keras_training(trial: Trial) -> tuple[list[Array], Tensors]:
    """One call of the Keras layers in float64 and in training mode: the outputs, and the variables afterwards."""
    with ExitStack() as contexts:
        _enter_float64(contexts, trial.layers)
        value = [_keras_tensor(trial, array) for array in trial.inputs]
        for layer in trial.layers:
            value = [layer(*value, training=True)]
        return [np.array(keras_side.to_numpy(value[0]))], keras_tensors(trial)


def torch_gradients(trial: Trial) -> tuple[list[Array], Tensors]:
    """The gradients of a weighted sum of the output, in float64: of the inputs (in Keras' layout), of the tensors."""
    module = copy.deepcopy(trial.module).double()
    inputs = [torch_side.to_torch(_wide(array)) for array in trial.inputs]
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    output = module(*inputs)
    (output * torch_side.to_torch(_cotangent(tuple(output.shape)))).sum().backward()
    return (
        [to_keras_layout(trial.rule, _gradient(tensor)) for tensor in inputs if tensor.is_floating_point()],
        {name: _gradient(tensor) for name, tensor in module.named_parameters()},
    )


def keras_gradients(trial: Trial) -> tuple[list[Array], Tensors]:
    """The same gradients on the Keras side, by the backend's own differentiation."""
    (shape,) = [array.shape for array in torch_side.run(trial.module, trial.inputs, float64=True).outputs.values()]
    cotangent = to_keras_layout(trial.rule, _cotangent(shape))
    differentiate = {"torch": _differentiate_torch, "jax": _differentiate_jax, "tensorflow": _differentiate_tensorflow}
    with ExitStack() as contexts:
        _enter_float64(contexts, trial.layers)
        inputs = [_keras_tensor(trial, array) for array in trial.inputs]
        found, of_variables = differentiate[keras_side.backend()](trial, inputs, cotangent)
        names = [variable.path.rpartition("/")[2] for variable in trial.layers[-1].trainable_variables]
        return found, dict(zip(names, of_variables, strict=True))


def _differentiate_torch(trial: Trial, inputs: list[Any], cotangent: Array) -> tuple[list[Array], list[Array]]:
    real = [tensor.requires_grad_() for tensor in inputs if tensor.is_floating_point()]
    value = inputs
    for layer in trial.layers:
        value = [layer(*value, training=False)]
    (value[0] * torch_side.to_torch(np.array(cotangent))).sum().backward()
    variables = [variable.value for variable in trial.layers[-1].trainable_variables]
    return [_gradient(tensor) for tensor in real], [_gradient(tensor) for tensor in variables]


def _differentiate_jax(trial: Trial, inputs: list[Any], cotangent: Array) -> tuple[list[Array], list[Array]]:
    import jax

    *before, last = trial.layers
    fixed = [variable.value for variable in last.non_trainable_variables]
    real = [place for place, tensor in enumerate(inputs) if "float" in str(tensor.dtype)]

    def loss(reals: list[Any], trained: list[Any]) -> Any:
        value = [*inputs]
        for place, tensor in zip(real, reals, strict=True):
            value[place] = tensor
        for layer in before:
            value = [layer(*value)]
        output, _ = last.stateless_call(trained, fixed, *value)
        return (output * cotangent).sum()

    trained = [variable.value for variable in last.trainable_variables]
    of_inputs, of_variables = jax.jit(jax.grad(loss, argnums=(0, 1)))([inputs[place] for place in real], trained)
    return [np.asarray(value) for value in of_inputs], [np.asarray(value) for value in of_variables]


def _differentiate_tensorflow(trial: Trial, inputs: list[Any], cotangent: Array) -> tuple[list[Array], list[Array]]:
    import tensorflow as tf

    variables = [variable.value for variable in trial.layers[-1].trainable_variables]
    real = [tensor for tensor in inputs if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(real)
        value = inputs
        for layer in trial.layers:
            value = [layer(*value, training=False)]
        loss = tf.reduce_sum(value[0] * cotangent)
    of_inputs, of_variables = tape.gradient(loss, (real, variables))
    return [tensor.numpy() for tensor in of_inputs], [tf.convert_to_tensor(tensor).numpy() for tensor in of_variables]


def _gradient(tensor: torch.Tensor) -> Array:
    """A gradient; zero where the output does not depend on the tensor."""
    gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
    return np.array(torch_side.to_numpy(gradient))


def _cotangent(shape: Shape) -> Array:
    return np.random.default_rng(11).uniform(0.5, 1.5, shape)


def _enter_float64(contexts: ExitStack, layers: tuple[keras.layers.Layer, ...]) -> None:
    for layer in layers:
        contexts.enter_context(keras_side.float64_mode(layer))


def _wide(array: Array) -> Array:
    return array.astype("float64") if array.dtype.kind == "f" else array


def _keras_tensor(trial: Trial, array: Array) -> Any:
    wide = np.array(_wide(to_keras_layout(trial.rule, array)), order="C")
    return keras.ops.convert_to_tensor(wide, dtype=wide.dtype.name)
