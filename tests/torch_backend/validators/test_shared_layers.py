"""The calls of a shared layer are matched although the two frameworks call it in different orders."""

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c


class Pyramid(nn.Module):
    """Apply one head to two levels of features, as a detector does; torch calls it for the finer level first."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.lateral = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.fine(image))
        coarse = torch.relu(self.coarse(fine))
        upsampled = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        levels = [self.head(self.lateral(fine) + upsampled), self.head(coarse)]
        return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)


def pyramid(*, is_swapped: bool = False, is_wrong: bool = False) -> keras.Model:
    """Return the Keras counterpart of `Pyramid`, optionally with swapped levels or a doubled lateral branch."""
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    fine = layers.ZeroPadding2D(1)(image)
    fine = layers.Conv2D(8, 3, strides=2, activation="relu", name="fine")(fine)
    coarse = layers.Conv2D(8, 3, strides=2, activation="relu", name="coarse")(layers.ZeroPadding2D(1)(fine))
    lateral = layers.Conv2D(8, 1, name="lateral")(fine)
    finer = layers.Add()([lateral, layers.UpSampling2D(2)(coarse)])
    finer = layers.Add()([finer, lateral]) if is_wrong else finer
    head = layers.Conv2D(4, 1, name="head")
    levels = [layers.Reshape((-1, 4))(head(level)) for level in (finer, coarse)]
    return keras.Model(image, layers.Concatenate(axis=1)(levels[::-1] if is_swapped else levels))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Pyramid().eval()


def certificate(module: nn.Module, model: keras.Model) -> k3c.Report:
    """Return the certificate after a transfer by a plan from the names."""
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan, accept_difference=True)
    return k3c.validate(module, model, alignment=plan)


def test_a_shared_head_that_keras_calls_in_another_order_passes(module: nn.Module) -> None:
    report = certificate(module, pyramid())
    assert report.ok, str(report)
    (float64,) = (section for section in report.sections if section.name == "float64")
    assert "5 layer calls" in float64.summary


@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize("mistake", ["is_swapped", "is_wrong"])
def test_a_wrong_use_of_a_shared_head_fails(module: nn.Module, mistake: str) -> None:
    assert not certificate(module, pyramid(**{mistake: True})).ok


def test_a_converted_detector_head_passes(module: nn.Module) -> None:
    report = k3c.convert(module, inputs=torch.randn(2, 3, 16, 16)).report
    assert report is not None
    assert report.ok, str(report)
