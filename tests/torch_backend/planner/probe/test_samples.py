"""The probe uses only the first sample if the inputs have a batch axis, and the plan notes this."""

from typing import Any, ClassVar

import keras
import numpy as np
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.shared.inputs import Inputs, first_samples
from keras3conv.model.views import InputSpec

FREE = InputSpec(shape=(None, 6))


def twin(*, batch: int | None = None) -> keras.Model:
    return keras.Sequential([keras.Input((6,), batch_size=batch), keras.layers.Dense(5, activation="relu")])


def notes(module: nn.Module, model: keras.Model, inputs: Any) -> str:
    plan = k3c.align(module, model, inputs=inputs)
    plan.check()
    assert {entry.kind for pair in plan.pairs for entry in pair.evidence} == {"probe"}
    return " ".join(plan.notes)


class Seen(nn.Module):
    """Records the number of samples of each call, in the class because the probe restores the module."""

    counts: ClassVar[list[int]]

    def __init__(self, only: int | None = None) -> None:
        super().__init__()
        self.fc, self.only = nn.Linear(6, 5), only
        type(self).counts = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(x))
        if self.only:
            x = x.reshape(self.only, 6)
        return torch.relu(self.fc(x))


def test_only_the_first_of_many_samples_is_used_and_the_plan_says_so() -> None:
    module = Seen()
    assert "with the first of 64 samples" in notes(module, twin(), np.ones((64, 6), "float32"))
    assert max(module.counts) == 1


def test_a_module_that_needs_the_full_batch_is_probed_with_all_samples() -> None:
    module = Seen(only=8)
    assert "samples" not in notes(module, twin(), np.ones((8, 6), "float32"))
    assert module.counts[-1] == 8


def test_a_keras_model_with_a_static_batch_size_is_probed_with_all_samples() -> None:
    module = Seen()
    assert "samples" not in notes(module, twin(batch=8), np.ones((8, 6), "float32"))
    assert set(module.counts) == {8}


def test_a_first_axis_with_time_steps_is_not_cut() -> None:
    steps_first = np.random.default_rng(0).standard_normal((7, 7, 6))
    samples_first = np.swapaxes(steps_first, 0, 1)
    spec = InputSpec(shape=(None, 7, 6))
    assert first_samples(Inputs(torch=steps_first, keras=samples_first, note=""), [spec]) is None
    both = Inputs(torch=samples_first, keras=samples_first.astype("float32"), note="")
    few = first_samples(both, [spec])
    assert few is not None
    assert few.torch.shape == few.keras.shape == (1, 7, 6)


def test_nested_inputs_are_all_cut_and_other_values_are_kept() -> None:
    tokens, mask = torch.arange(20).reshape(4, 5), torch.ones((4, 5), dtype=torch.bool)
    given = Inputs(torch={"ids": tokens, "mask": mask, "scale": 2.0}, keras=[tokens.numpy(), mask.numpy()], note="")
    few = first_samples(given, [])
    assert few is not None
    assert [few.torch["ids"].shape, few.torch["mask"].shape, few.torch["scale"]] == [(1, 5), (1, 5), 2.0]
    assert [array.shape for array in few.keras] == [(1, 5), (1, 5)]


def test_inputs_without_several_samples_are_not_cut() -> None:
    def cut(torch_side: object, keras_side: object) -> Inputs | None:
        return first_samples(Inputs(torch=torch_side, keras=keras_side, note=""), [FREE])

    rows = np.ones((4, 6))
    assert cut(rows[:1], rows[:1]) is None
    assert cut(np.float64(1.0), np.float64(1.0)) is None
    assert cut(rows, rows[:3]) is None
    assert cut((rows, rows), rows) is None
    assert cut(rows, 2 * rows) is None
