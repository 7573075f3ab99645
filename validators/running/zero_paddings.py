"""Find the layers of Keras that add zeros around the input of another layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.frameworks.shared.recording import Call, Recording
from keras3conv.rules.helpers.padding import Pads
from keras3conv.validators.running.subject import Subject

_CLASS = "keras.layers.ZeroPadding"


@dataclass(frozen=True, kw_only=True)
class ZeroPadding:
    """A layer of Keras that adds zeros around the input of another layer.

    Attributes:
        path: The path of the padding layer.
        pads: For each axis, the padding before and after it.
    """

    path: str
    pads: Pads


def zero_paddings(subject: Subject, run: Recording) -> dict[str, ZeroPadding]:
    """Return the padding layer right before each layer that has one, by the path of that layer.

    Args:
        subject: The two models.
        run: A run of the Keras model.
    """
    padding = {path: layer for path, layer in subject.keras_layers.items() if layer.kind.startswith(_CLASS)}
    found: dict[str, ZeroPadding] = {}
    padded: list[Call] = []
    for call in run.calls:
        for other in padded:
            if call.inputs and _is_same(call.inputs[0], other.outputs[0]):
                found[call.path] = ZeroPadding(path=other.path, pads=_pads(padding[other.path].config or {}))
        if call.path in padding and call.outputs:
            padded.append(call)
    return found


def _is_same(first: Any, second: Any) -> bool:
    return first is second or (first.shape == second.shape and bool(np.array_equal(first, second)))


def _pads(config: Mapping[str, Any]) -> Pads:
    axes = config["padding"]
    axes = [axes] if isinstance(axes[0], int) else axes
    return tuple((before, after) for before, after in axes)
