"""Find the torch tensors that a Keras layer does not have, and the constant that they must hold.

A normalisation without a scale equals one with a scale of ones. The probe gives such tensors their constant, so that it
finds the pair; the transfer checks the real values.
"""

from collections.abc import Iterable, Iterator

from keras3conv.alignment.binding import make_pair
from keras3conv.model.views import LayerView
from keras3conv.planner.evidence.keys import by_key, first_common, keras_keys, torch_keys
from keras3conv.transforms import Drop


def constants(torch: Iterable[LayerView], keras: Iterable[LayerView]) -> dict[str, int]:
    """Return the constant of every torch tensor that a fitting Keras layer does not have, by path."""
    torch_layers, keras_layers = tuple(torch), tuple(keras)
    found: dict[str, int] = {}
    for in_keras in (False, True):
        for first, second in _fitting(torch_layers, keras_layers, in_keras=in_keras):
            rule = first_common(second[1], first[1])
            for mapping in make_pair(rule, first[0], second[0], ()).weights if rule is not None else ():
                if isinstance(mapping.transform, Drop):
                    found[mapping.torch[0]] = mapping.transform.value
    return found


_Named = tuple[LayerView, list[str]]


def _fitting(
    torch: tuple[LayerView, ...], keras: tuple[LayerView, ...], *, in_keras: bool
) -> Iterator[tuple[_Named, _Named]]:
    """Yield every torch layer with every kind of fitting Keras layer, and the names of the rules that pair them."""
    keys_of_torch, keys_of_keras = torch_keys(torch, in_keras=in_keras), keras_keys(keras, in_keras=in_keras)
    fitting = by_key(torch, keys_of_torch)
    seen = set()
    for layer in keras:
        config = {name: value for name, value in (layer.config or {}).items() if name != "name"}
        for key, names in keys_of_keras[layer.path].items():
            if key not in fitting or (key, kind := repr(config)) in seen:
                continue
            seen.add((key, kind))
            for other in fitting[key]:
                yield (other, keys_of_torch[other.path][key]), (layer, names)
