"""The laws that every rule must obey: functions that take a trial and raise `AssertionError`.

A trial is a rule with one of its examples: the torch layer and the Keras layers that the rule creates from it, filled
with the same probe weights.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.numerics.difference import compare
from keras3conv.numerics.judgement import judge
from keras3conv.rules.rule import Config, LayerSpecs, Rule
from keras3conv.transforms import Array, Shape, from_json
from tests.support.training import keras_gradients, keras_training, torch_gradients, torch_training
from tests.support.trial_layers import make_torch, resolve
from tests.support.trials import (
    Trial,
    assembled,
    config_of,
    keras_outputs,
    keras_tensors,
    mappings,
    specs_of_layers,
    specs_of_rule,
    torch_outputs,
    torch_tensors,
    with_inputs,
)

FLOAT64_AGREEMENT = 1e-12
"""The largest relative difference of one layer in float64: a few roundings of 1e-16 each."""

FLOAT64_GRADIENTS = 1e-11
"""The largest relative difference of gradients, which sum over more terms than outputs, some of which cancel."""

FLOAT64_ZERO = 1e-14
"""A gradient below this fraction of the layer's largest gradient counts as zero, because it is only rounding."""

Law = Callable[[Trial], None]


def law_transforms(trial: Trial) -> None:
    """Law 1: every transform is reversible bit for bit and survives the return trip through JSON."""
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
    """Law 2: the transforms produce the shapes of the variables of the Keras layer."""
    tensors, known = torch_tensors(trial.module), keras_tensors(trial)
    for mapping in mappings(trial):
        made = mapping.transform.shapes(tuple(tensors[name].shape for name in mapping.torch))
        wanted = tuple(known[name].shape for name in mapping.keras)
        assert made == wanted, f"{mapping.torch} becomes {made}, {mapping.keras} is {wanted}"


def law_names(trial: Trial) -> None:
    """Law 3: the rule names every tensor of both sides once, in the order in which Keras creates its variables."""
    named = mappings(trial)
    torch_names = sorted(name for mapping in named for name in mapping.torch)
    wanted = sorted(torch_tensors(trial.module).keys() - trial.rule.ignored.keys())
    assert torch_names == wanted, f"torch: the rule names {torch_names}, the layer has {wanted}"
    keras_names = [name for mapping in named for name in mapping.keras]
    variables = [*keras_tensors(trial)]
    message = f"keras: the rule names {keras_names}, the layer has {variables}"
    assert sorted(keras_names, key=_owner) == sorted(variables, key=_owner), (
        message
    )  # both sorts keep a layer's own order
    owning = [layer.name for layer in trial.layers if layer.weights]
    assert trial.rule.keras_count != 1 or len(owning) < 2, f"{owning} own tensors; the rule is about one layer"


def law_float64(trial: Trial) -> None:
    """Law 4: in float64 both sides compute the same values up to rounding."""
    _require_agreement(keras_outputs(trial, float64=True), trial.exact_outputs, FLOAT64_AGREEMENT, "output")


def law_float32(trial: Trial) -> None:
    """Law 4 in float32: both sides differ by no more than the rounding of torch itself."""
    source = torch_outputs(trial, float64=False)
    for actual, here, exact in zip(keras_outputs(trial, float64=False), source, trial.exact_outputs, strict=True):
        assert actual.shape == here.shape, f"shape {actual.shape} is not {here.shape}"
        assert actual.dtype == here.dtype
        judgement = judge(actual, here, exact)
        assert judgement.passed, str(judgement)


def law_training(trial: Trial) -> None:
    """Law 4 in training mode: the outputs and the updated tensors agree, for rules that claim it."""
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
    """Law 4 for batch statistics: the moving statistics agree up to the factor N/(N-1) of torch's variance.

    Of a rule with `train=True`, `law_training` compares them without a factor.
    """
    before = torch_tensors(trial.module)
    if "running_var" not in before or "momentum" not in trial.config or trial.rule.train:  # none, or frozen
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
    """Law 5: the gradients with respect to the inputs and to every trainable tensor agree."""
    if not all(np.issubdtype(array.dtype, np.floating) for array in trial.exact_outputs):
        return
    inputs_torch, torch_found = torch_gradients(trial)
    inputs_keras, keras_found = keras_gradients(trial)
    _require_agreement(inputs_keras, inputs_torch, FLOAT64_GRADIENTS, "gradient of the input")
    nothing = FLOAT64_ZERO * max(float(np.max(np.abs(array))) for array in (*inputs_torch, *torch_found.values()))
    for mapping in mappings(trial):
        # A lossless transform only moves values, so it moves their gradients as well; a sum does not.
        if mapping.transform.lossless and torch_found.keys() >= {*mapping.torch}:
            # Compared in torch's layout: in a packed tensor the part of the key's bias is zero up to rounding.
            wanted = [torch_found[name] for name in mapping.torch]
            # Where only Keras stores values (zeros between groups), only Keras has a gradient.
            stored = mapping.transform(tuple(np.ones_like(array) for array in wanted))
            given = zip(mapping.keras, stored, strict=True)
            found = mapping.transform.inverse(tuple(np.where(own, keras_found[name], 0) for name, own in given))
            if all(float(np.max(np.abs(array))) <= nothing for array in (*found, *wanted)):
                continue  # zero by mathematics: a softmax does not see the bias of a key
            _require_agreement(list(found), wanted, FLOAT64_GRADIENTS, f"gradient of {mapping.keras}")


