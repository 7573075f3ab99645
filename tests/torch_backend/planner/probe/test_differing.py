"""The probe on models that do not compute the same: it looks for a way back, finds none, and says where they part."""

import keras3conv as k3c
from tests.support.models import randomize
from tests.support.planted.networks import ViT, images, vit


def test_where_two_models_attend_to_other_places_no_way_back_helps_and_every_layer_is_still_paired() -> None:
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
