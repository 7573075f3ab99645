"""Recognize a tensor that one model stores twice and the other once, such as a position table."""

from keras3conv.alignment.pair import Plan
from keras3conv.alignment.tables import OtherTable
from keras3conv.model.views import Side, TensorRef


def twin(plan: Plan, side: Side, tensor: TensorRef) -> OtherTable | None:
    """Return the proposal to pair an unpaired tensor together with the paired tensor of which it is probably a copy.

    A copy has the same shape, is in the same layer, and one of the two names ends with the other. None if there is no
    such tensor.

    Args:
        plan: The plan.
        side: The side of the tensor: "torch" or "keras".
        tensor: A tensor without a pair.
    """
    view = plan.torch if side == "torch" else plan.keras
    others = {other.path: other for other in view.tensors()}
    for mapping in plan.mappings:
        if len(mapping.torch) != 1 or len(mapping.keras) != 1:
            continue
        (path,) = mapping.names(side)
        other = others.get(path)
        if other is None or other.shape != tensor.shape or not _are_twins(path, tensor.path):
            continue
        fact = (
            f"this tensor has no counterpart of its own: {path} has the same shape and almost the same name, and may "
            "be its copy"
        )
        return OtherTable(fact, _call(side, mapping.torch[0], mapping.keras[0], tensor.path))
    return None


def _are_twins(first: str, second: str) -> bool:
    separators = str.maketrans(".", "/")
    (first_layer, _, first_name), (second_layer, _, second_name) = (
        path.translate(separators).rpartition("/") for path in (first, second)
    )
    return first_layer == second_layer and (first_name.endswith(second_name) or second_name.endswith(first_name))


def _call(side: Side, torch: str, keras: str, copy: str) -> str:
    if side == "torch":
        return f'plan = plan.pair(["{torch}", "{copy}"], "{keras}", transform=k3c.transforms.Equal(2))'
    return f'plan = plan.pair("{torch}", ["{keras}", "{copy}"], transform=k3c.transforms.Copies(2))'
