"""Map the tensors of two layers whose Keras variables have unusual names, such as `weight` instead of `kernel`.

Models of transformers for TensorFlow name every kernel and every embedding table `weight`, and store a bias with shape
(1, n). The class of the torch layer shows which transform each of its tensors needs; the shapes show which variable
corresponds to which tensor.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from keras3conv.alignment.shapes import reshaping, without_ones
from keras3conv.errors import RuleError, TransformError
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.rules.applying import may_apply, rules_for_torch
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Chain, Shape


def renamed_mappings(torch: LayerView, keras: LayerView) -> tuple[WeightMapping, ...]:
    """Return the mappings between all tensors of two layers; empty unless the shapes allow exactly one way to map them.

    Args:
        torch: A layer of a live module, whose class is known.
        keras: A layer of a weight file, whose class is unknown.
    """
    if torch.config is None or keras.kinds or not keras.tensors:
        return ()
    readings = [
        found for rule in rules_for_torch(torch) if may_apply(rule, torch) and (found := _read(rule, torch, keras))
    ]
    effects = [_effect(reading, torch) for reading in readings]
    return readings[0] if readings and all(effect == effects[0] for effect in effects) else ()


def _read(rule: Rule, torch: LayerView, keras: LayerView) -> tuple[WeightMapping, ...]:
    """Return the mappings that a rule gives between a torch layer and a layer whose variables have unusual names.

    The result is empty if a shape does not fit, if two variables have the same shape, or if a tensor is left over.

    Args:
        rule: A rule for the class of the torch layer.
        torch: The torch layer.
        keras: The layer of a weight file; its variables are found by shape, not by name.
    """
    try:
        found = tuple(_mappings(rule, torch, list(keras.tensors)))
    except (RuleError, TransformError, LookupError):
        return ()  # the rule does not allow these shapes
    placed = {path for mapping in found for path in (*mapping.torch, *mapping.keras)}
    kept = {tensor.path for tensor in torch.tensors if tensor.role not in rule.ignored}
    return found if placed == kept | {tensor.path for tensor in keras.tensors} else ()


def _mappings(rule: Rule, torch: LayerView, free: list[TensorRef]) -> Iterator[WeightMapping]:
    tensors = {tensor.role: tensor for tensor in torch.tensors}
    for mapping in rule.weights({**rule.config_of(torch), "inputs": torch.run.inputs}):
        if not tensors.keys() & set(mapping.torch):
            continue
        given = [tensors[role] for role in mapping.torch]
        (shape,) = mapping.transform.shapes(tuple(tensor.shape for tensor in given))
        chosen = _chosen(free, shape)
        free.remove(chosen)
        transform = mapping.transform
        if shape != chosen.shape:
            transform = Chain(transform, reshaping(shape, chosen.shape))
        yield WeightMapping(torch=tuple(tensor.path for tensor in given), keras=(chosen.path,), transform=transform)


def _chosen(free: Sequence[TensorRef], shape: Shape) -> TensorRef:
    """Return the only variable that has a given shape, apart from axes of size one.

    Raise `LookupError` if no variable or more than one has it.
    """
    fitting = [tensor for tensor in free if without_ones(tensor.shape) == without_ones(shape)]
    if len(fitting) != 1:
        raise LookupError(f"{len(fitting)} variables of the Keras layer have the shape {shape}; exactly one is needed")
    return fitting[0]


def _effect(reading: Sequence[WeightMapping], torch: LayerView) -> dict[str, list[float]]:
    """Apply mappings to torch tensors with the values 0, 1, 2, ..., and return each Keras variable's values, by path.

    Two rules whose values are equal map the tensors in the same way, even if their mappings are written differently.

    Args:
        reading: The mappings of all tensors of the two layers.
        torch: The torch layer, which has the shapes of the tensors.
    """
    shapes = {tensor.path: tensor.shape for tensor in torch.tensors}
    found: dict[str, list[float]] = {}
    for mapping in reading:
        arrays = tuple(np.arange(float(np.prod(shapes[path]))).reshape(shapes[path]) for path in mapping.torch)
        found |= {
            path: made.ravel().tolist() for path, made in zip(mapping.keras, mapping.transform(arrays), strict=True)
        }
    return found
