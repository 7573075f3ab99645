"""Choose the tensor values for the probe: random weights, and 0 or 1 for biases and scales that Keras lacks.

A normalisation without a scale computes the same as one with a scale of ones. So the probe sets a scale that Keras
lacks to one, and such a bias to zero: then the outputs agree. The transfer checks the real values.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping

import numpy as np

from keras3conv.alignment.binding import make_pair
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.numerics.probe_values import Pool, probe
from keras3conv.planner.evidence.keys import (
    by_key,
    first_common,
    keras_keys,
    one_sided_cores,
    one_sided_keras_keys,
    one_sided_torch_keys,
    signature_of,
    torch_keys,
)
from keras3conv.rules.constants import is_constant
from keras3conv.transforms import Array, Drop


def probe_weights(layers: Iterable[LayerView], constants: Mapping[str, int]) -> dict[str, Array]:
    """Return random values for every weight of these torch layers, by path; all names of a tied tensor share one array.

    A buffer gets values only if a rule pairs it with a variable, such as a moving average; others keep their values.

    Args:
        layers: The layers.
        constants: 0 or 1 for each tensor that the Keras model lacks, by path; it is used instead of random values.
    """
    pool = Pool()
    units = tuple(layers)
    keys = torch_keys(units)
    weights: dict[str, Array] = {}
    ties: dict[str, Array] = {}
    for layer in units:
        known = {role for key in keys[layer.path] for role, _ in key[1]}
        for tensor in layer.tensors:
            if not is_weight(tensor) or not (tensor.trainable or tensor.role in known):
                continue
            values = ties.get(tensor.storage) if tensor.storage else None
            if values is None:
                constant = constants.get(tensor.path)
                stacked = tensor.role not in known and len(tensor.shape) == 3
                values = probe(tensor, pool, stacked=stacked)
                if constant is not None:
                    values = np.full(tensor.shape, float(constant))
            weights[tensor.path] = values
            ties[tensor.storage] = values
    return weights


def own_values(view: ModelView, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return the model's own values, by path, of the floating-point buffers that get no random values.

    Args:
        view: The view of the torch model.
        weights: The random values of the other tensors, by path.
    """
    buffers = (one for one in view.tensors() if not one.trainable and one.path not in weights and is_weight(one))
    return {buffer.path: np.asarray(view.read(buffer.path), np.float64) for buffer in buffers}


def is_weight(tensor: TensorRef) -> bool:
    """Return whether a tensor is a weight: not a counter, and not a constant that follows from the model's sizes."""
    return tensor.dtype.startswith(("float", "bfloat")) and not is_constant(tensor)


def constants(torch: Iterable[LayerView], keras: Iterable[LayerView]) -> dict[str, int]:
    """Return the torch biases and scales that a fitting Keras layer lacks, with the value (0 or 1) of each, by path."""
    torch_layers, keras_layers = tuple(torch), tuple(keras)
    found: dict[str, int] = {}
    fitting = [
        *_fitting(torch_layers, keras_layers, in_keras=False),
        *_fitting(torch_layers, keras_layers, in_keras=True),
        *_fitting_one_sided(torch_layers, keras_layers),
    ]
    signatures = {id(layer): signature_of(layer) for layer in torch_layers}
    without: set[Hashable] = set()  # the kinds of pairs in which no tensor is left over: deep models have few kinds
    for first, second in fitting:
        rule = first_common(second[1], first[1])
        kind = (rule and rule.name, signatures[id(first[0])], id(second[0]))
        if rule is None or kind in without:
            continue
        weights = make_pair(rule, first[0], second[0], ()).weights
        dropped = {weight.torch[0]: weight.transform.value for weight in weights if isinstance(weight.transform, Drop)}
        if not dropped:
            without.add(kind)
        found |= dropped
    return found


_Named = tuple[LayerView, list[str]]


def _fitting_one_sided(torch: tuple[LayerView, ...], keras: tuple[LayerView, ...]) -> Iterator[tuple[_Named, _Named]]:
    """Yield pairs of a torch and a Keras layer that fit, except for a bias or a scale that the Keras layer lacks.

    Each layer comes with the names of its rules. Of several Keras layers with the same class and shapes, only the first
    is yielded.
    """
    torch_keys_by_path = one_sided_torch_keys(torch, scales=True)
    keras_keys_by_path = one_sided_keras_keys(keras, scales=True)
    cores = one_sided_cores(torch_keys_by_path, keras_keys_by_path)
    seen = set()
    for layer in keras:
        for key, names in keras_keys_by_path[layer.path].items():
            if key.core not in cores or key in seen:
                continue
            seen.add(key)
            for other in torch:
                for other_key, other_names in torch_keys_by_path[other.path].items():
                    if other_key.core == key.core and other_key.neutral - key.neutral:
                        yield (other, other_names), (layer, names)


def _fitting(
    torch: tuple[LayerView, ...], keras: tuple[LayerView, ...], *, in_keras: bool
) -> Iterator[tuple[_Named, _Named]]:
    """Yield pairs of a torch and a Keras layer that fit each other, each layer with the names of its rules.

    Of several Keras layers with the same class, shapes and configuration, only the first is yielded.

    Args:
        torch: The torch layers.
        keras: The Keras layers.
        in_keras: Whether the layers must fit by the shapes that their tensors have in Keras instead of in torch.
    """
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
