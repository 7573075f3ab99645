"""Mark each pair of a Linear and a Dense that may follow the flatten of an image as unconfirmed, if no model was run.

Files of weights do not show a flatten. Torch flattens (channels, height, width), Keras (height, width, channels), so
the inputs of the next layer are in another order. A Linear may follow a flatten if its number of inputs is a multiple
of the channels of a convolution, and no other layer has so many outputs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.model.views import LayerView, ModelView

_EVIDENCE = Evidence(
    kind="unseen flatten",
    detail="its inputs may be a flattened image, and no model ran: the rows of its kernel keep their order",
)
_DENSE = "keras.layers.Dense"


def with_unseen_flattens(pairs: Iterable[Pair], torch: ModelView, keras: ModelView) -> Iterator[Pair]:
    """Yield all pairs of a plan; mark as unconfirmed the pairs of a Linear and a Dense after a possible flatten.

    Such a pair also lists, among its candidates, the call of `plan.pair` that permutes the inputs of the kernel.
    """
    torch_layers = {layer.path: layer for layer in torch.layers}
    keras_layers = {layer.path: layer for layer in keras.layers}
    channels = _channels(torch)
    for pair in pairs:
        first, second = torch_layers.get(pair.torch), keras_layers.get(pair.keras)
        if first is None or second is None or not pair.rule.endswith(_DENSE) or not _is_unknown(first, second):
            yield pair
            continue
        inputs = first.shapes["weight"][1] if len(first.shapes.get("weight", ())) == 2 else 0
        sizes = [size for size in channels if size > 1 and inputs > size and inputs % size == 0]
        if not sizes or inputs in _outputs(torch, first):
            yield pair
            continue
        lines = tuple(_line(first, second, size) for size in sizes)
        yield replace(pair, evidence=(*pair.evidence, _EVIDENCE), candidates=(*pair.candidates, *lines))


def _line(torch: LayerView, keras: LayerView, channels: int) -> str:
    """Return the call of `plan.pair` for a Linear and a Dense that follow the flatten of an image, as code."""
    has_bias = "bias" in torch.shapes and "bias" in keras.shapes
    biases = f'.pair("{torch.path}.bias", "{keras.path}/bias")' if has_bias else ""
    transform = f'k3c.transforms.Axes("o (c s) -> (s c) o", c={channels})'
    kernels = f'"{torch.path}.weight", "{keras.path}/kernel", transform={transform}'
    return f"plan = plan.pair({kernels}){biases}  # after a flatten of {channels} channels"


def _is_unknown(torch: LayerView, keras: LayerView) -> bool:
    """Return whether the inputs of a torch layer and of a Keras layer are unknown, because neither model was run."""
    return torch.run.calls is None and keras.run.calls is None


def _channels(torch: ModelView) -> list[int]:
    """Return the different numbers of output channels of the convolutions, that of the last convolution first."""
    kernels = [tensor.shape for tensor in torch.tensors() if len(tensor.shape) > 2 and tensor.role == "weight"]
    return list(dict.fromkeys(shape[0] for shape in reversed(kernels)))


def _outputs(torch: ModelView, reader: LayerView) -> set[int]:
    """Return the numbers of output features of all torch layers except `reader`, the layer whose input is unknown."""
    found: set[int] = set()
    for layer in torch.layers:
        for tensor in layer.tensors if layer is not reader else ():
            if tensor.role == "weight" and len(tensor.shape) > 1:
                found.add(tensor.shape[0])
            elif tensor.role.startswith("weight_hh"):  # of a recurrent layer, in one direction or in both
                found |= {tensor.shape[1], 2 * tensor.shape[1]}
    return found
