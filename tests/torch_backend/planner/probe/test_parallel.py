"""Parallel layers with equal shapes and the same input are paired by the outputs and by the numbers in their names."""

import keras
import numpy as np
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.planner.evidence.names import Ranks

NUMBER = 5


class Heads(nn.Module):
    """Parallel layers with separate outputs, all but one in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(6, 4) for _ in range(NUMBER))

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        made = [head(x) for head in self.heads]
        return {"some": made[:-1], "last": {"one": made[-1]}}


def twin(first: int, names: str = "head_{}") -> keras.Model:
    """Return the Keras counterpart, which calls the layers in another order; its names count from `first`."""
    inputs = keras.Input((6,))
    made = [keras.layers.Dense(4, name=names.format(first + place))(inputs) for place in range(NUMBER)]
    return keras.Model(inputs, {"some": made[:-1], "last": {"one": made[-1]}})


def found(model: keras.Model) -> dict[str, str]:
    module, inputs = Heads(), np.random.default_rng(0).standard_normal((2, 6), dtype=np.float32)
    plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=["outputs"]).raise_if_failed()
    return {pair.torch: pair.keras for pair in plan.pairs}


def test_parallel_layers_are_paired_by_the_numbers_in_their_names_whatever_the_call_order() -> None:
    assert found(twin(0)) == {f"heads.{place}": f"head_{place}" for place in range(NUMBER)}


def test_parallel_layers_are_paired_if_one_side_counts_from_one() -> None:
    assert found(twin(1)) == {f"heads.{place}": f"head_{place + 1}" for place in range(NUMBER)}


def test_swapped_outputs_make_the_search_backtrack() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"boxes": self.second(x), "scores": self.first(x)}

    inputs = keras.Input((6,))
    boxes, scores = (keras.layers.Dense(4, name=name)(inputs) for name in ("first", "second"))
    model = keras.Model(inputs, {"boxes": boxes, "scores": scores})
    plan = k3c.align(Two(), model, inputs=np.random.default_rng(0).standard_normal((2, 6), dtype=np.float32))
    assert {pair.torch: pair.keras for pair in plan.pairs} == {"second": "first", "first": "second"}


def test_ranks_are_compared_only_between_families_of_the_same_size() -> None:
    ours = Ranks.of(["heads.0", "heads.1", "blocks.0.fc1", "blocks.0.fc2", "alone"])
    theirs = Ranks.of(["head_1", "head_2", "head_10", "block_3/dense_7", "block_3/dense_8", "single"])
    assert not ours.differ("heads.0", theirs, "head_10")
    assert not ours.differ("blocks.0.fc1", theirs, "block_3/dense_7")
    assert ours.differ("blocks.0.fc1", theirs, "block_3/dense_8")
    assert not ours.differ("alone", theirs, "single")
    assert not ours.differ("nowhere", theirs, "single")
