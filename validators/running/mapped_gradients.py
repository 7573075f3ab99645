"""Map the gradients of both models to each other by the plan."""

from collections.abc import Iterator, Mapping

import numpy as np

from keras3conv.frameworks.shared.inputs import SEED
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array, Arrays
from keras3conv.validators.running.permutation import is_permutation
from keras3conv.validators.running.subject import Subject


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
