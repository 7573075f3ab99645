"""Long images of any size are made smaller for the runs at other magnitudes and for the gradients."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section
from keras3conv.validators import float64
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.variants import Variant, variants

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 128, 130)).astype("float32")

SMALLER = "63x62"


class Blocks(nn.Module):
    """A convolution, a normalisation, a clip, and a mean; it counts its calls by the height of the images."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.change, self.heights = change, Counter[int]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.heights[x.shape[2]] += 1
        found: torch.Tensor = self.head(self.change(nn.functional.relu6(self.norm(self.conv(x)))).mean((2, 3)))
        return found


def blocks(epsilon: float = 1e-5, limit: float = 6.0, change: Callable[[Any], Any] = lambda x: x) -> keras.Model:
    given = keras.Input((None, None, 3))
    x = layers.BatchNormalization(epsilon=epsilon, momentum=0.9, name="norm")(
        layers.Conv2D(4, 3, 2, name="conv")(given)
    )
    x = change(layers.ReLU(limit)(x))
    return keras.Model(given, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)))


def proven(module: Blocks, model: keras.Model, *proofs: str) -> dict[str, Section]:
    plan = k3c.align(module, model, inputs=IMAGES, probe=False)
    k3c.transfer(module, model, plan)
    module.heights.clear()
    report = k3c.validate(module, model, inputs=IMAGES, plan=plan, proofs=proofs or ("float64", "gradients"))
    return {section.name: section for section in report.sections}


def test_the_runs_at_other_magnitudes_and_the_gradients_have_smaller_images() -> None:
    module = Blocks()
    found = proven(module, blocks())
    assert {section.status for section in found.values()} == {"passed"}
    exercised = found["float64"].facts["exercised"]
    assert f"at values of 32 and size {SMALLER}" in exercised
    assert f"at values of 4e-06 and size {SMALLER}" in exercised
    assert f"at size {SMALLER} and 160x162" in exercised
    assert "one step in training mode" in found["gradients"].summary
    assert module.heights[128] == 1


def test_the_statistics_in_training_mode_are_observed_on_smaller_images() -> None:
    heights: list[int] = []

    class Observed(layers.Layer):
        """Notes the height of the images in training mode."""

        def call(self, x: Any, training: bool = False) -> Any:
            if training:
                heights.append(x.shape[1])
            return x

    module = Blocks()
    found = proven(module, blocks(change=Observed()), "hyperparameters", "float64", "gradients")
    assert {section.status for section in found.values()} == {"passed"}
    assert "one step in training mode" in found["gradients"].summary
    assert heights == [31]


@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize(("wrong", "fact"), [({"epsilon": 2e-5}, "norm"), ({"limit": 20.0}, "differs")])
def test_a_mistake_that_other_magnitudes_show_is_found_on_smaller_images(wrong: dict[str, Any], fact: str) -> None:
    section = proven(Blocks(), blocks(**wrong), "float64")["float64"]
    assert section.status == "failed"
    assert fact in str(section.problems[0])


def test_a_gradient_that_differs_is_judged_on_the_given_images() -> None:
    module = Blocks()
    found = proven(module, blocks(change=ops.stop_gradient))
    assert found["float64"].status == "passed"
    assert found["gradients"].status == "failed"
    assert module.heights[128] > 1


@pytest.mark.usefixtures("without_causes")
def test_a_branch_for_large_images_is_not_left_out() -> None:
    def sign(x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, max=3.0) if x.shape[2] > 40 else x

    exercised = proven(Blocks(sign), blocks(limit=3.0), "float64")["float64"]
    assert exercised.status == "failed"  # below that size there is no such limit
    module = Blocks(lambda x: torch.flip(x, (2,)) if x.shape[2] > 40 else x)
    found = proven(module, blocks(change=lambda x: x))
    assert found["float64"].status == "passed"
    assert "at values of 32 and " in found["float64"].facts["exercised"]
    assert module.heights[128] > 1


def test_the_values_of_a_run_are_freed_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made, alive = list[weakref.ref[Any]](), list[int]()

    def watched(subject: Subject) -> Iterator[Variant]:
        further = variants(subject)
        while (variant := next(further, None)) is not None:
            if variant.is_scaled_in_run or SMALLER not in variant.name:  # the magnitudes use the other one, too
                alive.append(sum(one() is not None for one in made))
                made.append(weakref.ref(variant.subject))
            yield variant
            del variant

    monkeypatch.setattr(float64, "variants", watched)
    assert proven(Blocks(), blocks(), "float64")["float64"].status == "passed"
    assert alive == [0, 0, 0]
