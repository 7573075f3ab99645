"""Decide whether a plan is forced: whether every torch weight fits only one Keras weight by its shape.

If it is, a difference between the outputs of the two models comes from their code, not from the plan. A plan is not
forced if two layers have equal shapes, or if a layer is fused, such as one Linear for query, key and value: the plan
may have exchanged weights or rows of equal shapes, which only the outputs show.
"""

from collections import Counter
from collections.abc import Iterator

from keras3conv.alignment.pair import Plan
from keras3conv.model.views import ModelView
from keras3conv.transforms import Shape

_PARTS = (2, 3)
"""The possible numbers of parts of a fused layer: 2 (gate and up) and 3 (query, key and value)."""


def is_forced(plan: Plan) -> bool:
    """Return True if a plan is forced: by the shapes, the weights of the two models can be paired in only one way."""
    if any(evidence.kind == "unseen flatten" for pair in plan.pairs for evidence in pair.evidence):
        return False
    if any(len(mapping.torch) != 1 or len(mapping.keras) != 1 for mapping in plan.mappings):
        return False
    shapes = Counter(layer for layer in _shapes_of_layers(plan.torch) if layer)
    return all(count == 1 for count in shapes.values()) and not _may_be_fused(plan.torch)


def _shapes_of_layers(view: ModelView) -> Iterator[tuple[Shape, ...]]:
    for layer in view.layers:
        yield tuple(sorted(tensor.shape for tensor in layer.tensors if tensor.shape))


def _may_be_fused(view: ModelView) -> bool:
    """Return True if some layer of a model may be fused: it has 2 or 3 times as many outputs as a layer has inputs."""
    kernels = [tensor.shape for tensor in view.tensors() if len(tensor.shape) > 1]
    taken = {shape[1] for shape in kernels}
    return any(
        shape[0] == 3 * shape[1] or any(shape[0] == parts * size for parts in _PARTS for size in taken)
        for shape in kernels
    )
