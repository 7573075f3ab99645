"""Recognize Keras layers that were quantized or adapted with LoRA, whose variables are not the weights that torch has.

A quantized layer stores integers with a scale. A layer with LoRA stores a kernel and two small matrices; its weight is
the kernel plus their product. Such layers are refused, with the steps to a Keras model without them.
"""

import re
from collections.abc import Iterator

from keras3conv.alignment.pair import Plan
from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.model.views import LayerView, ModelView

_WEIGHTS = ("kernel", "embeddings", "_kernel", "_embeddings", "quantized_kernel", "reverse_embeddings")


def adapted(keras: ModelView) -> Iterator[Problem]:
    """Yield one problem that names the quantized layers of a Keras model, and one that names its layers with LoRA."""
    for layers, what, call in (
        ([layer for layer in keras.layers if is_quantized(layer)], "quantized", 'quantize("int8")'),
        ([layer for layer in keras.layers if has_lora(layer)], "adapted with LoRA", ""),
    ):
        if not layers:
            continue
        call = call or f'get_layer("{layers[0].path}").enable_lora({_rank(layers[0])})'  # noqa: PLW2901
        more = f" and {count(len(layers) - 1, 'more layer')}" if len(layers) > 1 else ""
        are = "are" if len(layers) > 1 else "is"
        fact = f"{layers[0].path}{more} {are} {what}: the stored variables are not the weights that torch has"
        fix = f"model = make_model(); k3c.transfer(module, model, k3c.align(module, model)); model.{call}"
        cast = "k3c.transfer(module, model, plan, cast=True)  # Keras quantizes the weights"
        merged = 'model.save("merged.keras"); plan = k3c.align(module, "merged.keras")  # Keras merges them'
        yield Problem.on("keras", layers[0].path, fact, (fix, merged if what != "quantized" else cast))


def merged_first(plan: Plan) -> Iterator[Problem]:
    """Yield a problem if a torch model has unpaired LoRA adapters; its fix is to merge them into the weights first."""
    placed = {path for mapping in plan.mappings for path in mapping.torch}
    placed |= {entry.path for entry in plan.ignored if entry.side == "torch"}
    adapters = [layer for layer in plan.torch.layers if is_adapter(layer)]
    layers = [layer for layer in adapters if any(tensor.path not in placed for tensor in layer.tensors)]
    if layers:
        owner = re.split(r"\.lora_", layers[0].path)[0]
        fact = (
            f"{owner} has a LoRA adapter beside its weight, which must be merged into the weight first "
            f"({count(len(layers), 'layer')})"
        )
        yield Problem.on("torch", owner, fact, ("module = module.merge_and_unload()  # a method of peft",))


def is_adapter(layer: LayerView) -> bool:
    """Return True if a torch layer is part of a LoRA adapter, a product of small matrices that is added to a weight."""
    return re.search(r"(^|\.)lora_(A|B|embedding_A|embedding_B|magnitude_vector)(\.|$)", layer.path) is not None


def is_quantized(layer: LayerView) -> bool:
    """Return True if a Keras layer is quantized: it stores integers or float8 values with scales instead of weights."""
    for tensor in layer.tensors:
        name = tensor.role.rpartition("/")[2]
        if name.endswith(("_scale", "_zero", "_amax_history")) and name.partition("_")[0] in _SCALED:
            return True
        if name in _WEIGHTS and tensor.dtype.startswith(("int", "uint", "float8")):
            return True
    return False


_SCALED = ("kernel", "embeddings", "inputs", "outputs", "reverse", "query", "key", "value")
"""The prefixes of the names of quantization scales: the scale of a weight, or of a layer's inputs or outputs."""


def has_lora(layer: LayerView) -> bool:
    """Return True if a Keras layer is adapted with LoRA."""
    return any(tensor.role.rpartition("/")[2].startswith("lora_") for tensor in layer.tensors)


def _rank(layer: LayerView) -> int:
    return next(tensor.shape[-1] for tensor in layer.tensors if tensor.role.rpartition("/")[2].startswith("lora_"))


def is_adapted(layer: LayerView) -> bool:
    """Return True if a Keras layer is quantized or adapted with LoRA."""
    return is_quantized(layer) or has_lora(layer)
