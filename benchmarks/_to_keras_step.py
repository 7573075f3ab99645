"""Compare one step of SGD on both sides of a conversion to Keras, in float64, with dropout off."""

import copy
from collections.abc import Mapping
from typing import Any

RATE = 1.0
"""The learning rate."""

STEP = 1e-7
"""How far two weights may be apart after a step, relative to how far the step moved them, besides rounding errors."""

ROUNDING = 64 * 2.0**-52
"""The rounding error of a gradient in float64, relative to the largest gradient of all tensors.

The gradient of the bias of a key in an attention, and of a bias before a normalization, is a sum of terms that cancel:
it is zero but for this error.
"""


def step_difference(module: Any, inputs: Any, conversion: Any) -> float:
    """Return the difference of the weights after one step, relative to the change that the step makes.

    Both sides start from the same weights and see the same inputs. The loss is a sum of all output elements with random
    weights. Two kinds of tensors are not compared: moving statistics, as Keras uses the biased variance; and a bias of
    a recurrent layer that is the sum of two biases in torch, each of which torch changes. `relative_difference`
    explains how weights are compared that the step does not change.

    Args:
        module: The torch module; it is left as it is.
        inputs: The inputs of the module.
        conversion: The result of `convert` for it; its Keras model is left as it is.
    """
    import numpy as np
    from torch.nn.modules.batchnorm import _BatchNorm

    from keras3conv.alignment.staging import stage
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch.adapter import TorchModule
    from keras3conv.frameworks.torch.module import call_arguments

    stepped = copy.deepcopy(module).double().eval()
    for part in stepped.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    model, plan = conversion.model, conversion.alignment
    args, kwargs = call_arguments(module, inputs)
    factors = _step_torch(stepped, _wide(args), _wide(kwargs))
    weights = model.get_weights()
    rates = _switch(model)
    with keras_side.float64_mode(model):
        view = keras_side.view(model, described=False)
        before = {tensor.path: np.array(view.read(tensor.path)) for tensor in view.tensors() if not tensor.is_seed}
        _step_keras(model, conversion.inputs, conversion.program, factors)
        view = keras_side.view(model, described=False)
        after = {path: np.array(view.read(path)) for path in before}
        wanted = dict(stage(plan, TorchModule(stepped).view(planned=plan.torch), view, cast=True).values())
    model.set_weights(weights)
    for layer, rate in rates:
        layer.rate = rate
    trained = {variable.path for variable in model.trainable_variables}
    summed = {
        path
        for mapping in plan.mappings
        if len(mapping.torch) > 1 and "Sum" in repr(mapping.transform)
        for path in mapping.keras
    }
    compared = {path: (before[path], after[path], wanted[path]) for path in wanted if path in trained - summed}
    return relative_difference(compared)


def relative_difference(weights: Mapping[str, tuple[Any, Any, Any]]) -> float:
    """Return the largest difference of a weight after a step, relative to the change of its tensor in the step.

    The result is at most `STEP` if no difference is larger than the rounding errors of float64: that of the weight, and
    that of a gradient whose terms cancel. So a tensor that the step does not change makes the result larger than
    `STEP` only if the tensor differs by more than these rounding errors.

    Args:
        weights: By path, a tensor before the step, after the step in Keras, and after the step in torch.
    """
    import numpy as np

    def largest(array: Any) -> float:
        return float(np.max(np.abs(array), initial=0.0))

    moves = {path: largest(wanted - before) for path, (before, _, wanted) in weights.items()}
    gradient = ROUNDING * max(moves.values(), default=0.0)
    worst = 0.0
    for path, (before, after, wanted) in weights.items():
        rounding = gradient + 2.0**-52 * largest(before)
        worst = max(worst, largest(after - wanted) / (moves[path] + rounding / STEP or 1.0))
    return worst


def _wide(array: Any) -> Any:
    from torch.utils import _pytree as pytree

    return pytree.tree_map(
        lambda leaf: leaf.double() if hasattr(leaf, "is_floating_point") and leaf.is_floating_point() else leaf, array
    )


def _named(outputs: Any) -> dict[str, Any]:
    """Return the outputs whose gradient is needed (they depend on a weight), by name."""
    import torch

    from keras3conv.frameworks.shared.inputs import flatten

    found = flatten(outputs, lambda leaf: isinstance(leaf, torch.Tensor))
    return {name: leaf for name, leaf in found if leaf.is_floating_point() and leaf.requires_grad}


def _step_torch(module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Make one training step of the torch module; return the factors of the elements of each output in the loss."""
    import torch

    from keras3conv.frameworks.torch.float64 import Float64

    parameters = [one for one in module.parameters() if one.requires_grad]
    with Float64(module):  # also where the code of the module asks for float32
        outputs = _named(module(*args, **kwargs))
    generator = torch.Generator().manual_seed(0)
    factors = {name: torch.randn(one.shape, generator=generator).double() for name, one in outputs.items()}
    loss: Any = sum((one * factors[name]).mean() for name, one in outputs.items())
    loss.backward()
    torch.optim.SGD(parameters, lr=RATE).step()
    return factors


def _switch(model: Any) -> list[tuple[Any, float]]:
    """Set the rates of all dropout layers of the model to zero; return the layers with their old rates."""
    layers = [layer for layer in model._flatten_layers() if isinstance(getattr(layer, "rate", None), float)]
    rates = [(layer, layer.rate) for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    return rates


def _step_keras(model: Any, inputs: Any, program: Any, factors: dict[str, Any]) -> None:
    """Make one training step of the Keras model; outputs without names are in torch's order."""
    import torch

    from keras3conv.frameworks.shared.inputs import flatten
    from keras3conv.model.graph import Ref

    arrays = [one.astype("float64") if one.dtype.kind == "f" else one for one in inputs]
    found = _named(model(arrays[0] if len(arrays) == 1 else arrays, training=True))
    names = [name for name, _ in flatten(program.outputs, lambda leaf: isinstance(leaf, Ref))]
    orders = dict(zip(names, program.output_orders, strict=True))
    if {*found} != {*factors}:
        factors = dict(zip(found, factors.values(), strict=True))
    loss: Any = sum((one * factors[name].permute(orders[name])).mean() for name, one in found.items())
    loss.backward()
    gradients = [variable.value.grad for variable in model.trainable_variables]
    with torch.no_grad():
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            if gradient is not None:
                variable.assign(variable - RATE * gradient)
