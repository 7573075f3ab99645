"""Name the first unpaired layer of each side of a plan, in the order of the calls."""

from collections.abc import Sequence

from keras3conv.alignment.pair import Plan, placed_tensors
from keras3conv.alignment.shapes import float_sizes
from keras3conv.messages import count
from keras3conv.model.views import LayerView, ModelView


def first_difference(plan: Plan) -> str:
    """Return a sentence that names the first unpaired layer of each side in call order, and the last pair before it.

    Such as: "the first difference in call order: after a <-> b, torch runs c and Keras d". If only one side has
    unpaired layers, the sentence says that the other has no layer left. If each side has exactly one unpaired layer,
    both at the same position, the sentence has their shapes instead.

    Returns:
        The sentence. It is empty if only one layer of both models is unpaired, because `problems` lists
        that layer, or if the call order is unknown.
    """
    if resized := _resized(plan):
        return resized
    running = _running(plan.torch), _running(plan.keras)
    torch_left, keras_left = _left(plan, plan.torch, running[0]), _left(plan, plan.keras, running[1])
    if not all(running) or (not (torch_left and keras_left) and max(len(torch_left), len(keras_left)) <= 1):
        return ""
    if not torch_left:
        what = f"Keras runs {keras_left[0].path}, and torch has no layer left for it"
        return f"the first difference in call order: {_pair_before(plan, plan.keras, keras_left[0])}, {what}"
    what = f" and Keras {keras_left[0].path}" if keras_left else ", and Keras has no layer left for it"
    where = _pair_before(plan, plan.torch, torch_left[0])
    return f"the first difference in call order: {where}, torch runs {torch_left[0].path or 'the module itself'}{what}"


def _resized(plan: Plan) -> str:
    """Return a sentence with the shapes of the only unpaired layer of each side, if both have the same position.

    Such as: "a (8, 4) and b (4, 16) are left over: 8 outputs against 16". Two layers have the same position if they
    follow the same pair in call order, or if the call order is unknown. The sentence is empty if there are no two such
    layers, or if their tensors have equal numbers of elements: then another problem proposes to pair them.
    """
    left = [_left(plan, view, [layer for layer in view.layers if layer.tensors]) for view in (plan.torch, plan.keras)]
    if [len(layers) for layers in left] != [1, 1] or float_sizes(left[0][0]) == float_sizes(left[1][0]):
        return ""
    (torch,), (keras,) = left
    both_ran = torch in _running(plan.torch) and keras in _running(plan.keras)
    if both_ran and _pair_before(plan, plan.torch, torch) != _pair_before(plan, plan.keras, keras):
        return ""
    first, second = (max(layer.tensors, key=lambda tensor: len(tensor.shape)) for layer in (torch, keras))
    what = f"{torch.path} {first.shape} and {keras.path} {second.shape} are left over"
    if _resets_before(torch, keras):
        return (
            f"{what}: the GRU of Keras has reset_after=False, which applies the reset gate before the matrix product; "
            "torch.nn.GRU applies it after the product. k3c.convert writes a module that computes the former"
        )
    are_kernels = (first.role, second.role) == ("weight", "kernel") and min(len(first.shape), len(second.shape)) > 1
    if not are_kernels or "Transpose" in torch.kind or "Transpose" in keras.kind:
        return what
    for axis, kind in ((0, "output"), (1, "input")):
        sizes = first.shape[axis], second.shape[-1 - axis]
        if sizes[0] != sizes[1]:
            return f"{what}: {count(sizes[0], kind)} against {sizes[1]}"
    return what


def _resets_before(torch: LayerView, keras: LayerView) -> bool:
    """Return whether two layers are GRUs, and the Keras GRU has only one bias, as with reset_after=False."""
    recurrent, bias = keras.shapes.get("recurrent_kernel", ()), keras.shapes.get("bias", ())
    is_gru = len(recurrent) == 2 and recurrent[1] == 3 * recurrent[0] and bias == recurrent[1:]
    return is_gru and torch.shapes.get("weight_hh_l0") == (recurrent[1], recurrent[0])


def _pair_before(plan: Plan, view: ModelView, layer: LayerView) -> str:
    """Return "after" with the name of the last pair that runs before a layer, or "at the beginning" if none does."""
    running = _running(view)
    paths = [(pair, pair.torch_layers if view.side == "torch" else pair.keras_layers) for pair in plan.pairs]
    pairs = {path: pair for pair, own in paths for path in own}
    for earlier in reversed(running[: running.index(layer)]):
        if pair := pairs.get(earlier.path):
            return f"after {pair.torch} <-> {pair.keras}"
    return "at the beginning"


def _running(view: ModelView) -> list[LayerView]:
    """Return the layers that have tensors and were called, in the order of their first calls."""
    layers = [layer for layer in view.layers if layer.tensors and layer.run.calls]
    return sorted(layers, key=lambda layer: layer.run.first_call)


def _left(plan: Plan, view: ModelView, layers: Sequence[LayerView]) -> list[LayerView]:
    """Return those layers of a model that have a tensor which the plan neither pairs nor ignores."""
    placed = placed_tensors(plan, view.side)
    return [layer for layer in layers if any(tensor.path not in placed for tensor in layer.tensors)]
