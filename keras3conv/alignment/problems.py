"""Where two models first part, for the message about a plan that does not place everything."""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from keras3conv.alignment.pair import Plan, misfit, tensors_by_path
from keras3conv.errors import Problem
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.rules.library import known_classes


def first_difference(plan: Plan) -> str:
    """What each side runs first that has no counterpart, and the last pair before it, in words.

    Where only one side has layers left over, the other goes on: a deeper model against a shallower one. One such layer
    is told by its own line, so the words are empty; as they are where it is not known what runs when.
    """
    torch, keras = _running(plan.torch), _running(plan.keras)
    ours, theirs = _unplaced(plan, plan.torch, torch), _unplaced(plan, plan.keras, keras)
    if not torch or not keras or not ((ours and theirs) or max(len(ours), len(theirs)) > 1):
        return ""
    runs, first = (torch, ours[0]) if ours else (keras, theirs[0])
    before = [layer.path for layer in runs[: runs.index(first)]]
    side = "torch" if ours else "keras"
    pairs = [pair for pair in plan.pairs if getattr(pair, side) in before]
    last = max(pairs, key=lambda pair: before.index(getattr(pair, side)), default=None)
    where = f"after {last.torch} <-> {last.keras}" if last else "at the beginning"
    if ours and theirs:
        what = f"torch runs {ours[0].path} and Keras {theirs[0].path}"
    elif ours:
        what = f"torch runs {ours[0].path}, and Keras has none left for it"
    else:
        what = f"Keras runs {theirs[0].path}, and torch has none left for it"
    return f"the first place where they differ: {where}, {what}"


def _running(view: ModelView) -> list[LayerView]:
    """The layers with tensors that run, in the order of their first calls."""
    layers = [layer for layer in view.layers if layer.tensors and layer.calls]
    return sorted(layers, key=lambda layer: layer.calls[0] if layer.calls else 0)


def _unplaced(plan: Plan, view: ModelView, layers: Sequence[LayerView]) -> list[LayerView]:
    placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
    placed |= {entry.path for entry in plan.ignored if entry.side == view.side}
    return [layer for layer in layers if any(tensor.path not in placed for tensor in layer.tensors)]


def misfits(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each pair whose tensors are missing or have shapes that do not fit."""
    torch, keras = tensors_by_path(plan.torch), tensors_by_path(plan.keras)
    for pair in plan.pairs:
        for mapping in pair.weights:
            if missing := [path for path in mapping.torch if path not in torch]:
                yield Problem(torch=missing[0], keras=pair.keras, fact=f"{missing[0]} is not in {plan.torch.title}")
            elif missing := [path for path in mapping.keras if path not in keras]:
                yield Problem(torch=pair.torch, keras=missing[0], fact=f"{missing[0]} is not in {plan.keras.title}")
            elif fact := misfit(mapping, torch, keras):
                yield Problem(torch=pair.torch, keras=pair.keras, fact=fact, fixes=(f'plan.unpair("{pair.torch}")',))


def repeated(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each tensor that several pairs use."""
    for side in ("torch", "keras"):
        uses = Counter(path for mapping in plan.mappings for path in getattr(mapping, side))
        for path, times in uses.items():
            if times > 1:
                yield Problem.on(side, path, f"has {times} places in the plan; a tensor has one")


def unplaced(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each layer with tensors that no pair uses and that are not ignored."""
    for view, other in ((plan.torch, plan.keras), (plan.keras, plan.torch)):
        placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
        placed |= {entry.path for entry in plan.ignored if entry.side == view.side}
        ties = {tensor.storage for tensor in view.tensors() if tensor.storage and tensor.path in placed}
        free, wholes = _free_layers(plan, other), _wholes(view)
        for layer in view.layers:
            left = [tensor for tensor in layer.tensors if tensor.path not in placed and tensor.storage not in ties]
            if left:
                unknown = "" if layer.path in wholes else unknown_class(view.side, layer)
                yield _unplaced_layer(view.side, layer, left, free, unknown)


def _wholes(view: ModelView) -> set[str]:
    """The layers that others are part of: one that holds a parameter beside them needs no rule."""
    between = "." if view.side == "torch" else "/"
    paths = [layer.path for layer in view.layers if layer.path]
    return {path.rpartition(between)[0] for path in paths}


def _free_layers(plan: Plan, view: ModelView) -> list[LayerView]:
    """The layers of a side of which no tensor is placed: what an unplaced layer of the other side may belong to."""
    placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
    return [layer for layer in view.layers if layer.tensors and not placed & {tensor.path for tensor in layer.tensors}]


def _unplaced_layer(
    side: Side, layer: LayerView, left: list[TensorRef], free: list[LayerView], unknown: str
) -> Problem:
    names = ", ".join(f"{tensor.role} {tensor.shape}" for tensor in left[:4])
    similar = [other.path for other in free if _sizes(other) == _sizes(layer)][:4]
    fact = f"{names} would keep its initial value" if side == "keras" else f"{names} matched nothing"
    if similar:
        fact += f"; same sizes: {', '.join(similar)}"
    stub = ""
    if unknown:
        fact += f"; no rule knows {layer.kind}, the nearest class is {unknown}"
        stub = f'k3c.register(k3c.Rule({side}="{layer.kind}", ...))'
    where = layer.path if len(left) == len(layer.tensors) and layer.path else left[0].path
    fixes = [
        f'plan.pair("{where}", "{path}")' if side == "torch" else f'plan.pair("{path}", "{where}")' for path in similar
    ]
    return Problem.on(side, where, fact, (*fixes[:1], *([stub] if stub else []), f'plan.ignore("{where}", "reason")'))


def unknown_class(side: Side, layer: LayerView) -> str:
    """The known class whose name is most like that of a layer that no rule knows; empty if a rule knows it."""
    known = known_classes()[0 if side == "torch" else 1]
    if not layer.kinds or known.intersection(layer.kinds):
        return ""
    return _nearest_class(layer.kind.rpartition(".")[2], known)


@lru_cache(maxsize=1024)
def _nearest_class(name: str, known: frozenset[str]) -> str:
    """Return the known class whose own name resembles this one most; the first in the alphabet among equals."""
    matcher = SequenceMatcher(b=name)

    def resemblance(kind: str) -> float:
        matcher.set_seq1(kind.rpartition(".")[2])
        return matcher.ratio()

    return max(sorted(known), key=resemblance)


def _sizes(layer: LayerView) -> Counter[int]:
    """How many numbers each floating-point tensor has: equal for tensors that differ only in their layout."""
    sizes = Counter[int]()
    for tensor in layer.tensors:
        if tensor.dtype.startswith(("float", "bfloat")):
            size = 1
            for extent in tensor.shape:
                size *= extent
            sizes[size] += 1
    return sizes
