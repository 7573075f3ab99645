"""Layers of two files are put in one order by the numbers and the words in their names, then by their order."""

from collections.abc import Sequence

import pytest

from keras3conv.model.views import LayerView
from keras3conv.planner.evidence.series import in_series


def matched(torch: Sequence[str], keras: Sequence[str], *, ordered: bool = True) -> dict[str, str]:
    """Return the Keras path for each torch path; a star follows it if only the order in the files decided."""
    torch_layers = [LayerView(path=path, is_ordered=ordered) for path in torch]
    found = in_series(torch_layers, [LayerView(path=path) for path in keras])
    return {match.torch.path: f"{match.keras.path}{'*' if match.by_order else ''}" for match in found}


def test_the_number_of_a_block_decides_before_the_order() -> None:
    torch = ["final", "layers.0.a.norm", "layers.1.a.norm"]
    assert matched(torch, ["block0_norm", "block1_norm", "norm"]) == {
        "layers.0.a.norm": "block0_norm",
        "layers.1.a.norm": "block1_norm",
        "final": "norm",
    }


def test_a_file_that_is_sorted_by_name_has_layer_10_after_layer_2() -> None:
    torch = sorted(f"layers.{number}.fc" for number in range(12))
    keras = [f"dense_{number}" if number else "dense" for number in range(12)]
    assert matched(torch, keras, ordered=False) == {f"layers.{number}.fc": keras[number] for number in range(12)}


def test_the_words_of_the_names_decide_between_layers_of_one_block() -> None:
    torch = [f"layers.{number}.{name}_norm" for number in range(2) for name in ("final", "self_attn")]
    keras = [f"block{number}_{name}_ln" for number in range(2) for name in ("attention", "mlp")]
    assert matched(torch, keras, ordered=False) == {
        "layers.0.self_attn_norm": "block0_attention_ln",
        "layers.0.final_norm": "block0_mlp_ln",
        "layers.1.self_attn_norm": "block1_attention_ln",
        "layers.1.final_norm": "block1_mlp_ln",
    }


def test_the_numbers_that_keras_gives_count_within_a_block() -> None:
    torch = ["h.0.first", "h.0.second", "h.1.first", "h.1.second"]
    keras = ["block/dense", "block/dense_1", "block_1/dense_2", "block_1/dense_3"]
    assert matched(torch, keras) == {path: f"{other}*" for path, other in zip(torch, keras, strict=True)}


@pytest.mark.parametrize(
    ("torch", "keras"),
    [
        (["a", "b.0", "b.1"], ["x_1", "x_2", "x_3"]),  # other numbers of layers
        (["a", "b"], ["y", "x"]),  # no common words
        (["a", "a.b"], ["x", "x_1"]),  # one path is part of another
    ],
)
def test_layers_whose_names_do_not_correspond_keep_their_order_and_are_marked(
    torch: list[str], keras: list[str]
) -> None:
    assert matched(torch, keras) == {path: f"{other}*" for path, other in zip(torch, keras, strict=True)}
