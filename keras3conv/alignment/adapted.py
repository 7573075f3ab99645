"""Recognize layers that were quantized or adapted with LoRA: their tensors are not the weights of the other model.

A quantized layer stores integers with a scale. A layer with LoRA stores a kernel and two small matrices; its weight is
the kernel plus their product. Such layers are refused, with the steps to a model without them.
"""

import re
from collections.abc import Iterator

from keras3conv.alignment.pair import Plan, placed_tensors
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
    """Yield a problem if a torch model has unpaired LoRA adapters, with the fix: merge them into the weights first."""
    placed = placed_tensors(plan, "torch")
    adapters = [layer for layer in plan.torch.layers if is_adapter(layer)]
    layers = [layer for layer in adapters if any(tensor.path not in placed for tensor in layer.tensors)]
    if layers:
        owner = _ADAPTER.split(next(filter(_ADAPTER.search, (tensor.path for tensor in layers[0].tensors))))[0]
        fact = (
            f"{owner} has a LoRA adapter beside its weight, which must be merged into the weight first "
            f"({count(len(layers), 'layer')})"
        )
        yield Problem.on("torch", owner, fact, ("module = module.merge_and_unload()  # a method of peft",))


_ADAPTER = re.compile(r"\.?\b(?:lora_(?:A|B|up|down|embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_w\d_[ab])\b")
"""The names of the tensors that peft, loralib and kohya add to a layer."""


def is_adapter(layer: LayerView) -> bool:
    """Return True if a torch layer has tensors of a LoRA adapter: small matrices whose product is added to a weight."""
    return any(_ADAPTER.search(tensor.path) for tensor in layer.tensors)


def quantized_in_torch(plan: Plan) -> Iterator[Problem]:
    """Yield a problem if torch layers are quantized: their weights are integers, which must be dequantized first."""
    ignored = {entry.path for entry in plan.ignored if entry.side == "torch"}
    quantized = [layer for layer in plan.torch.layers if is_quantized_in_torch(layer)]
    layers = [layer for layer in quantized if any(tensor.path not in ignored for tensor in layer.tensors)]
    if layers:
        more = f" and {count(len(layers) - 1, 'more layer')} are" if len(layers) > 1 else " is"
        fact = (
            f"{layers[0].path}{more} quantized: the stored tensors are integers with scales, not the weights; use the "
            "weights from before the quantization, or save them dequantized"
        )
        yield Problem.on("torch", layers[0].path, fact)


_SCALES = re.compile(
    r"\b(?:qweight|qzeros|SCB|absmax|quant_map|quant_state|weight_scale(?:_inv)?|weight_packed|_packed_params)\b"
)
"""The names of the tensors that GPTQ, AWQ, bitsandbytes, compressed-tensors and torch.ao store for a weight."""


def is_quantized_in_torch(layer: LayerView) -> bool:
    """Return True if a torch layer stores a quantized weight: integers or float8 values, or their scales."""
    roles = {tensor.role: tensor.dtype for tensor in layer.tensors}
    if roles.keys() == {"scale", "zero_point"} or any(_SCALES.search(tensor.path) for tensor in layer.tensors):
        return True
    return roles.get("weight", "").startswith(_NARROW)


_NARROW = ("int4", "int8", "uint4", "uint8", "float8")
"""The beginnings of the names of the dtypes in which weights are stored after a quantization."""


def is_quantized(layer: LayerView) -> bool:
    """Return True if a Keras layer is quantized: it stores integers or float8 values with scales instead of weights."""
    policy = (layer.config or {}).get("dtype")
    if isinstance(policy, dict) and str(policy.get("class_name")).startswith("Quantized"):
        return True
    for tensor in layer.tensors:
        name = tensor.role.rpartition("/")[2]
        if name.endswith(("_scale", "_zero", "_amax_history")) and name.partition("_")[0] in _SCALED:
            return True
        if name in _WEIGHTS and tensor.dtype.startswith(("int", "uint", "float8")):
            return True
        if name.isdecimal() and tensor.dtype.startswith(_NARROW):  # a weight file without names and classes
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
