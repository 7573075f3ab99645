"""Pair attentions of a torch file whose query, key and value have different numbers of inputs (`kdim`, `vdim`).

Such a `torch.nn.MultiheadAttention` has the parameters `q_proj_weight`, `k_proj_weight` and `v_proj_weight`, names that
no other class of torch has. A file does not store the class, so these names show it.
"""

from collections.abc import Iterator
from dataclasses import replace

from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView
from keras3conv.planner.evidence.matching import match_groups
from keras3conv.planner.evidence.structure import Unmatched, fitting
from keras3conv.rules.library import lookup

_ATTENTION = "torch.nn.MultiheadAttention"
_SEPARATE = {"q_proj_weight", "k_proj_weight", "v_proj_weight"}


def attention_pairs(unmatched: Unmatched) -> Iterator[Pair]:
    """Pair each attention of a torch file that has `q_proj_weight` with a Keras attention of the same sizes.

    Args:
        unmatched: The layers that are in no pair yet.
    """
    layers = unmatched.torch_layers
    torch = tuple(_with_output(layer, layers) for layer in layers if not layer.kinds and set(layer.shapes) >= _SEPARATE)
    if torch:
        keras = tuple(layer for layer in unmatched.keras_layers if any(lookup((_ATTENTION,), layer.kinds)))
        yield from match_groups(fitting(Unmatched(torch_layers=torch, keras_layers=keras)), {})


def _with_output(layer: LayerView, layers: tuple[LayerView, ...]) -> LayerView:
    """Return an attention layer of a file with its class, and with the tensors of its `out_proj` layer added.

    Args:
        layer: The layer that has the tensors `q_proj_weight`, `k_proj_weight` and `v_proj_weight`.
        layers: All torch layers; one of them may be the `out_proj` of the attention.
    """
    outputs = (other for other in layers if other.path == f"{layer.path}.out_proj".lstrip("."))
    inner = (replace(tensor, role=f"out_proj.{tensor.role}") for other in outputs for tensor in other.tensors)
    return replace(layer, kinds=(_ATTENTION,), tensors=(*layer.tensors, *inner))
