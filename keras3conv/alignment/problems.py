"""Find the problems of a plan: shapes that do not fit, tensors in two pairs, and unpaired tensors."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache
from math import prod

from keras3conv.alignment.adapted import is_adapted, is_adapter, is_quantized_in_torch
from keras3conv.alignment.by_hand import REGISTER, needs_rule
from keras3conv.alignment.pair import Plan, belongs, misfit, placed_tensors, tensors_by_path
from keras3conv.alignment.proposals import call_that_fits
from keras3conv.alignment.shapes import float_sizes
from keras3conv.alignment.tables import OtherTable, other_table
from keras3conv.errors import Problem
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
                fact = f"the plan maps {missing[0]}, which {plan.torch.title} does not have"
                yield Problem(torch=missing[0], keras=pair.keras, fact=fact)
            elif missing := [path for path in mapping.keras if path not in keras]:
                fact = f"the plan maps {missing[0]}, which {plan.keras.title} does not have"
                yield Problem(torch=pair.torch, keras=missing[0], fact=fact)
            elif fact := misfit(mapping, torch, keras):
                fixes = (f'plan = plan.unpair("{pair.torch}")',)
                yield Problem(torch=pair.torch, keras=pair.keras, fact=fact, fixes=fixes)


def repeated(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each tensor that the plan pairs more than once."""
    for view in (plan.torch, plan.keras):
        uses = Counter(path for mapping in plan.mappings for path in mapping.names(view.side))
        for path, times in uses.items():
            if times > 1:
                fact = f"this tensor occurs in {times} mappings of the plan, but may occur in only one"
                yield Problem.on(view.side, path, fact)


def unplaced(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each layer with a tensor that the plan neither pairs nor ignores."""
    proposed: dict[str, str] = {}
    for view, other in ((plan.torch, plan.keras), (plan.keras, plan.torch)):
        placed = placed_tensors(plan, view.side)
        ties = {tensor.storage for tensor in view.tensors() if tensor.storage and tensor.path in placed}
        free_layers, containers = _free_layers(plan, other), _containers(view)
        placed_there = placed_tensors(plan, other.side)
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
                    similar = [one for one in free_layers if float_sizes(one) == float_sizes(part)]
                    partner = _partner(view.side, where, similar, proposed)
                    problem = _unplaced_layer(view.side, part, where, similar, partner, nearest, is_on_both=is_on_both)
                    yield replace(problem, fact=problem.fact + _none_left(view.side, part, others))


def _partner(side: Side, where: str, similar: Sequence[LayerView], proposed: dict[str, str]) -> LayerView | None:
    """Return the layer with which to propose to pair an unpaired layer; None if there is no layer of the same sizes.

    The layers of the torch model come first. Each gets the first layer that was proposed for no other, so that all
    proposals can be followed; only if none is left does it get one that was proposed before.

    Args:
        side: The side of the unpaired layer: "torch" or "keras".
        where: The path of the unpaired layer, or of its tensor.
        similar: The layers of the other side that have the same sizes and no pair.
        proposed: The pairs proposed so far: the Keras path by the torch path. A proposal is added in place.
    """
    if side == "keras":
        torch = next((torch for torch, keras in proposed.items() if keras == where), "")
        return next((one for one in similar if one.path == torch), next(iter(similar), None))
    left = [one for one in similar if one.path not in proposed.values()]
    partner = next(iter(left or similar), None)
    if left:
        proposed[where] = left[0].path
    return partner


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


def _containers(view: ModelView) -> set[str]:
    """Return the paths of the layers of a model that contain other layers."""
    return {layer.path.rpartition(separator(view.side))[0] for layer in view.layers if layer.path}


def _free_layers(plan: Plan, view: ModelView) -> list[LayerView]:
    """Return the layers of one model that have tensors, none of which is paired."""
    mapped = {path for mapping in plan.mappings for path in mapping.names(view.side)}
    return [layer for layer in view.layers if layer.tensors and not mapped & {tensor.path for tensor in layer.tensors}]


def _unplaced_layer(
    side: Side,
    layer: LayerView,
    where: str,
    similar: Sequence[LayerView],
    partner: LayerView | None,
    nearest: str,
    *,
    is_on_both: bool,
) -> Problem:
    """Return the problem that the plan neither pairs nor ignores a layer, or one of its tensors.

    Args:
        side: The side of the layer: "torch" or "keras".
        layer: The layer, with the unpaired tensors only.
        where: The path of the layer, or of its tensor.
        similar: The layers of the other side that have the same sizes and no pair.
        partner: The one of them with which to pair the layer; None if there is none.
        nearest: The known class with the most similar name, if no rule knows the class of the layer; else empty.
        is_on_both: Whether the other side has a layer or a tensor of the same path.
    """
    tensors = ", ".join(f"{tensor.role} {tensor.shape}" for tensor in layer.tensors[:_SHOWN_TENSORS])
    fact = f"{tensors} would keep its initial value" if side == "keras" else f"{tensors} matched nothing"
    if layer.run.calls == () and layer.path:
        fact += "; the layer was never called when the model ran"
    fixes = []
    if {tensor.role for tensor in layer.tensors} <= {"moving_mean", "moving_variance"}:
        fact += "; a torch layer without them normalises by the statistics of each batch, which no Keras layer does"
    if partner is not None:
        others = "Keras" if side == "torch" else "torch"
        named = ", ".join(other.path for other in similar[:_SHOWN_TENSORS])
        fact += f"; {others} layers of the same sizes that have no pair: {named}"
        fact += "; a suggested pair only follows the order of the layers" if len(similar) > 1 else ""
        fixes.append(_pairing(side, layer, where, partner))
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


def twin(plan: Plan, side: Side, tensor: TensorRef) -> OtherTable | None:
    """Return the proposal to give an unpaired tensor the counterpart of the paired tensor of which it may be a copy.

    A copy has the same shape, is in the same layer, and one of the two names ends with the other. None if there is no
    such tensor.
    """
    others = tensors_by_path(plan.torch if side == "torch" else plan.keras)
    for mapping in plan.mappings:
        if len(mapping.torch) != 1 or len(mapping.keras) != 1:
            continue
        (path,) = mapping.names(side)
        if path in others and others[path].shape == tensor.shape and _are_twins(path, tensor.path):
            fact = (
                f"no tensor of the other model is left for this one; it may be a copy of {path}, which has the same "
                "shape and a similar name"
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
