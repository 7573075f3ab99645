"""Define pairs of a transformers model and a keras-hub backbone; keras-hub's converter determines the right weights."""

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
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


def _two_texts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs of an encoder-decoder for torch and for Keras."""
    generator = np.random.default_rng(5)
    source, target = (generator.integers(3, 40, (2, length)).astype(np.int64) for length in (9, 7))
    source_mask, target_mask = np.ones_like(source), np.ones_like(target)
    torch = {"input_ids": source, "attention_mask": source_mask}
    keras = {"encoder_token_ids": source, "encoder_padding_mask": source_mask}
    return (
        {**torch, "decoder_input_ids": target, "decoder_attention_mask": target_mask},
        {**keras, "decoder_token_ids": target, "decoder_padding_mask": target_mask},
    )


def _image(size: int) -> tuple[Any, Any]:
    image = np.random.default_rng(5).standard_normal((2, 3, size, size)).astype(np.float32)
    return {"pixel_values": image}, np.ascontiguousarray(np.moveaxis(image, 1, -1))


def _made(
    family: str,
    config: Mapping[str, Any],
    inputs: Callable[[], tuple[Any, Any]],
    model: str = "Model",
    *,
    base: bool = True,
    without: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Pair:
    """Return a pair: save a small random transformers model to a folder, and load this folder with keras-hub.

    Args:
        family: The name of the model family in transformers.
        config: The configuration.
        inputs: A function that returns the inputs of both models.
        model: The model of the family that is saved; some converters need the weight names of a model with a head.
        base: Whether the torch side is the model without its head.
        without: Torch layers without a counterpart in keras-hub, each with the reason.
        settings: Entries of the configuration that keras-hub reads under names that transformers no longer writes.
    """
    if find_spec("torchvision") is not None:
        declare_operators()  # transformers imports torchvision where it is installed
    import keras_hub
    import transformers

    options = getattr(transformers, f"{family}Config")(**config)
    module = with_few_digits(randomised(getattr(transformers, f"{family.removesuffix('Text')}{model}")(options)))
    if any(name.endswith("Experts") for name in map(_class_name, module.modules())):
        module.set_experts_implementation("eager")  # the other implementations have no float64 kernel
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        _add_settings(Path(folder) / "config.json", settings or {})
        backbone = keras_hub.models.Backbone.from_preset(folder, dtype="float32")
    given, keras_given = inputs()
    torch = module.base_model if base else module
    return Pair(
        torch=torch, keras=backbone, inputs=given, keras_inputs=keras_given, restores=True, without=without or {}
    )


def _class_name(module: Any) -> str:
    return type(module).__name__


def _add_settings(file: Path, settings: Mapping[str, Any]) -> None:
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**known, **settings}), encoding="utf-8")


def with_few_digits(module: Any) -> Any:
    """Return the module with weights that are exact in half precision, which some keras-hub converters use."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half().bfloat16())
    return module


_PATCHES = {"image_size": 12, "patch_size": 4, "hidden_act": "gelu"}
_ViT = {name: value for name, value in _ENCODER.items() if name not in ("vocab_size", "max_position_embeddings")}

_TANH = {"hidden_act": "gelu_new"}
"""Keras-hub's encoders have the tanh GELU, whatever the configuration says."""

_DISTIL = {"vocab_size": 41, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 28, "max_position_embeddings": 19}
_GPT2 = {
    "vocab_size": 41,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "n_embd": 16,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 19,
}
_TIED = {"tie_word_embeddings": True}
_MOE = {**_DECODER, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
_BART = {
    "vocab_size": 41,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 28,
    "decoder_ffn_dim": 28,
    "max_position_embeddings": 19,
}
_T5 = {**_DECODER, "num_hidden_layers": 2, "head_dim": 6, "query_pre_attn_scalar": 6}
_DINO = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 12, "patch_size": 4}
_SWIN = {
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 2,
    "image_size": 16,
    "patch_size": 2,
    "mlp_ratio": 2.0,
}
_typed = partial(_tokens, types=True)
_small_image = partial(_image, 12)

