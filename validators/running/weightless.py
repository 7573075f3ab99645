"""Pair layers without weights (dropout, activations, pooling), which no plan lists.

Two such layers are a pair if a rule exists for their classes, and both have the same input in the float64 run with
random weights, or the same output of inputs that differ by a border.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.frameworks.shared.layout import output_of
from keras3conv.frameworks.shared.recording import Call
from keras3conv.model.views import LayerView, Side
from keras3conv.numerics.difference import compare
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import Rule
from keras3conv.validators.running.isolated import nearest_input
from keras3conv.validators.running.neighbours import agrees, outputs_agree
from keras3conv.validators.running.subject import Subject


@dataclass(frozen=True, kw_only=True)
class WeightlessPair:
    """A torch layer and a Keras layer without weights that correspond.

    Attributes:
        pair: The two layers.
        same_output: Whether both layers returned the same values.
    """

    pair: Pair
    same_output: bool

    @property
    def key(self) -> tuple[str, str]:
        """The paths of the torch layer and the Keras layer."""
        return self.pair.torch, self.pair.keras


def weightless_pairs(subject: Subject) -> Iterator[WeightlessPair]:
    """Yield the pairs of layers without weights, in torch's call order; a layer is in at most one pair.

    Layers with equal inputs and outputs are paired first, then those with equal outputs one of which gets an input of
    another shape: a layer before it pads. Layers with different outputs are paired only if the models differ. If the
    models agree, such a layer is part of another layer on the other side: a padding may be part of a convolution.
    """
    torch_paths, keras_paths = _weightless_paths(subject, "torch"), _weightless_paths(subject, "keras")
    matched: list[WeightlessPair] = []
    ways = [(_has_same_input, True), (_has_other_shape, True)]
    if not outputs_agree(subject):
        ways.append((_has_same_input, False))
    for fits, same_output in ways:
        paired = {path for match in matched for path in match.key}
        torch_rest = [path for path in torch_paths if path not in paired]
        keras_rest = [path for path in keras_paths if path not in paired]
        matched += _match(subject, torch_rest, keras_rest, fits, same_output=same_output)
    order = {path: index for index, path in enumerate(torch_paths)}
    yield from sorted(matched, key=lambda match: order[match.pair.torch])


def _match(
    subject: Subject,
    torch_paths: list[str],
    keras_paths: list[str],
    fits: Callable[[Call, Call], bool],
    *,
    same_output: bool,
) -> list[WeightlessPair]:
    """Pair layers whose first calls fit, and which have, as `same_output` says, equal or different outputs.

    Args:
        subject: The two models.
        torch_paths: The paths of the torch layers.
        keras_paths: The paths of the Keras layers.
        fits: Returns whether the inputs of a torch call and a Keras call can be those of one pair.
        same_output: Whether the outputs must be equal; else they must differ.
    """
    unpaired = [path for path in keras_paths if subject.keras_probe.of(path)]
    matched = []
    for torch_path in torch_paths:
        for keras_path in unpaired:
            rule = _rule_if(fits, subject, torch_path, keras_path)
            if rule is not None and _has_same_output(subject, rule, torch_path, keras_path) is same_output:
                unpaired.remove(keras_path)
                evidence = (Evidence(kind="call order"),)
                pair = Pair(torch=torch_path, keras=keras_path, rule=rule.name, weights=(), evidence=evidence)
                matched.append(WeightlessPair(pair=pair, same_output=same_output))
                break
    return matched


def _weightless_paths(subject: Subject, side: Side) -> list[str]:
    """Return the paths of the recorded layers of a side that have no weights, in call order."""
    run = subject.torch_probe if side == "torch" else subject.keras_probe
    return list(dict.fromkeys(call.path for call in run.calls if call.path in subject.weightless[side]))


def _rule_if(fits: Callable[[Call, Call], bool], subject: Subject, torch_path: str, keras_path: str) -> Rule | None:
    """Return the rule for two layers; None if there is none, or if the inputs of their first calls do not fit."""
    calls = subject.torch_probe.of(torch_path)
    if not calls or not calls[0].inputs:
        return None
    rule = _rule(subject.torch_layers[torch_path], subject.keras_layers[keras_path])
    if rule is None or not fits(calls[0], subject.keras_probe.of(keras_path)[0]):
        return None
    return rule


def _rule(torch_layer: LayerView, keras_layer: LayerView) -> Rule | None:
    """Return the first rule for two layer classes that applies to the configuration of the torch layer."""
    rules = lookup(torch_layer.kinds, keras_layer.kinds)
    return next((rule for rule in rules if rule.applies(rule.config_of(torch_layer))), None)


def _has_same_input(torch_call: Call, keras_call: Call) -> bool:
    if not keras_call.inputs or not keras_call.inputs[0].size:
        return False
    keras_input = keras_call.inputs[0]
    torch_input = nearest_input(torch_call, keras_input)
    return torch_input is not None and agrees(compare(keras_input, torch_input))


def _has_other_shape(torch_call: Call, keras_call: Call) -> bool:
    """Return whether the inputs of two calls have another number of values, as one of them has a border."""
    return bool(keras_call.inputs) and keras_call.inputs[0].size not in {array.size for array in torch_call.inputs}


def _has_same_output(subject: Subject, rule: Rule, torch_path: str, keras_path: str) -> bool:
    torch_call, keras_call = subject.torch_probe.of(torch_path)[0], subject.keras_probe.of(keras_path)[0]
    if not torch_call.outputs or not keras_call.outputs:
        return False
    keras_output = keras_call.outputs[0]
    configs = subject.torch_layers[torch_path].config, subject.keras_layers[keras_path].config
    torch_output = output_of(torch_call.outputs, rule, *configs, keras_output.shape)
    if torch_output.shape != keras_output.shape or torch_output.size == 0:
        return False
    return agrees(compare(keras_output, torch_output))
