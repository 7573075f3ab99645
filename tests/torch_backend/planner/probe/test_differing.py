"""The probe on models with different functions: backtracking cannot help, and the plan names the first difference."""

import pytest

import keras3conv as k3c
from tests.support.models import randomize
from tests.support.planted.networks import ViT, images, vit


@pytest.mark.slow
def test_every_layer_is_paired_in_spite_of_an_inverted_attention_mask() -> None:
    module = ViT()
    randomize(module)
    plan = k3c.align(module, vit(mask="inverted"), inputs=images())
    assert not plan.problems()
    assert "they differ, first at blocks_1_out" in plan.notes[-1]
    assert {pair.torch.replace(".", "_"): pair.keras for pair in plan.pairs if not pair.unconfirmed}.items() >= {
        ("patches", "patches"),
        ("blocks_0_out", "blocks_0_out"),
        ("blocks_1_norm1", "blocks_1_norm1"),
    }
