"""Compare one step of SGD on both sides of a conversion, in float64 and in training mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

RATE = 0.1
"""The learning rate."""


def step_difference(model: Any, conversion: Any) -> float:
    """Return the difference of the weights after one step, relative to the change that the step makes.

    Both models start from the same weights and get the same images. Dropout is turned off, because torch and Keras draw
    different random numbers. The loss is a weighted sum of all output elements.

    Args:
        model: The Keras model; it is unchanged afterwards.
        conversion: The result of `convert` for this model; the converted module is unchanged afterwards.

    Returns:
        The maximum over all tensors of this ratio: the largest difference between the two models in a tensor, divided
        by the largest change of a value of the tensor in the step. For a tensor that hardly changes, as its exact
        gradient is zero, the divisor is a millionth of the largest change in any tensor.
    """
    import copy

    import torch

    import keras3conv as k3c
    from keras3conv.frameworks.keras.modes import float64_mode

    module = copy.deepcopy(conversion.model).double().train()
    for part in module.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    images = tuple(torch.from_numpy(array).double() for array in conversion.inputs)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = copy.deepcopy(module)
    weights = model.get_weights()
    with _without_dropout(model):
        with float64_mode(model):
            _step_keras(model, tuple(image.permute(0, 2, 3, 1) for image in images))
            k3c.transfer(model, expected, conversion.alignment)
        model.set_weights(weights)
    found = module(*images)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    (found * _counts(found)).sum().backward()
    optimizer.step()
    after, wanted = module.state_dict(), expected.state_dict()
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    moved = {name: float((wanted[name] - before[name]).abs().max()) for name in trained}
    floor = max(moved.values()) * 1e-6
    return max(float((after[name] - wanted[name]).abs().max()) / max(moved[name], floor) for name in trained)


@contextmanager
def _without_dropout(model: Any) -> Iterator[None]:
    """Disable the dropout of a model while the block runs."""
    rates = [
        (layer, name, getattr(layer, name))
        for layer in model._flatten_layers()
        for name in ("rate", "drop_path_rate")
        if isinstance(getattr(layer, name, None), float)
    ]
    try:
        for layer, name, _ in rates:
            setattr(layer, name, 0.0)
        yield
    finally:
        for layer, name, rate in rates:
            setattr(layer, name, rate)


def _step_keras(model: Any, images: tuple[Any, ...]) -> None:
    """Make one training step of a Keras model on its backend: torch or TensorFlow."""
    import keras

    variables = model.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            found = model([image.numpy() for image in images] if len(images) > 1 else images[0].numpy(), training=True)
            loss = tf.reduce_sum(found * _counts(found).numpy())
        keras.optimizers.SGD(RATE).apply(tape.gradient(loss, [one.value for one in variables]), variables)
        return
    import torch

    found = model(images if len(images) > 1 else images[0], training=True)
    (found * _counts(found)).sum().backward()
    gradients = [variable.value.grad for variable in variables]
    with torch.no_grad():
        keras.optimizers.SGD(RATE).apply(gradients, variables)


def _counts(outputs: Any) -> Any:
    """Return the weight of each output element in the loss."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(outputs.shape), generator=generator, dtype=torch.float64)
