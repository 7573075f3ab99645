"""Where two models first part, for the message about a plan that does not place everything."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras3conv.model import LayerView, ModelView

if TYPE_CHECKING:
    from keras3conv.alignment import Alignment


def first_difference(plan: "Alignment") -> str:
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


def _unplaced(plan: "Alignment", view: ModelView, layers: Sequence[LayerView]) -> list[LayerView]:
    placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
    placed |= {entry.path for entry in plan.ignored if entry.side == view.side}
    return [layer for layer in layers if any(tensor.path not in placed for tensor in layer.tensors)]
