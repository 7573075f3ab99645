"""Define layers that compute masks as Keras 2 does, differently from Keras 3, for models built from old files."""

import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras3conv.frameworks.keras.internals import get_keras_mask, set_keras_mask
from keras3conv.frameworks.keras.view import STANDS_FOR_ITS_BASE


class _Merged:
    """Merges masks as Keras 2 does: a step is kept if every mask keeps it; inputs without a mask do not matter.

    In Keras 3 a step is kept if it is True in one mask, and an input without a mask removes the masks of the others.
    """

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the merged inputs; None if no input has a mask."""
        masks = [one for one in mask or () if one is not None]
        merged = masks[0] if masks else None
        for other in masks[1:]:
            merged = ops.logical_and(merged, other)
        return merged


class _Concatenated:
    """Concatenates masks as Keras 2 does: a step is kept if all masks keep it. In Keras 3 one mask is enough."""

    axis: int

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the concatenated tensors; None if no input has one."""
        if mask is None or all(one is None for one in mask):
            return None
        found = []
        for tensor, one in zip(inputs, mask, strict=True):
            counted = ops.ones_like(tensor, dtype="bool")
            if one is not None:
                fitting = ops.expand_dims(one, -1) if len(one.shape) < len(tensor.shape) else one
                counted = ops.logical_and(counted, fitting)
            found.append(counted)
        return ops.all(ops.concatenate(found, axis=self.axis), axis=-1)


class _Lost:
    """Returns no mask, as the layer does in Keras 2; in Keras 3 the layer returns the mask of its input."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return None."""


class _Distributed:
    """Computes the mask of a `TimeDistributed` from the layer inside; Keras 3 returns the mask of the input."""

    layer: Any

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the inner layer for every step; if it has none, the steps that the input's mask keeps."""
        rows = ops.reshape(inputs, (-1, *inputs.shape[2:]))
        found = _mask_of(self.layer, rows, None if mask is None else ops.reshape(mask, (-1, *mask.shape[2:])))
        if found is not None:
            return ops.reshape(found, (-1, inputs.shape[1] or ops.shape(inputs)[1], *found.shape[1:]))
        return mask if mask is None or len(mask.shape) == 2 else ops.any(mask, axis=tuple(range(2, len(mask.shape))))


class _Kept:
    """Leaves the masks of the inputs as they are; the attention of Keras 3 removes them, also for other layers."""

    ignores_masks = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, then restore the Keras masks of its inputs, which the call may have removed."""
        leaves = keras.tree.flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor) or ops.is_tensor(leaf)]
        masks = [get_keras_mask(tensor) for tensor in tensors]
        if self.ignores_masks:
            for tensor in tensors:
                set_keras_mask(tensor, None)
        try:
            return super().__call__(*args, **kwargs)  # type: ignore[misc]  # the other base of the class is the layer
        finally:
            for tensor, mask in zip(tensors, masks, strict=True):
                set_keras_mask(tensor, mask)


class _Ignored(_Kept):
    """Attends to every step, as `MultiHeadAttention` did before Keras 2.10, unless a mask is given in the call."""

    ignores_masks = True


class _Repeated:
    """Repeats the last output at masked steps, as the `Bidirectional` of the package Keras up to 2.3 did.

    The `Bidirectional` of TensorFlow and that of Keras 3 return zeros at masked steps.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for layer in (self.forward_layer, self.backward_layer):  # type: ignore[attr-defined]  # of the other base
            layer.zero_output_for_mask = False


def _mask_of(layer: Any, inputs: Any, mask: Any) -> Any:
    if isinstance(layer, keras.Model):
        return get_keras_mask(layer(inputs) if mask is None else layer(inputs, mask=mask))
    return layer.compute_mask(inputs, mask)


def _made(name: str, masks: type, suffix: str = "") -> Any:
    base = getattr(keras.layers, name)
    made = type(f"{name}OfKeras2{suffix}", (masks, base), {"__module__": __name__, STANDS_FOR_ITS_BASE: True})
    return keras.saving.register_keras_serializable("keras3conv")(made)


_MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")

_LAYERS = {
    **{name: _made(name, _Merged) for name in _MERGES},
    **{name: _made(name, _Lost) for name in ("Identity", "Normalization", "Rescaling")},
    "Concatenate": _made("Concatenate", _Concatenated),
    "MultiHeadAttention": _made("MultiHeadAttention", _Kept),
    "TimeDistributed": _made("TimeDistributed", _Distributed),
}
"""The layers with the masks of Keras 2, by the name of the Keras class that each one replaces."""

_BEFORE_2_10 = {"MultiHeadAttention": _made("MultiHeadAttention", _Ignored, "Before2_10")}

_OUTSIDE_TENSORFLOW = {"Bidirectional": _made("Bidirectional", _Repeated)}


def layers_with_masks(version: str) -> Mapping[str, Any]:
    """Return the layers whose masks differ from those of Keras 3, by the name of the class that each one replaces.

    Args:
        version: The version of Keras that wrote the file, such as "2.4.0"; empty if it is unknown.
    """
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    is_outside = bool(numbers) and numbers < [2, 4] and not version.endswith("-tf")
    return {
        **_LAYERS,
        **(_BEFORE_2_10 if numbers and numbers < [2, 10] else {}),
        **(_OUTSIDE_TENSORFLOW if is_outside else {}),
    }
