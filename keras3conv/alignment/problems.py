"""Find the problems of a plan: shapes that do not fit, tensors in two pairs, and unpaired tensors."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache
from math import prod

from keras3conv.alignment.adapted import is_adapted, is_adapter, is_quantized_in_torch
from keras3conv.alignment.binding import REGISTER, needs_rule
from keras3conv.alignment.pair import Pair, Plan, belongs, misfit, tensors_by_path
from keras3conv.alignment.proposals import call_that_fits
from keras3conv.alignment.tables import OtherTable, other_table
from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.model.paths import separator
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.rules.library import known_classes, lookup
from keras3conv.rules.misnamed import misnamed

_SHOWN_TENSORS = 4


def misfits(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each mapping of a plan that names a missing tensor, or has a transform that does not fit.

    The transform does not fit if it turns the shapes of the torch tensors into shapes that differ from those of the
    Keras tensors.
    """
    torch, keras = tensors_by_path(plan.torch), tensors_by_path(plan.keras)
    for pair in plan.pairs:
        for mapping in pair.weights:
            if missing := [path for path in mapping.torch if path not in torch]:
                yield Problem(
                    torch=missing[0],
                    keras=pair.keras,
                    fact=f"the plan maps {missing[0]}, which {plan.torch.title} does not have",
                )
            elif missing := [path for path in mapping.keras if path not in keras]:
                yield Problem(
                    torch=pair.torch,
                    keras=missing[0],
                    fact=f"the plan maps {missing[0]}, which {plan.keras.title} does not have",
                )
            elif fact := misfit(mapping, torch, keras):
                yield Problem(
                    torch=pair.torch, keras=pair.keras, fact=fact, fixes=(f'plan = plan.unpair("{pair.torch}")',)
                )


