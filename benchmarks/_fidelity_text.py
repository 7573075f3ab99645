"""Transformers' models against keras-hub's backbones; keras-hub's own converter is the independent oracle."""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks._fidelity import Entry, Pair, randomised
from benchmarks._torchvision import declare_operators

_NEEDS = ("transformers", "keras_hub")
_ENCODER = {
    "vocab_size": 41,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 28,
    "max_position_embeddings": 19,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "tie_word_embeddings": False}


def _tokens(*, types: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = np.random.default_rng(5)
    tokens = generator.integers(3, 40, (2, 9)).astype(np.int64)
    mask = np.ones_like(tokens)
    torch, keras = {"input_ids": tokens, "attention_mask": mask}, {"token_ids": tokens, "padding_mask": mask}
    if types:
        segments = generator.integers(0, 2, tokens.shape).astype(np.int64)
        return {**torch, "token_type_ids": segments}, {**keras, "segment_ids": segments}
    return torch, keras


def _image(size: int) -> tuple[Any, Any]:
    image = np.random.default_rng(5).standard_normal((2, 3, size, size)).astype(np.float32)
    return {"pixel_values": image}, np.ascontiguousarray(np.moveaxis(image, 1, -1))


def _made(family: str, config: Mapping[str, Any], inputs: Callable[[], tuple[Any, Any]], model: str = "Model") -> Pair:
    """Writes a small random model to a folder, and reads that with keras-hub."""
    if find_spec("torchvision") is not None:
        declare_operators()  # transformers imports torchvision where it is installed
    import keras_hub
    import transformers

    options = getattr(transformers, f"{family}Config")(**config)
    module = randomised(getattr(transformers, f"{family}{model}")(options))
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        backbone = keras_hub.models.Backbone.from_preset(folder, dtype="float32")
    given, keras_given = inputs()
    return Pair(torch=module, keras=backbone, inputs=given, keras_inputs=keras_given, restores=True)


_PATCHES = {"image_size": 12, "patch_size": 4, "hidden_act": "gelu"}
_ViT = {name: value for name, value in _ENCODER.items() if name not in ("vocab_size", "max_position_embeddings")}

ENTRIES = tuple(
    Entry(name=name, build=build, needs=_NEEDS)
    for name, build in (
        ("BERT", partial(_made, "Bert", _ENCODER, partial(_tokens, types=True))),
        ("RoBERTa", partial(_made, "Roberta", {**_ENCODER, "pad_token_id": 1}, _tokens)),
        (
            "DistilBERT",
            partial(
                _made,
                "DistilBert",
                {"vocab_size": 41, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 28,
                 "max_position_embeddings": 19},
                _tokens,
            ),
        ),
        ("ALBERT", partial(_made, "Albert", {**_ENCODER, "embedding_size": 8}, partial(_tokens, types=True))),
        (
            "GPT-2",
            partial(_made, "GPT2", {"vocab_size": 41, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 19},
                    _tokens),
        ),
        ("Llama", partial(_made, "Llama", _DECODER, _tokens, "ForCausalLM")),
        ("Mistral", partial(_made, "Mistral", {**_DECODER, "sliding_window": 32}, _tokens, "ForCausalLM")),
        ("Qwen2", partial(_made, "Qwen2", _DECODER, _tokens, "ForCausalLM")),
        ("ViT", partial(_made, "ViT", {**_ViT, **_PATCHES}, partial(_image, 12), "ForImageClassification")),
        ("DeiT", partial(_made, "DeiT", {**_ViT, **_PATCHES}, partial(_image, 12), "ForImageClassification")),
    )
)  # fmt: skip
