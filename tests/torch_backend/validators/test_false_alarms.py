"""A correct pair passes the whole certificate; `benchmarks/false_alarms.py` tests all pairs."""

import pytest

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