_FAMILIES: Mapping[str, Callable[[], Pair]] = {
    "BERT": partial(_made, "Bert", {**_ENCODER, **_TANH}, _typed),
    "RoBERTa": partial(
        _made,
        "Roberta",
        {**_ENCODER, **_TANH, "pad_token_id": 1},
        _tokens,
        "ForMaskedLM",
        without={"embeddings.token_type_embeddings": "keras-hub has no types of tokens, and its converter leaves them"},
    ),
    "DistilBERT": partial(_made, "DistilBert", _DISTIL, _tokens, "ForMaskedLM"),
    "ALBERT": partial(_made, "Albert", {**_ENCODER, **_TANH, "embedding_size": 8}, _typed, "ForPreTraining"),
    "GPT-2": partial(_made, "GPT2", _GPT2, _tokens),
    "Llama": partial(_made, "Llama", _DECODER, _tokens, "ForCausalLM", base=False),
    "Mistral": partial(_made, "Mistral", {**_DECODER, "sliding_window": 32}, _tokens, "ForCausalLM", base=False),
    "Qwen2": partial(_made, "Qwen2", _DECODER, _tokens, "ForCausalLM", base=False),
    "Qwen3": partial(_made, "Qwen3", {**_DECODER, "head_dim": 6}, _tokens, "ForCausalLM", base=False),
    "Gemma": partial(_made, "Gemma", {**_DECODER, "head_dim": 6, **_TIED}, _tokens, "ForCausalLM", base=False),
    "Gemma 2": partial(
        _made,
        "Gemma2",
        {**_DECODER, "head_dim": 6, "query_pre_attn_scalar": 6, **_TIED},
        _tokens,
        "ForCausalLM",
        base=False,
    ),
    "Gemma 3": partial(
        _made,
        "Gemma3Text",
        {**_DECODER, "head_dim": 6, "query_pre_attn_scalar": 6, "sliding_window": 32, **_TIED},
        _tokens,
        "ForCausalLM",
        base=False,
    ),
    "SmolLM3": partial(
        _made, "SmolLM3", {**_DECODER, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}, _tokens, "ForCausalLM"
    ),
    "Mixtral": partial(
        _made,
        "Mixtral",
        {**_DECODER, "num_experts_per_tok": 2, "num_local_experts": 3, "sliding_window": 32},
        _tokens,
        "ForCausalLM",
        base=False,
    ),
    "Qwen2-MoE": partial(
        _made,
        "Qwen2Moe",
        {**_MOE, "num_experts": 3, "shared_expert_intermediate_size": 20},
        _tokens,
        "ForCausalLM",
        base=False,
    ),
    "Qwen3-MoE": partial(
        _made,
        "Qwen3Moe",
        {**_MOE, "num_experts": 3, "head_dim": 6},
        _tokens,
        "ForCausalLM",
        base=False,
        settings={"num_experts": 3},
    ),
    "BART": partial(_made, "Bart", _BART, _two_texts, settings={"num_hidden_layers": 2}),
    "T5Gemma": partial(
        _made,
        "T5Gemma",
        {"encoder": _T5, "decoder": {**_T5, "cross_attention_hidden_size": 16}, "vocab_size": 41},
        _two_texts,
        "ForConditionalGeneration",
    ),
    "DINOv3": partial(
        _made,
        "DINOv3ViT",
        {**_DINO, "intermediate_size": 28, "num_register_tokens": 2},
        _small_image,
        base=False,
    ),
    "Swin": partial(_made, "Swin", _SWIN, partial(_image, 16), "ForImageClassification"),
    "ViT": partial(_made, "ViT", {**_ViT, **_PATCHES}, _small_image, "ForImageClassification"),
    "DeiT": partial(_made, "DeiT", {**_ViT, **_PATCHES}, _small_image, "ForImageClassification"),
}

ENTRIES = tuple(Entry(name=name, build=build, needs=_NEEDS) for name, build in _FAMILIES.items())
