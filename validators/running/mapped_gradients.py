"""Compute the gradients of both models for one loss, and map them to each other by the plan."""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.frameworks.shared.inputs_random import SEED
from keras3conv.frameworks.shared.layout import channels_first
from keras3conv.frameworks.shared.layout import moved as moved_shape
from keras3conv.frameworks.shared.recording import Backward
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array, Arrays, Shape, Transform
from keras3conv.validators.running.batch_norms import BatchNorm
from keras3conv.validators.running.output_pairs import output_pairs
from keras3conv.validators.running.subject import Subject

LossWeights = tuple[dict[str, Array], dict[str, Array]]
"""The weight of every output element in the loss, for torch and for Keras."""


def torch_backward(
    subject: Subject,
    loss_weights: Mapping[str, Array],
    trained: list[tuple[Pair, WeightMapping]],
    norms: tuple[BatchNorm, ...],
) -> Backward:
    """Run one backward pass of the torch module in float64 with the random weights.

    Args:
        subject: The two models.
        loss_weights: The weight of every output element in the loss.
        trained: The mappings of the tensors whose gradients are returned, with their pairs.
        norms: The batch normalisations that run in training mode.
    """
    from keras3conv.frameworks.torch import gradients as torch_gradients

    return torch_gradients.backward(
        subject.torch,
        subject.required_inputs.torch,
        subject.probe_weights,
        loss_weights,
        of=[path for _, mapping in trained for path in mapping.torch],
        training=[norm.pair.torch for norm in norms],
        in_parts=subject.in_parts,
    )


def keras_backward(
    subject: Subject,
    loss_weights: Mapping[str, Array],
    trained: list[tuple[Pair, WeightMapping]],
    norms: tuple[BatchNorm, ...],
) -> Backward:
    """Run one backward pass of the Keras model in float64 with the random weights; see `torch_backward`."""
    from keras3conv.frameworks.keras import gradients as keras_gradients
    from keras3conv.frameworks.keras import model as keras_side

    with keras_side.float64_weights(subject.keras, subject.keras_probe_weights):
        return keras_gradients.backward(
            subject.keras,
            subject.required_inputs.keras,
            loss_weights,
            of=[path for _, mapping in trained for path in mapping.keras],
            training=[norm.pair.keras for norm in norms],
        )


def tied_gradients(
    subject: Subject, mappings: list[WeightMapping], torch: Mapping[str, Array], keras: Mapping[str, Array]
) -> dict[str, Array]:
    """Return Keras' gradients of tensors that are tied in torch but separate in Keras, by torch path.

    The gradient of a tied tensor is the sum of the gradients of the separate variables.

    Args:
        subject: The two models.
        mappings: The mappings of trained tensors.
        torch: The gradients in torch, by path.
        keras: The gradients in Keras, by path.
    """
    storages = {tensor.path: tensor.storage for tensor in subject.torch_view.tensors() if tensor.storage}
    by_storage: dict[str, dict[str, Array]] = {}
    for mapping in mappings:
        if storages.keys() & set(mapping.torch):
            for path, _, keras_gradient in mapped_gradients(mapping, torch, keras):
                if path in storages:
                    by_storage.setdefault(storages[path], {})[path] = keras_gradient
    tied: dict[str, Array] = {}
    for gradients in by_storage.values():
        if len(gradients) > 1:
            tied |= dict.fromkeys(gradients, np.sum(list(gradients.values()), axis=0))
    return tied


def mapped_gradients(
    mapping: WeightMapping, torch: Mapping[str, Array], keras: Mapping[str, Array]
) -> Iterator[tuple[str, Array, Array]]:
    """Yield, for each torch tensor of a mapping, its path, torch's gradient, and Keras' gradient in torch's layout.

    A transform that only permutes elements permutes their gradients in the same way. For any other transform, yield
    instead the derivatives of the two losses along one random direction: they are equal if the models are.
    """
    torch_gradients = tuple(torch[path] for path in mapping.torch)
    keras_gradients = tuple(keras[path] for path in mapping.keras)
    if is_permutation(mapping.transform, tuple(array.shape for array in torch_gradients)):
        in_torch_layout = mapping.transform.inverse(keras_gradients)
        yield from zip(mapping.torch, torch_gradients, in_torch_layout, strict=True)
        return
    generator = np.random.default_rng(SEED)
    transform = mapping.transform
    torch_steps = tuple(generator.uniform(-1.0, 1.0, array.shape) for array in torch_gradients)
    origin = transform(tuple(np.zeros(array.shape) for array in torch_gradients))
    keras_steps = tuple(new - old for new, old in zip(transform(torch_steps), origin, strict=True))
    torch_derivative = _directional_derivative(torch_gradients, torch_steps)
    yield ", ".join(mapping.torch), torch_derivative, _directional_derivative(keras_gradients, keras_steps)


def _directional_derivative(gradients: Arrays, steps: Arrays) -> Array:
    return np.array([sum(float(np.sum(gradient * step)) for gradient, step in zip(gradients, steps, strict=True))])


@lru_cache(maxsize=1024)
def is_permutation(transform: Transform, shapes: tuple[Shape, ...]) -> bool:
    """Return whether a transform only permutes elements of arrays with these shapes, tested on `arange` arrays."""
    numbered, start = [], 1
    for shape in shapes:
        size = math.prod(shape)
        numbered.append(np.arange(start, start + size, dtype=np.float64).reshape(shape))
        start += size
    transformed = transform(tuple(numbered))
    if sum(array.size for array in transformed) != start - 1:
        return False
    seen = np.zeros(start, dtype=bool)
    for array in transformed:
        places = array.astype(np.int64)
        if not np.array_equal(places, array) or places.min(initial=1) < 1 or places.max(initial=1) >= start:
            return False
        seen[places.ravel()] = True
    return bool(seen[1:].all())


def weights_of_the_loss(subject: Subject) -> LossWeights | str:
    """Return the weight of each output element in the loss, for torch and Keras.

    If there can be no loss, return the reason instead.
    """
    generator = np.random.default_rng(SEED)
    torch: dict[str, Array] = {}
    keras: dict[str, Array] = {}
    for pair in output_pairs(subject.torch_probe, subject.keras_probe):
        if pair.mismatch:
            return f"the outputs cannot be compared: {pair.mismatch}"
        if pair.keras_output.dtype.kind == "f":
            weight = generator.uniform(0.5, 1.5, pair.keras_output.shape)
            keras[pair.keys[1]] = weight
            shape = subject.torch_probe.outputs[pair.keys[0]].shape
            if pair.layout.startswith("channels moved last"):
                weight = channels_first(weight.reshape(moved_shape(shape)))
            torch[pair.keys[0]] = np.ascontiguousarray(weight.reshape(shape))
    return (torch, keras) if keras else "no output is floating point, so nothing has a gradient"
