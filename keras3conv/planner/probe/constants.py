"""Tensors of torch that a Keras layer does without: they have one value, or the two layers are no pair.

A normalisation without a scale is one whose scale is ones. The probe gives such tensors that value, so that the pair
can be found; whether the model's own values are so too is checked when they are written.
"""

from collections.abc import Iterable, Iterator

from keras3conv.alignment.binding import make_pair
from keras3conv.model.views import LayerView
from keras3conv.planner.evidence.keys import by_key, first_common, keras_keys, torch_keys
from keras3conv.transforms import Drop


def constants(torch: Iterable[LayerView], keras: Iterable[LayerView]) -> dict[str, int]:
    """The value of every torch tensor that a Keras layer that fits has no place for, by path."""
    ours, theirs = tuple(torch), tuple(keras)
    found: dict[str, int] = {}
    for in_keras in (False, True):
        for first, second in _fitting(ours, theirs, in_keras=in_keras):
            rule = first_common(second[1], first[1])
            for mapping in make_pair(rule, first[0], second[0], ()).weights if rule is not None else ():
                if isinstance(mapping.transform, Drop):
                    found[mapping.torch[0]] = mapping.transform.value
    return found


_Named = tuple[LayerView, list[str]]


def _fitting(
    torch: tuple[LayerView, ...], keras: tuple[LayerView, ...], *, in_keras: bool
) -> Iterator[tuple[_Named, _Named]]:
    """Every torch layer with every kind of Keras layer that fits, and the names of the rules that say so."""
    ours, theirs = torch_keys(torch, in_keras=in_keras), keras_keys(keras, in_keras=in_keras)
    fitting = by_key(torch, ours)
    seen = set()
    for layer in keras:
        config = {name: value for name, value in (layer.config or {}).items() if name != "name"}
        for key, names in theirs[layer.path].items():
            if key not in fitting or (key, kind := repr(config)) in seen:
                continue
            seen.add((key, kind))
            for other in fitting[key]:
                yield (other, ours[other.path][key]), (layer, names)
