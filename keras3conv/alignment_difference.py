"""Where two models first part, for the message about a plan that does not place everything."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras3conv.model import LayerView, ModelView

if TYPE_CHECKING:
    from keras3conv.alignment import Alignment


def first_difference(plan: "Alignment") -> str:
    """What each side runs first that has no counterpart, and the last pair before it, in words.

    Empty where one side has nothing left over, or where it is not known what runs when.
    """
    torch, keras = _running(plan.torch), _running(plan.keras)
    first, second = _unplaced(plan, plan.torch, torch), _unplaced(plan, plan.keras, keras)
    if first is None or second is None:
        return ""
    before = [layer.path for layer in torch[: torch.index(first)]]
    pairs = [pair for pair in plan.pairs if pair.torch in before]
    last = max(pairs, key=lambda pair: before.index(pair.torch), default=None)
    where = f"after {last.torch} <-> {last.keras}" if last else "at the beginning"
    return f"the first place where they differ: {where}, torch runs {first.path} and Keras {second.path}"


def _running(view: ModelView) -> list[LayerView]:
    """The layers with tensors that run, in the order of their first calls."""
    layers = [layer for layer in view.layers if layer.tensors and layer.calls]
    return sorted(layers, key=lambda layer: layer.calls[0] if layer.calls else 0)


def _unplaced(plan: "Alignment", view: ModelView, layers: Sequence[LayerView]) -> LayerView | None:
    placed = {path for mapping in plan.mappings for path in getattr(mapping, view.side)}
    placed |= {entry.path for entry in plan.ignored if entry.side == view.side}
    return next((layer for layer in layers if any(tensor.path not in placed for tensor in layer.tensors)), None)
