"""A correct pair passes the whole certificate; `benchmarks/false_alarms.py` tests all pairs."""

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from benchmarks.false_alarms import cases, judge
from keras3conv.rules.library import find
from tests.support.pairs import make_pair

EVERY = 16
"""One of this number of examples is tried; adjacent examples belong to the same rule, so most rules are covered."""

SAMPLE = cases("")[::EVERY]


# Torch announces that it pads a copy where an even kernel needs more on one side; that is what is on trial.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("name", "place"), SAMPLE, ids=[f"{name} {place}" for name, place in SAMPLE])
def test_the_certificate_reports_no_problem_for_a_correct_pair(name: str, place: int) -> None:
    assert judge(name, place) == ""


def test_the_certificate_reports_a_wrong_padding_within_a_pair() -> None:
    pair = make_pair(find("torch.nn.ConvTranspose2d <-> keras.layers.Conv2DTranspose"), 1)
    assert pair.certificate().ok, "a cropping of its own makes up for what the two layers differ in"
    object.__setattr__(pair.torch.layer, "padding", (0, 1))
    failed = {section.name for section in pair.certificate().with_status("failed")}
    assert failed >= {"float64", "outputs"}


class DoublesTheInput(nn.Module):
    """A linear layer without a bias gets twice the input, and half of its output goes to the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, bias=False)
        self.second = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(2 * x) / 2)


def test_the_summary_names_a_layer_whose_difference_the_next_layer_compensates() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, use_bias=False, name="stem"), layers.Dense(3, name="head")]
    )
    module = DoublesTheInput()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan, accept_unconfirmed=True)
    section = k3c.validate(module, model, plan=plan, proofs=["float64"]).section("float64")
    assert section.status == "passed"
    assert "1 layer call differs (first / stem), compensated by the next layers" in section.summary
