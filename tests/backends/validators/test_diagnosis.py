"""The diagnosis names a cause on every Keras backend, because it reruns torch."""

from typing import Any

import pytest

from tests.support.planted.networks import ViT, Words, first_problem, images, sentences, vit, words

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("plant", "cause"),
    [
        ({"epsilon": 1e-3}, "epsilon is 1e-06 in torch and 0.001 in Keras"),
        ({"gelu": "tanh"}, "GELU is the erf variant in torch and the tanh variant in Keras"),
        ({"mask": "inverted"}, "the mask is inverted"),
    ],
)
def test_a_mistake_in_a_vision_transformer_is_named(plant: dict[str, Any], cause: str) -> None:
    assert cause in first_problem(ViT(), vit(**plant), images()).fact


def test_a_mistake_in_a_table_is_named() -> None:
    problem = first_problem(Words(), words(offset=1), sentences())
    assert "Keras' indices into the embedding table are 1 higher" in problem.fact
