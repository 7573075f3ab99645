"""Small models of transformers with random weights, and the keras-hub models that are loaded from their folders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

from keras3conv.transforms import Array

REASON = "models of other packages: transformers, keras-hub and sentencepiece are in the extra dev"

_LENGTH = 7
_TOKENS = np.random.default_rng(0).integers(5, 60, (2, _LENGTH))
_ONES = np.ones((2, _LENGTH), "int64")
_IMAGES = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype("float32")

TEXT = {"input_ids": _TOKENS, "attention_mask": _ONES}
SEGMENTS = {**TEXT, "token_type_ids": np.arange(_LENGTH)[None] // 4 + np.zeros((2, 1), "int64")}
IMAGES = {"pixel_values": _IMAGES}
KERAS_NAMES = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}

ENCODER = {
    "vocab_size": 64,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 18,
}
DECODER = {**ENCODER, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model architecture.

    Attributes:
        config: The name of its configuration class.
        model: The name of its model class.
        settings: The arguments of the configuration.
        inputs: The inputs of the torch module.
        differs: Whether keras-hub computes different values: another epsilon, another GELU, or frequencies of a rotary
            embedding that were not rounded to float32.
        left: The torch tensors that keras-hub leaves out.
    """

    config: str
    model: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Array] = field(default_factory=lambda: TEXT)
    differs: bool = False
    left: tuple[str, ...] = ()


FAMILIES = {
    "bert": Family(config="BertConfig", model="BertModel", settings=ENCODER, inputs=SEGMENTS, differs=True),
    "gpt2": Family(
        config="GPT2Config",
        model="GPT2Model",
        settings={"vocab_size": 64, "n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": 16},
    ),
    "vit": Family(
        config="ViTConfig",
        model="ViTForImageClassification",
        settings=VISION,
        inputs=IMAGES,
        differs=True,
        left=("classifier",),
    ),
    "distilbert": Family(
        config="DistilBertConfig",
        model="DistilBertForMaskedLM",
        settings={"vocab_size": 64, "dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 40},
        left=("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    ),
    "llama": Family(config="LlamaConfig", model="LlamaForCausalLM", settings=DECODER, differs=True),
    "gemma": Family(config="GemmaConfig", model="GemmaForCausalLM", settings={**DECODER, "head_dim": 6}, differs=True),
    "qwen3": Family(config="Qwen3Config", model="Qwen3ForCausalLM", settings={**DECODER, "head_dim": 6}, differs=True),
    "swin": Family(
        config="SwinConfig",
        model="SwinModel",
        settings={
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 12,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        inputs=IMAGES,
    ),
}


def load(name: str, folder: Path) -> tuple[nn.Module, keras.Model, dict[str, Array], Any]:
    """Return the torch module, the backbone that keras-hub's own converter filled, and the inputs of both."""
    _import_torchvision()
    transformers = pytest.importorskip("transformers", reason=REASON)
    keras_hub = pytest.importorskip("keras_hub", reason=REASON)
    pytest.importorskip("sentencepiece", reason=REASON)
    family = FAMILIES[name]
    torch.manual_seed(0)
    module = getattr(transformers, family.model)(getattr(transformers, family.config)(**family.settings))
    with torch.no_grad():
        for parameter in module.parameters():  # few digits: keras-hub reads some families in half precision
            parameter.copy_((0.2 * torch.randn_like(parameter) + (parameter.ndim == 1) * 0.5).half())
    module.eval().save_pretrained(folder)
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    wanted = {tensor.name for tensor in keras.tree.flatten(backbone.inputs)}
    given = {KERAS_NAMES.get(key, key): value for key, value in family.inputs.items()}
    keras_given: Any = {key: value.astype("int32") for key, value in given.items() if key in wanted}
    if "pixel_values" in family.inputs:
        keras_given = np.moveaxis(_IMAGES, 1, -1).copy()
    return module, backbone, dict(family.inputs), keras_given


@cache  # the declarations last as long as the library object
def _import_torchvision() -> Any:
    """Import torchvision for transformers; declare the operators that a build for another torch lacks."""
    if _loads():
        return None
    library = vars(torch.library)["Library"]("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import_module("torchvision")
    return library


def _loads() -> bool:
    try:
        import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        return False
    except ModuleNotFoundError:  # transformers works without it
        return True
    return True