def repeated(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each tensor that the plan pairs more than once."""
    for view in (plan.torch, plan.keras):
        uses = Counter(path for mapping in plan.mappings for path in mapping.names(view.side))
        for path, times in uses.items():
            if times > 1:
                yield Problem.on(
                    view.side, path, f"this tensor occurs in {times} mappings of the plan, but may occur in only one"
                )


def unplaced(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each layer with a tensor that the plan neither pairs nor ignores."""
    for view, other in ((plan.torch, plan.keras), (plan.keras, plan.torch)):
        placed = _placed(plan, view)
        ties = {tensor.storage for tensor in view.tensors() if tensor.storage and tensor.path in placed}
        free_layers = _free_layers(plan, other)
        containers = _containers(view)
        placed_there = _placed(plan, other)
        others = [tensor for tensor in other.tensors() if tensor.path not in placed_there]
        own = [tensor for tensor in view.tensors() if tensor.path not in placed]
        for layer in view.layers:
            if is_adapted(layer) if view.side == "keras" else is_adapter(layer) or is_quantized_in_torch(layer):
                continue  # reported as a problem of the whole model, see `adapted`
            left = [tensor for tensor in layer.tensors if tensor.path not in placed and tensor.storage not in ties]
            table = other_table(view.side, left[0], others, own) if len(left) == 1 else None
            if len(left) == 1 and (line := twin(plan, view.side, left[0])):
                yield Problem.on(view.side, left[0].path, line.fact, (line.fix,))
            elif table is not None:
                yield Problem.on(view.side, left[0].path, table.fact, (table.fix,))
            elif left:
                nearest = "" if layer.path in containers else unknown_class(view.side, layer)
                for part, where in _by_line(layer, left):
                    is_on_both = any(belongs(tensor.path, where) for tensor in other.tensors())
                    problem = _unplaced_layer(view.side, part, where, free_layers, nearest, is_on_both=is_on_both)
                    yield replace(problem, fact=problem.fact + _none_left(view.side, part, others))


def _by_line(layer: LayerView, left: Sequence[TensorRef]) -> Iterator[tuple[LayerView, str]]:
    """Yield the arguments for calls of `plan.ignore` that ignore the unpaired tensors of a layer: a view and its path.

    One call ignores the whole layer if none of its tensors is paired or ignored; else each tensor needs a call.

    Args:
        layer: The layer.
        left: The tensors of the layer that are neither paired nor ignored.
    """
    if layer.path and len(left) == len(layer.tensors):
        yield layer, layer.path
    else:
        yield from ((replace(layer, tensors=(tensor,)), tensor.path) for tensor in left)


def first_difference(plan: Plan) -> str:
    """Return a sentence that names the first unpaired layer of each side in call order, and the last pair before it.

    Such as: "the first difference in call order: after a <-> b, torch runs c and Keras d". If only one side has
    unpaired layers, the sentence says that the other has no layer left. If each side has exactly one unpaired layer,
    both at the same position, the sentence has their shapes instead.

    Returns:
        The sentence. It is empty if only one layer of both models is unpaired, because `problems` lists
        that layer, or if the call order is unknown.
    """
    torch_layers, keras_layers = _running(plan.torch), _running(plan.keras)
    torch_left, keras_left = _left(plan, plan.torch, torch_layers), _left(plan, plan.keras, keras_layers)
    if resized := _resized(plan):
        return resized
    if not torch_layers or not keras_layers:
        return ""
    if not (torch_left and keras_left) and max(len(torch_left), len(keras_left)) <= 1:
        return ""
    if torch_left and keras_left:
        what = f"torch runs {torch_left[0].path or 'the module itself'} and Keras {keras_left[0].path}"
    elif torch_left:
        what = f"torch runs {torch_left[0].path or 'the module itself'}, and Keras has no layer left for it"
    else:
        what = f"Keras runs {keras_left[0].path}, and torch has no layer left for it"
    if torch_left:
        pairs = {path: pair for pair in plan.pairs for path in pair.torch_layers}
        where = _pair_before(torch_left[0], torch_layers, pairs)
    else:
        pairs = {path: pair for pair in plan.pairs for path in pair.keras_layers}
        where = _pair_before(keras_left[0], keras_layers, pairs)
    return f"the first difference in call order: {where}, {what}"


def _resized(plan: Plan) -> str:
    """Return a sentence with the shapes of the only unpaired layer of each side, if both have the same position.

    Such as: "a (8, 4) and b (4, 16) are left over: 8 outputs against 16". Two layers have the same position if they
    follow the same pair in call order, or if the call order is unknown. The sentence is empty if there are no two such
    layers, or if their tensors have equal numbers of elements: then another problem proposes to pair them.
    """
    left = [_left(plan, view, [layer for layer in view.layers if layer.tensors]) for view in (plan.torch, plan.keras)]
    if [len(layers) for layers in left] != [1, 1] or _sizes(left[0][0]) == _sizes(left[1][0]):
        return ""
    (torch,), (keras,) = left
    running = _running(plan.torch), _running(plan.keras)
    if torch in running[0] and keras in running[1]:
        pairs = {path: pair for pair in plan.pairs for path in (*pair.torch_layers, *pair.keras_layers)}
        if _pair_before(torch, running[0], pairs) != _pair_before(keras, running[1], pairs):
            return ""
    first, second = (max(layer.tensors, key=lambda tensor: len(tensor.shape)) for layer in (torch, keras))
    what = f"{torch.path} {first.shape} and {keras.path} {second.shape} are left over"
    if _resets_before(torch, keras):
        return (
            f"{what}: the GRU of Keras has reset_after=False, which applies the reset gate before the matrix product; "
            "torch.nn.GRU applies it after the product. k3c.convert writes a module that computes the former"
        )
    is_transposed = any("Transpose" in kind for kind in (torch.kind, keras.kind))
    if (
        (first.role, second.role) != ("weight", "kernel")
        or min(len(first.shape), len(second.shape)) < 2
        or is_transposed
    ):
        return what
    outputs, inputs = (first.shape[0], second.shape[-1]), (first.shape[1], second.shape[-2])
    if outputs[0] != outputs[1]:
        return f"{what}: {count(outputs[0], 'output')} against {outputs[1]}"
    return f"{what}: {count(inputs[0], 'input')} against {inputs[1]}" if inputs[0] != inputs[1] else what


def _resets_before(torch: LayerView, keras: LayerView) -> bool:
    """Return whether two layers are GRUs, and the Keras GRU has only one bias, as with reset_after=False."""
    recurrent, bias = keras.shapes.get("recurrent_kernel", ()), keras.shapes.get("bias", ())
    is_gru = len(recurrent) == 2 and recurrent[1] == 3 * recurrent[0] and bias == recurrent[1:]
    return is_gru and torch.shapes.get("weight_hh_l0") == (recurrent[1], recurrent[0])


def _pair_before(layer: LayerView, running: Sequence[LayerView], pairs: Mapping[str, Pair]) -> str:
    """Return "after" with the name of the last pair that runs before a layer, or "at the beginning" if none does.

    Args:
        layer: The layer.
        running: The layers of the same side that were called, in call order.
        pairs: The pairs of this side, by the path of each layer that is paired.
    """
    for earlier in reversed(running[: running.index(layer)]):
        if earlier.path in pairs:
            pair = pairs[earlier.path]
            return f"after {pair.torch} <-> {pair.keras}"
    return "at the beginning"


def _running(view: ModelView) -> list[LayerView]:
    """Return the layers that have tensors and were called, in the order of their first calls."""
    layers = [layer for layer in view.layers if layer.tensors and layer.run.calls]
    return sorted(layers, key=lambda layer: layer.run.first_call)


def _placed(plan: Plan, view: ModelView) -> set[str]:
    """Return the paths of those tensors of one model that the plan pairs or ignores."""
    mapped = {path for mapping in plan.mappings for path in mapping.names(view.side)}
    return mapped | {entry.path for entry in plan.ignored if entry.side == view.side}


def _left(plan: Plan, view: ModelView, layers: Sequence[LayerView]) -> list[LayerView]:
    """Return the layers that have a tensor which the plan neither pairs nor ignores.

    Args:
        plan: The plan.
        view: The model of the plan that has the layers.
        layers: The layers to select from.
    """
    placed = _placed(plan, view)
    return [layer for layer in layers if any(tensor.path not in placed for tensor in layer.tensors)]


def _containers(view: ModelView) -> set[str]:
    """Return the paths of the layers of a model that contain other layers."""
    return {layer.path.rpartition(separator(view.side))[0] for layer in view.layers if layer.path}


def _free_layers(plan: Plan, view: ModelView) -> list[LayerView]:
    """Return the layers of one model that have tensors, none of which is paired."""
    mapped = {path for mapping in plan.mappings for path in mapping.names(view.side)}
    return [layer for layer in view.layers if layer.tensors and not mapped & {tensor.path for tensor in layer.tensors}]


def _unplaced_layer(
    side: Side, layer: LayerView, where: str, free: list[LayerView], nearest: str, *, is_on_both: bool
) -> Problem:
    """Return the problem that the plan neither pairs nor ignores a layer, or one of its tensors.

    Args:
        side: The side of the layer: "torch" or "keras".
        layer: The layer, with the unpaired tensors only.
        where: The path of the layer, or of its tensor.
        free: The layers of the other side without a pair.
        nearest: The known class with the most similar name, if no rule knows the class of the layer; else empty.
        is_on_both: Whether the other side has a layer or a tensor of the same path.
    """
    tensors = ", ".join(f"{tensor.role} {tensor.shape}" for tensor in layer.tensors[:_SHOWN_TENSORS])
    similar = [other.path for other in free if _sizes(other) == _sizes(layer)][:_SHOWN_TENSORS]
    fact = f"{tensors} would keep its initial value" if side == "keras" else f"{tensors} matched nothing"
    if layer.run.calls == () and layer.path:
        fact += "; the layer was never called when the model ran"
    fixes = []
    if {tensor.role for tensor in layer.tensors} <= {"moving_mean", "moving_variance"}:
        fact += "; a torch layer without them normalises by the statistics of each batch, which no Keras layer does"
    if similar:
        other = next(other for other in free if other.path == similar[0])
        others = "Keras" if side == "torch" else "torch"
        fact += f"; {others} layers of the same sizes that have no pair: {', '.join(similar)}"
        fixes.append(_pairing(side, layer, where, other))
    if nearest:
        fact += f"; no rule knows {layer.kind}, the known class with the most similar name is {nearest}; "
        fact += "k3c.register adds a rule"
    elif wrong := misnamed(side, layer):
        fact += f"; {wrong}"
    of_side = f', side="{side}"' if is_on_both else ""
    fixes.append(f'plan = plan.ignore("{where}", "reason"{of_side})')
    return Problem.on(side, where, fact, tuple(fixes))


def _none_left(side: Side, layer: LayerView, others: Sequence[TensorRef]) -> str:
    """Return a clause that the other model has no tensor of a size of a layer left; empty if it has one.

    Args:
        side: The side of the layer: "torch" or "keras".
        layer: The layer, with the unpaired tensors only.
        others: The tensors of the other model that the plan neither pairs nor ignores.
    """
    sizes = {prod(tensor.shape) for tensor in layer.tensors}
    if sizes & {prod(tensor.shape) for tensor in others}:
        return ""
    what = "Keras has no variable" if side == "torch" else "torch has no tensor"
    return f"; {what} of {'this size' if len(sizes) == 1 else 'these sizes'} left"


def _pairing(side: Side, layer: LayerView, where: str, partner: LayerView) -> str:
    """Return the call of `plan.pair` that pairs two layers, or their only tensors if no rule has both classes.

    If only a rule of the user can pair them, return the call that registers one.

    Args:
        side: The side of `layer`: "torch" or "keras".
        layer: A layer with unpaired tensors, or one tensor of it.
        where: The path of the layer, or of its tensor.
        partner: The layer of the other model to pair it with.
    """
    torch, keras = (layer, partner) if side == "torch" else (partner, layer)
    by_tensor = not keras.kinds or next(iter(lookup(torch.kinds, keras.kinds)), None) is None
    if (by_tensor or where != layer.path) and len(torch.tensors) == len(keras.tensors) == 1:
        tensors = torch.tensors[0], keras.tensors[0]
        fitting = call_that_fits(tensors[:1], tensors[1:])
        return fitting[0] if fitting else f'plan = plan.pair("{tensors[0].path}", "{tensors[1].path}")'
    if where == layer.path and needs_rule(torch, keras):
        return REGISTER
    first, second = (where, partner.path) if side == "torch" else (partner.path, where)
    return f'plan = plan.pair("{first}", "{second}")'


def unknown_class(side: Side, layer: LayerView) -> str:
    """Return the most similar class name that a rule has, if no rule has the layer's class: "Dense" for "MyDense".

    The result is empty if a rule has the class of the layer, or if the class is unknown.
    """
    known = known_classes()[0 if side == "torch" else 1]
    if not layer.kinds or known.intersection(layer.kinds):
        return ""
    return _nearest_class(layer.kind.rpartition(".")[2], known)


@lru_cache(maxsize=1024)
def _nearest_class(name: str, known: frozenset[str]) -> str:
    """Return the known class whose name is most similar to a name; of several, the first in alphabetical order.

    Args:
        name: A class name without its module, such as "Dense".
        known: The class names with their modules, such as "keras.layers.Dense".
    """
    matcher = SequenceMatcher(b=name)

    def resemblance(kind: str) -> float:
        matcher.set_seq1(kind.rpartition(".")[2])
        return matcher.ratio()

    return max(sorted(known), key=resemblance)


def _sizes(layer: LayerView) -> Counter[int]:
    """Count the floating-point tensors of a layer by number of elements: two tensors of 6 elements give {6: 2}."""
    return Counter(prod(tensor.shape) for tensor in layer.tensors if tensor.dtype.startswith(("float", "bfloat")))


def twin(plan: Plan, side: Side, tensor: TensorRef) -> OtherTable | None:
    """Return the proposal to pair an unpaired tensor together with the paired tensor of which it is probably a copy.

    A copy has the same shape, is in the same layer, and one of the two names ends with the other. None if there is no
    such tensor.
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
