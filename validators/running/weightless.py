"""Layers without weights that belong together: a dropout, a slope, a pooling. No plan has them, so the runs decide.

Two of them are a pair if a rule knows their classes and both were given the same, in float64, under probe weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.frameworks.shared.layout import output_of
from keras3conv.frameworks.shared.recording import Call
from keras3conv.model.views import LayerView
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import Rule
from keras3conv.transforms import Array
from keras3conv.validators.running.local import nearest_input
from keras3conv.validators.running.neighbours import ends_agree
from keras3conv.validators.running.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Weightless:
    """A pair of layers without weights.

    Attributes:
        pair: The pair.
        same_output: Whether both returned the same.
    """

    pair: Pair
    same_output: bool


def weightless_pairs(subject: Subject) -> Iterator[Weightless]:
    """The pairs of layers without weights, in the order in which torch calls them; each layer is in one at most.

    What returned the same is a pair before what did not. That is one only where the models differ: where they agree,
    such a layer has its counterpart inside another, as a padding in a convolution.
    """
    alike = _matched(subject, _paths(subject, "torch"), _paths(subject, "keras"), same_output=True)
    found = alike
    if not ends_agree(subject):
        left = (
            [path for path in _paths(subject, side) if path not in {getattr(one.pair, side) for one in alike}]
            for side in ("torch", "keras")
        )
        found = [*alike, *_matched(subject, *left, same_output=False)]
    places = {path: place for place, path in enumerate(_paths(subject, "torch"))}
    yield from sorted(found, key=lambda one: places[one.pair.torch])


def _matched(subject: Subject, torch: list[str], keras: list[str], *, same_output: bool) -> list[Weightless]:
    """The pairs among layers that were given the same, and that returned the same, or did not."""
    free = [path for path in keras if subject.keras_probe.of(path)]
    found = []
    for path in torch:
        for other in free:
            rule = _rule_if_given_the_same(subject, path, other)
            if rule is not None and _returned_the_same(subject, rule, path, other) is same_output:
                free.remove(other)
                evidence = (Evidence(kind="call order"),)
                pair = Pair(torch=path, keras=other, rule=rule.name, weights=(), evidence=evidence)
                found.append(Weightless(pair=pair, same_output=same_output))
                break
    return found


def _rule_if_given_the_same(subject: Subject, torch: str, keras: str) -> Rule | None:
    calls = subject.torch_probe.of(torch)
    if not calls or not calls[0].inputs:
        return None
    rule = _rule(subject.torch_layers[torch], subject.keras_layers[keras])
    return rule if rule and _is_given_the_same(calls[0], subject.keras_probe.of(keras)[0]) else None


def _paths(subject: Subject, side: str) -> list[str]:
    """The layers of a side that own nothing and that are recorded, in the order of their first calls."""
    layers = subject.torch_layers if side == "torch" else subject.keras_layers
    run = subject.torch_probe if side == "torch" else subject.keras_probe
    own = {path for path, layer in layers.items() if subject.is_weightless(layer)}
    return list(dict.fromkeys(call.path for call in run.calls if call.path in own))


def _rule(torch: LayerView, keras: LayerView) -> Rule | None:
    """The rule for the classes of two layers; that of the configuration, where several have one."""
    return next((rule for rule in lookup(torch.kinds, keras.kinds) if rule.applies(rule.config_of(torch))), None)


def _is_given_the_same(torch: Call, keras: Call) -> bool:
    given = keras.inputs[0] if keras.inputs else None
    if given is None or not given.size:
        return False
    nearest = nearest_input(torch, given)
    return nearest is not None and _agree(given, nearest)


def _returned_the_same(subject: Subject, rule: Rule, torch: str, keras: str) -> bool:
    first, second = subject.torch_probe.of(torch)[0], subject.keras_probe.of(keras)[0]
    if not first.outputs or not second.outputs:
        return False
    theirs = second.outputs[0]
    configs = subject.torch_layers[torch].config, subject.keras_layers[keras].config
    ours = output_of(first.outputs, rule, *configs, theirs.shape)
    return ours.shape == theirs.shape and ours.size > 0 and _agree(theirs, ours)


def _agree(actual: Array, expected: Array) -> bool:
    diff = compare(actual, expected)
    return diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0