def law_way_back(trial: Trial) -> None:
    """Law 6: the specs of the rule and the configurations of the built Keras layers lead back to the torch layer."""
    for specs in (specs_of_rule(trial), specs_of_layers(trial)):
        back = trial.rule.to_torch(specs)
        if trial.rule.torch_count == 1:
            assert [spec.kind for spec in back] == [trial.rule.torch], f"came back as {back}"
        found = config_of_specs(trial.rule, back)
        if trial.example.canonical:
            assert found == trial.config, f"came back as {found}, was {trial.config}"
        else:
            again = trial.rule.to_keras(with_inputs(found, trial.example))
            assert again == trial.specs, f"{found} becomes another Keras layer"
        _require_same_function(trial, back)


def law_applies(trial: Trial) -> None:
    """Law 7: the rule applies to its own examples and creates the Keras class that it names."""
    assert trial.rule.applies(trial.config)
    kinds = {kind for layer in trial.layers for kind in keras_side.view(layer).layers[0].kinds}
    kinds |= {spec.kind for spec in trial.specs}
    assert trial.rule.keras in kinds, f"{trial.rule.keras} is none of {sorted(kinds)}"


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


def config_of_specs(rule: Rule, specs: LayerSpecs) -> Config:
    """Return the fields of the torch layers that a rule created, by their numbers where there are several layers.

    A field that is no argument of the constructor (`in_proj_bias`, for `bias`) is read from the layer itself.
    """
    configs = [{name: spec.config.get(name, "nothing") for name in rule.fields} for spec in specs]
    for config, spec in zip(configs, specs, strict=True):
        missing = {name for name, value in config.items() if value == "nothing"}
        if missing and not missing <= inspect.signature(resolve(spec.kind)).parameters.keys():
            own = config_of(replace(rule, torch_count=1), make_torch(spec))
            attributes = missing - inspect.signature(resolve(spec.kind)).parameters.keys()
            config |= {name: own[name] for name in attributes & own.keys()}
    if rule.torch_count == 1:
        return configs[0]
    return {str(place): config for place, config in enumerate(configs)}


def _require_same_function(trial: Trial, specs: LayerSpecs) -> None:
    again = assembled(trial.rule, specs, trial.example).eval()
    config, inputs = config_of(trial.rule, again), trial.inputs
    torch_side.write(again, _brought_back(trial, with_inputs(config, trial.example), torch_tensors(again)))
    if {trial.rule.layout_for(config), trial.rule.layout_for(trial.config)} == {"same", "time"}:
        # Keras cannot tell which of torch's two layouts it came from: the recreated layer may have the other one.
        inputs = tuple(np.swapaxes(array, 0, 1) for array in inputs)
    actual = torch_outputs(replace(trial, module=again, config=config, inputs=inputs), float64=True)
    _require_agreement(actual, trial.exact_outputs, FLOAT64_AGREEMENT, "output of the recreated layer")


def _brought_back(trial: Trial, config: Config, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Transform the values of the Keras layers back to the tensors of a torch layer with this configuration."""
    stored = keras_tensors(trial)
    found: dict[str, Array] = {}
    for mapping in trial.rule.weights(config):
        if stored.keys() >= {*mapping.keras} and tensors.keys() & {*mapping.torch}:
            values = mapping.transform.inverse(tuple(stored[name] for name in mapping.keras))
            found |= dict(zip(mapping.torch, values, strict=True))
    return found


def _require_agreement(actual: list[Array], expected: list[Array], limit: float, what: str) -> None:
    for found, wanted in zip(actual, expected, strict=True):
        assert found.shape == wanted.shape, f"{what}: shape {found.shape} is not {wanted.shape}"
        diff = compare(found, wanted)
        assert diff.nonfinite == 0, f"{what}: {diff.nonfinite} values are not finite"
        assert diff.max_rel <= limit, f"{what}: {diff}"


def _owner(name: str) -> str:
    """Return the part of a layer that owns a tensor: "0" for "0/kernel", empty for a tensor of the layer itself."""
    return name.rpartition("/")[0]


def _bits(arrays: tuple[Array, ...]) -> list[tuple[str, Shape, bytes]]:
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]
