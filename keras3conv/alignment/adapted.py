"""Recognize Keras layers that were quantized or adapted with LoRA: their variables are not the weights of a layer.

The weights of a quantized layer are integers with a scale. The weight of a layer with LoRA is the sum of a kernel and a
matrix product. Torch has no such tensors, so both are refused with the steps to a plain model.
"""

from collections.abc import Iterator

from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.model.views import LayerView, ModelView

_WEIGHTS = ("kernel", "embeddings", "_kernel", "_embeddings", "quantized_kernel", "reverse_embeddings")


def adapted(keras: ModelView) -> Iterator[Problem]:
    """Yield a problem for the quantized layers of a Keras model, and one for its layers with LoRA."""
    for layers, what, call in (
        ([layer for layer in keras.layers if is_quantized(layer)], "quantized", 'quantize("int8")'),
        ([layer for layer in keras.layers if _has_lora(layer)], "adapted with LoRA", "enable_lora(...)"),
    ):
        if not layers:
            continue
        more = f" and {count(len(layers) - 1, 'more layer')}" if len(layers) > 1 else ""
        are = "are" if len(layers) > 1 else "is"
        fact = f"{layers[0].path}{more} {are} {what}: the stored variables are not the weights that torch has"
        merged = "load the file that model.save() writes, in which Keras merged them" if what != "quantized" else ""
        fix = f"# use the plain model, and call model.{call} after the transfer"
        yield Problem.on("keras", layers[0].path, fact, (fix, *([f"# {merged}"] if merged else [])))


def is_quantized(layer: LayerView) -> bool:
    """Return True if a layer stores integers, or factors of a narrow dtype, instead of its weights."""
    for tensor in layer.tensors:
        name = tensor.role.rpartition("/")[2]
        if name.endswith(("_scale", "_zero", "_amax_history")) and name.partition("_")[0] in _SCALED:
            return True
        if name in _WEIGHTS and tensor.dtype.startswith(("int", "uint", "float8")):
            return True
    return False


_SCALED = ("kernel", "embeddings", "inputs", "outputs", "reverse", "query", "key", "value")
"""The prefixes of the names of scales: of a weight, or of the inputs and outputs of a layer."""


def _has_lora(layer: LayerView) -> bool:
    return any(tensor.role.rpartition("/")[2].startswith("lora_") for tensor in layer.tensors)


def is_adapted(layer: LayerView) -> bool:
    """Return True if a layer is quantized or adapted with LoRA."""
    return is_quantized(layer) or _has_lora(layer)
