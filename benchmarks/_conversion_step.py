"""One step of SGD on both sides of a conversion, in float64 and in training mode."""

from typing import Any

RATE = 0.1
"""The rate of learning."""


def step_difference(model: Any, conversion: Any) -> float:
    """How far the weights are apart after one step, relative to how far the step moved them.

    Both sides start from the same weights and see the same images; dropout is turned off, since the two sides draw
    other random numbers. The loss weighs every output with a number of its own.

    Args:
        model: The Keras model on the torch backend; it is left as it is.
        conversion: What it was converted to; its module is left as it is.

    Returns:
        The largest difference of one weight over the largest change of a weight in the same tensor, over all tensors.
        A tensor that the step hardly moves (its true gradient is zero) counts as if it moved a millionth of the most.
    """
    import copy

    import torch

    import keras3conv as k3c
    from keras3conv.frameworks.keras_precision import float64_mode

    module = copy.deepcopy(conversion.model).double().train()
    steady = _without_dropout(model)
    for part in module.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd) or type(part).__name__ == "StochasticDepth":
            part.p = 0.0
    images = tuple(torch.from_numpy(array).double() for array in conversion.inputs)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = copy.deepcopy(module)
    with float64_mode(steady):
        _step_keras(steady, tuple(image.permute(0, 2, 3, 1) for image in images))
        k3c.transfer(steady, expected, conversion.alignment)
    found = module(*images)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    (found * _counts(found)).sum().backward()
    optimizer.step()
    after, wanted = module.state_dict(), expected.state_dict()
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    moved = {name: float((wanted[name] - before[name]).abs().max()) for name in trained}
    floor = max(moved.values()) * 1e-6
    return max(float((after[name] - wanted[name]).abs().max()) / max(moved[name], floor) for name in trained)


def _without_dropout(model: Any) -> Any:
    """A copy of a model that drops nothing."""
    import keras

    def without(layer: Any) -> Any:
        config = layer.get_config()
        rates = {name: 0.0 for name in ("rate", "drop_path_rate") if isinstance(config.get(name), float)}
        return type(layer).from_config({**config, **rates})

    steady = keras.models.clone_model(model, clone_function=without)
    steady.set_weights(model.get_weights())
    return steady


def _step_keras(model: Any, images: tuple[Any, ...]) -> None:
    import keras
    import torch

    variables = model.trainable_variables
    found = model(images if len(images) > 1 else images[0], training=True)
    (found * _counts(found)).sum().backward()
    gradients = [variable.value.grad for variable in variables]
    with torch.no_grad():
        keras.optimizers.SGD(RATE).apply(gradients, variables)


def _counts(outputs: Any) -> Any:
    """How much each element counts in the loss."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype)
