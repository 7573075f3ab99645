"""Weights that hide nothing: random, so that no two tensors are alike, and neither vanishing nor overflowing."""

from collections.abc import Iterable, Mapping

import numpy as np

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.probe_values import Pool, probe
from keras3conv.planner.evidence.keys import torch_keys
from keras3conv.rules.constants import is_constant
from keras3conv.transforms import Array


def probe_weights(layers: Iterable[LayerView], constants: Mapping[str, int]) -> dict[str, Array]:
    """Values for every weight of these torch layers, by path; one for all names of a tensor.

    Buffers count where a rule says what they are (a moving average); any other is left as its module computed it.

    Args:
        layers: The layers.
        constants: The value of tensors that the Keras side does without, by path.
    """
    pool = Pool()
    units = tuple(layers)
    keys = torch_keys(units)
    made: dict[str, Array] = {}
    ties: dict[str, Array] = {}
    for layer in units:
        known = {role for key in keys[layer.path] for role, _ in key[1]}
        for tensor in layer.tensors:
            if not moves(tensor) or not (tensor.trainable or tensor.role in known):
                continue
            values = ties.get(tensor.storage) if tensor.storage else None
            if values is None:
                constant = constants.get(tensor.path)
                stacked = tensor.role not in known and len(tensor.shape) == 3
                values = probe(tensor, pool, stacked=stacked)
                if constant is not None:
                    values = np.full(tensor.shape, float(constant))
            made[tensor.path] = values
            ties[tensor.storage] = made[tensor.path]
    return made


def moves(tensor: TensorRef) -> bool:
    """Whether a tensor is a weight: no counter, and no buffer that every model of its sizes computes."""
    return tensor.dtype.startswith(("float", "bfloat")) and not is_constant(tensor)
