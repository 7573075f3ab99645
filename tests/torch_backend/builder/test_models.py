"""Conversion of third-party models: a ResNet8 of Keras 2, and backbones of keras-hub."""

from collections.abc import Callable
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import torch

import keras3conv as k3c

pytestmark = pytest.mark.slow

backbones = keras_hub.models


def bert() -> keras.Model:
    return backbones.BertBackbone(
        vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=32
    )


def gpt2() -> keras.Model:
    return backbones.GPT2Backbone(
        vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=32
    )


def vit() -> keras.Model:
    return backbones.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16
    )


@pytest.mark.parametrize("make", [bert, gpt2, vit], ids=lambda make: make.__name__)
def test_a_backbone_passes_validation_and_its_layers_are_one_class(make: Callable[[], keras.Model]) -> None:
    conversion = k3c.convert(make())
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert not conversion.report.with_status("skipped")
    assert conversion.source.count("(nn.Module)") == 2


def llama() -> keras.Model:
    return backbones.LlamaBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=24,
    )


def gemma() -> keras.Model:
    return backbones.GemmaBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=1,
        hidden_dim=16,
        intermediate_dim=24,
        head_dim=4,
    )


@pytest.mark.parametrize("make", [llama, gemma], ids=lambda make: make.__name__)
def test_a_decoder_with_rotary_embeddings_passes_validation(make: Callable[[], keras.Model]) -> None:
    conversion = k3c.convert(make())
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert not conversion.report.with_status("skipped")


def test_a_converted_language_model_takes_sequences_of_any_length() -> None:
    model = gpt2()
    conversion = k3c.convert(model, validate=False)
    for length in (2, 7, 32):
        tokens = np.arange(2 * length).reshape(2, length).astype("int32") % 50
        mask = np.ones_like(tokens)
        expected = model.predict({"token_ids": tokens, "padding_mask": mask}, verbose=0)
        with torch.no_grad():
            found = conversion.model(torch.from_numpy(mask), torch.from_numpy(tokens))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_mlperf_resnet8_has_short_source_code_and_the_same_accuracy(shared: Path) -> None:
    conversion = k3c.convert(shared / "mlperf_tiny_resnet8.h5")
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert "class Block(nn.Module):" in conversion.source
    assert "permute" not in conversion.source
    assert len(conversion.source.splitlines()) < 80
    with np.load(shared / "cifar10_test_846.npz") as file:
        images, labels = torch.from_numpy(file["images"].astype("float32")), file["labels"]
    with torch.no_grad():
        assert int((conversion.model(images).argmax(1).numpy() == labels).sum()) == 742
