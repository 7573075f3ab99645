"""List transformers models for text, images and audio, each built from a small configuration with random weights."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmarks._torchvision import declare_operators
from benchmarks._zoo import Architecture

_SMALL = {
    "vocab_size": 41,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 28,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "head_dim": 4, "tie_word_embeddings": False}


def _text(length: int = 9, **more: Any) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(3, 40, (2, length), generator=generator)
    mask = torch.ones_like(tokens)
    mask[1, length - 2 :] = 0
    return {"input_ids": tokens, "attention_mask": mask, **more}


def _tokens(length: int = 9) -> dict[str, Any]:
    return {"input_ids": _text(length)["input_ids"]}


def _causal() -> dict[str, Any]:
    return {**_text(), "use_cache": False}


def _two_texts() -> dict[str, Any]:
    given = _text()
    return {**given, "decoder_input_ids": given["input_ids"][:, :7], "use_cache": False}


def _image(size: int = 16, channels: int = 3) -> dict[str, Any]:
    import torch

    return {"pixel_values": torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(5))}


def _image_and_text() -> dict[str, Any]:
    return {**_text(), **_image()}


def _sound(samples: int = 400) -> dict[str, Any]:
    import torch

    return {"input_values": torch.randn(2, samples, generator=torch.Generator().manual_seed(5))}


def _spectrogram_and_text() -> dict[str, Any]:
    import torch

    features = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(5))
    return {"input_features": features, "decoder_input_ids": _text()["input_ids"][:, :7], "use_cache": False}


def _spectrogram() -> dict[str, Any]:
    import torch

    return {"input_values": torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(5))}


def _made(
    family: str, config: Mapping[str, Any], inputs: Callable[[], dict[str, Any]], model: str = "Model"
) -> tuple[Any, Any]:
    if find_spec("torchvision") is not None:
        declare_operators()  # transformers imports torchvision where it is installed
    import transformers

    options = getattr(transformers, f"{family}Config")(**config)
    names = (f"{family}{model}", f"{family.removesuffix('Text')}{model}")
    made = next(getattr(transformers, name) for name in names if hasattr(transformers, name))
    return made(options), inputs()


_CAUSAL = "ForCausalLM"
_BART = {
    "vocab_size": 41, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 28, "decoder_ffn_dim": 28, "max_position_embeddings": 24,
    "pad_token_id": 0, "decoder_start_token_id": 1,
}  # fmt: skip
_PATCHES = {
    "image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 28,
}  # fmt: skip
_SWIN = {
    "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 32, "patch_size": 2,
}  # fmt: skip
_WAVES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 28, "vocab_size": 12,
    "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2,
}  # fmt: skip
_GPT = {"vocab_size": 41, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "bos_token_id": 1}
_T5 = {"vocab_size": 41, "d_model": 16, "d_kv": 4, "d_ff": 28, "num_layers": 2, "num_heads": 4, "pad_token_id": 0}
_PAIRED = {**_SMALL, "projection_dim": 8}
_IMAGES = {**_PATCHES, "projection_dim": 8}
_CONVNEXT = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1], "num_stages": 4}
_SEGFORMER = {
    "hidden_sizes": [8, 12, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 8,
}  # fmt: skip

_ENCODERS: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "BERT": partial(_made, "Bert", _SMALL, _text),
    "BERT classifier": partial(_made, "Bert", _SMALL, _text, "ForSequenceClassification"),
    "RoBERTa": partial(_made, "Roberta", _SMALL, _text, "ForMaskedLM"),
    "DistilBERT": partial(
        _made,
        "DistilBert",
        {"vocab_size": 41, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 28, "max_position_embeddings": 24},
        _text,
    ),
    "ALBERT": partial(_made, "Albert", {**_SMALL, "embedding_size": 8}, _text),
    "ELECTRA": partial(_made, "Electra", {**_SMALL, "embedding_size": 8}, _text),
    "DeBERTa": partial(_made, "Deberta", {**_SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, _text),
    "DeBERTa v2": partial(
        _made,
        "DebertaV2",
        {**_SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
        _text,
    ),
    "MPNet": partial(_made, "MPNet", _SMALL, _text),
    "ConvBERT": partial(_made, "ConvBert", {**_SMALL, "embedding_size": 16, "head_ratio": 2}, _text),
    "MobileBERT": partial(
        _made,
        "MobileBert",
        {**_SMALL, "embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
        _text,
    ),
    "SqueezeBERT": partial(_made, "SqueezeBert", {**_SMALL, "embedding_size": 16}, _text),
    "RoFormer": partial(_made, "RoFormer", {**_SMALL, "embedding_size": 16}, _text),
    "ModernBERT": partial(_made, "ModernBert", {**_SMALL, "local_attention": 4}, _text),
    "Nystromformer": partial(_made, "Nystromformer", {**_SMALL, "segment_means_seq_len": 9, "num_landmarks": 9}, _text),
    "FNet": partial(_made, "FNet", {**_SMALL, "tpu_short_seq_length": 9}, _tokens),
    "Funnel": partial(
        _made,
        "Funnel",
        {"vocab_size": 41, "d_model": 16, "n_head": 4, "d_head": 4, "d_inner": 28, "block_sizes": [1, 1]},
        _text,
    ),
    "Longformer": partial(_made, "Longformer", {**_SMALL, "attention_window": 4}, partial(_text, 8)),
    "XLM-RoBERTa": partial(_made, "XLMRoberta", _SMALL, _text),
    "Splinter": partial(_made, "Splinter", _SMALL, _text),
    "NomicBERT": partial(_made, "NomicBert", _SMALL, _text),
}
_DECODERS: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "GPT": partial(_made, "OpenAIGPT", {**_GPT}, _text, "LMHeadModel"),
    "GPT-2": partial(_made, "GPT2", _GPT, _causal, "LMHeadModel"),
    "GPT Neo": partial(
        _made,
        "GPTNeo",
        {
            "vocab_size": 41, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "intermediate_size": 28,
            "max_position_embeddings": 24, "attention_types": [[["global", "local"], 1]], "window_size": 4,
        },
        _causal,
        _CAUSAL,
    ),
    "GPT-NeoX": partial(_made, "GPTNeoX", _SMALL, _causal, _CAUSAL),
    "GPT-J": partial(_made, "GPTJ", {**_GPT, "rotary_dim": 4}, _causal, _CAUSAL),
    "GPT BigCode": partial(_made, "GPTBigCode", _GPT, _causal, _CAUSAL),
    "CodeGen": partial(_made, "CodeGen", {**_GPT, "rotary_dim": 4}, _causal, _CAUSAL),
    "OPT": partial(_made, "OPT", {**_SMALL, "ffn_dim": 28, "word_embed_proj_dim": 16}, _causal, _CAUSAL),
    "BLOOM": partial(_made, "Bloom", {"vocab_size": 41, "hidden_size": 16, "n_layer": 2, "n_head": 4}, _causal,
                     _CAUSAL),
    "Llama": partial(_made, "Llama", _DECODER, _causal, _CAUSAL),
    "Mistral": partial(_made, "Mistral", {**_DECODER, "sliding_window": 5}, _causal, _CAUSAL),
    "Qwen2": partial(_made, "Qwen2", _DECODER, _causal, _CAUSAL),
    "Qwen3": partial(_made, "Qwen3", _DECODER, _causal, _CAUSAL),
    "Gemma": partial(_made, "Gemma", _DECODER, _causal, _CAUSAL),
    "Gemma 2": partial(_made, "Gemma2", {**_DECODER, "query_pre_attn_scalar": 4}, _causal, _CAUSAL),
    "Gemma 3": partial(_made, "Gemma3Text", {**_DECODER, "query_pre_attn_scalar": 4}, _causal, "ForCausalLM"),
    "Phi": partial(_made, "Phi", _SMALL, _causal, _CAUSAL),
    "Phi-3": partial(_made, "Phi3", {**_DECODER, "eos_token_id": 2, "bos_token_id": 1}, _causal, _CAUSAL),
    "Falcon": partial(_made, "Falcon", _SMALL, _causal, _CAUSAL),
    "StableLM": partial(_made, "StableLm", _DECODER, _causal, _CAUSAL),
    "OLMo 2": partial(_made, "Olmo2", _DECODER, _causal, _CAUSAL),
    "Cohere": partial(_made, "Cohere", _DECODER, _causal, _CAUSAL),
    "StarCoder 2": partial(_made, "Starcoder2", _DECODER, _causal, _CAUSAL),
    "Granite": partial(_made, "Granite", _DECODER, _causal, _CAUSAL),
    "SmolLM 3": partial(_made, "SmolLM3", {**_DECODER, "eos_token_id": 2, "bos_token_id": 1}, _causal, _CAUSAL),
    "MPT": partial(_made, "Mpt", {"vocab_size": 41, "d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 24},
                   _causal, _CAUSAL),
}  # fmt: skip
_BOTH: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "T5": partial(_made, "T5", _T5, _two_texts, "ForConditionalGeneration"),
    "mT5": partial(_made, "MT5", _T5, _two_texts, "ForConditionalGeneration"),
    "BART": partial(_made, "Bart", _BART, _two_texts, "ForConditionalGeneration"),
    "mBART": partial(_made, "MBart", _BART, _two_texts, "ForConditionalGeneration"),
    "Pegasus": partial(_made, "Pegasus", _BART, _two_texts, "ForConditionalGeneration"),
    "Marian": partial(_made, "Marian", _BART, _two_texts, "MTModel"),
    "Blenderbot": partial(_made, "Blenderbot", _BART, _two_texts, "ForConditionalGeneration"),
    "M2M-100": partial(_made, "M2M100", _BART, _two_texts, "ForConditionalGeneration"),
    "PLBART": partial(_made, "PLBart", _BART, _two_texts, "ForConditionalGeneration"),
}
_VISION: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "ViT": partial(_made, "ViT", _PATCHES, _image, "ForImageClassification"),
    "DeiT": partial(_made, "DeiT", _PATCHES, _image, "ForImageClassification"),
    "BEiT": partial(_made, "Beit", {**_PATCHES, "use_relative_position_bias": True}, _image, "ForImageClassification"),
    "DINOv2": partial(_made, "Dinov2", _PATCHES, _image, "ForImageClassification"),
    "DINOv3": partial(_made, "DINOv3ViT", {**_PATCHES, "num_register_tokens": 2}, _image),
    "Swin": partial(_made, "Swin", _SWIN, partial(_image, 32), "ForImageClassification"),
    "Swin v2": partial(_made, "Swinv2", _SWIN, partial(_image, 32), "ForImageClassification"),
    "ConvNeXt": partial(_made, "ConvNext", _CONVNEXT, partial(_image, 64), "ForImageClassification"),
    "ConvNeXt v2": partial(_made, "ConvNextV2", _CONVNEXT, partial(_image, 64), "ForImageClassification"),
    "SegFormer": partial(_made, "Segformer", _SEGFORMER, partial(_image, 64), "ForSemanticSegmentation"),
    "PoolFormer": partial(
        _made, "PoolFormer", {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]}, partial(_image, 64),
        "ForImageClassification",
    ),
    "MobileViT": partial(
        _made,
        "MobileViT",
        {"image_size": 64, "hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 32],
         "num_attention_heads": 4},
        partial(_image, 64),
        "ForImageClassification",
    ),
    "LeViT": partial(
        _made,
        "Levit",
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]},
        partial(_image, 64),
        "ForImageClassification",
    ),
    "ViT-MSN": partial(_made, "ViTMSN", _PATCHES, _image),
    "YOLOS": partial(
        _made, "Yolos", {**_PATCHES, "image_size": [16, 16], "num_detection_tokens": 5}, _image, "ForObjectDetection"
    ),
    "I-JEPA": partial(_made, "IJepa", _PATCHES, _image),
    "CLIP text": partial(_made, "CLIPText", {**_PAIRED, "eos_token_id": 40}, _text),
    "CLIP vision": partial(_made, "CLIPVision", _IMAGES, _image),
    "SigLIP vision": partial(_made, "SiglipVision", _IMAGES, _image),
    "DPT": partial(
        _made,
        "DPT",
        {**_PATCHES, "backbone_out_indices": [0, 1], "neck_hidden_sizes": [8, 12], "fusion_hidden_size": 8,
         "reassemble_factors": [2, 1], "is_hybrid": False},
        _image,
        "ForDepthEstimation",
    ),
}  # fmt: skip
_AUDIO: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "Whisper": partial(
        _made,
        "Whisper",
        {**_BART, "num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 24, "eos_token_id": 2},
        _spectrogram_and_text,
        "ForConditionalGeneration",
    ),
    "Wav2Vec 2.0": partial(_made, "Wav2Vec2", _WAVES, _sound, "ForCTC"),
    "HuBERT": partial(_made, "Hubert", _WAVES, _sound, "ForCTC"),
    "WavLM": partial(_made, "WavLM", _WAVES, _sound, "ForCTC"),
    "SEW": partial(_made, "SEW", {**_WAVES, "squeeze_factor": 2}, _sound, "ForCTC"),
    "AST": partial(
        _made,
        "AST",
        {**_PATCHES, "num_mel_bins": 16, "max_length": 24, "frequency_stride": 4, "time_stride": 4},
        _spectrogram,
        "ForAudioClassification",
    ),
}

ENTRIES = tuple(
    Architecture(name=name, build=build, kind=kind)
    for kind, families in (
        ("encoder", _ENCODERS),
        ("decoder", _DECODERS),
        ("encoder-decoder", _BOTH),
        ("vision", _VISION),
        ("audio", _AUDIO),
    )
    for name, build in families.items()
)
