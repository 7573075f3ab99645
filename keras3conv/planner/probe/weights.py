"""Draw the random weights with which the probe runs both models."""

from collections.abc import Iterable, Mapping

import numpy as np

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.probe_values import Pool, probe
from keras3conv.planner.evidence.keys import torch_keys
from keras3conv.rules.constants import is_constant
from keras3conv.transforms import Array


def probe_weights(layers: Iterable[LayerView], constants: Mapping[str, int]) -> dict[str, Array]:
    """Return random values for every weight of these torch layers, by path; all names of a tied tensor share one array.

    A buffer gets values only if a rule pairs it with a variable, such as a moving average; others keep their values.

    Args:
        layers: The layers.
        constants: The constant of each tensor that the Keras side lacks, by path; it is used instead of random values.
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


def is_weight(tensor: TensorRef) -> bool:
    """Return whether a tensor is a weight: not a counter, and not a constant that follows from the model's sizes."""
    return tensor.dtype.startswith(("float", "bfloat")) and not is_constant(tensor)
