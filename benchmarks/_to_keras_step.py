"""Compare one step of SGD on both sides of a conversion to Keras, in float64, with dropout off."""

import copy
from typing import Any

RATE = 1.0
"""The learning rate."""


def step_difference(module: Any, inputs: Any, conversion: Any) -> float:
    """Return the difference of the weights after one step, relative to the change that the step makes.

    Both sides start from the same weights and see the same inputs. The loss weighs every output with a number of
    its own. Statistics are not compared: those of Keras are of the biased variance. Neither is the bias of a recurrent
    layer that holds the sum of torch's two, each of which torch moves. A tensor that the step hardly moves (its true
    gradient is zero) counts as if it moved a millionth of the most.

    Args:
        module: The torch module; it is left as it is.
        inputs: The inputs of the module.
        conversion: The conversion of it; its Keras model is left as it is.
    """
    import numpy as np
    from torch.nn.modules.batchnorm import _BatchNorm

    from keras3conv.alignment.staging import stage
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import module as torch_side
    from keras3conv.frameworks.torch.module import call_arguments

    stepped = copy.deepcopy(module).double().eval()
    for part in stepped.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    model, plan = conversion.model, conversion.alignment
    args, kwargs = call_arguments(module, inputs)
    _step_torch(stepped, _wide(args), _wide(kwargs))
    weights = model.get_weights()
    _switch(model)
    with keras_side.float64_mode(model):
        view = keras_side.view(model)
        before = {tensor.path: np.array(view.read(tensor.path)) for tensor in view.tensors() if not tensor.is_seed}
        _step_keras(model, conversion.inputs, conversion.program.output_orders)
        view = keras_side.view(model)
        after = {path: np.array(view.read(path)) for path in before}
        wanted = dict(stage(plan, torch_side.view(stepped), view, cast=True).values())
    model.set_weights(weights)
    trained = {variable.path for variable in model.trainable_variables}
    moved = {path: float(np.max(np.abs(after[path] - before[path]), initial=0.0)) for path in before}
    floor = max((moved[path] for path in trained), default=1.0) * 1e-6 or 1.0
    summed = {
        path
        for mapping in plan.mappings
        if len(mapping.torch) > 1 and "Sum" in repr(mapping.transform)
        for path in mapping.keras
    }
    compared = [path for path in wanted if path in trained - summed]
    return max(
        float(np.max(np.abs(after[path] - wanted[path]), initial=0.0)) / max(moved[path], floor) for path in compared
    )


def _wide(given: Any) -> Any:
    from torch.utils import _pytree as pytree

    return pytree.tree_map(
        lambda leaf: leaf.double() if hasattr(leaf, "is_floating_point") and leaf.is_floating_point() else leaf, given
    )


def _flat(outputs: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(outputs)
    return [
        leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.requires_grad
    ]


def _loss(outputs: list[Any], orders: list[tuple[int, ...]] | None = None) -> Any:
    """Return a sum of all elements with random weights, which are moved to the axis orders of the outputs."""
    import torch

    generator = torch.Generator().manual_seed(0)
    total: Any = 0.0
    for place, output in enumerate(outputs):
        order = orders[place] if orders else tuple(range(output.ndim))
        sizes = [output.shape[order.index(axis)] for axis in range(output.ndim)]
        total = total + (output * torch.randn(sizes, generator=generator).double().permute(order)).mean()
    return total


def _step_torch(module: Any, args: Any, kwargs: Any) -> None:
    import torch

    from keras3conv.frameworks.torch.modes import Float64

    parameters = [one for one in module.parameters() if one.requires_grad]
    with Float64(module):  # also if the code of the module requests float32
        outputs = _flat(module(*args, **kwargs))
    _loss(outputs).backward()
    torch.optim.SGD(parameters, lr=RATE).step()


def _switch(model: Any) -> None:
    """Turn off the dropouts."""
    for layer in model._flatten_layers():
        if isinstance(getattr(layer, "rate", None), float):
            layer.rate = 0.0


def _step_keras(model: Any, inputs: Any, orders: Any) -> None:
    import keras
    import torch

    arrays = [one.astype("float64") if one.dtype.kind == "f" else one for one in inputs]
    found = model(arrays[0] if len(arrays) == 1 else arrays, training=True)
    flat = zip(keras.tree.flatten(found), orders, strict=True)
    kept = [(one, order) for one, order in flat if one.is_floating_point() and one.requires_grad]
    _loss([one for one, _ in kept], [order for _, order in kept]).backward()
    gradients = [variable.value.grad for variable in model.trainable_variables]
    with torch.no_grad():
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            if gradient is not None:
                variable.assign(variable - RATE * gradient)
