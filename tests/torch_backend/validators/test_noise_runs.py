"""A noise floor of few values may be small by chance: it is measured again before a pair fails."""

import keras
import numpy as np
import pytest

import keras3conv as k3c
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.validators.running.noise_runs import REPEATS, NoiseRuns

PROOFS = ("outputs", "activations")

SEED = 37
"""With these weights, torch's rounding error after a few layers is smaller than usual by a factor of ten."""


Pair = tuple[k3c.Conversion, keras.Model]


@pytest.fixture
def pair() -> Pair:
    """Return a chain of 45 layers of four units, whose outputs have four values for each of two samples."""
    keras.utils.set_random_seed(SEED)
    inputs = x = keras.Input((4,))
    for _ in range(45):
        x = keras.layers.Dense(4)(x)
    model = keras.Model(inputs, x)
    return k3c.convert(model, validate=False), model


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of each further measurement."""
    numbers: list[int] = []
    measure = NoiseRuns._pair

    def recorded(runs: NoiseRuns, number: int) -> tuple[Recording, Recording]:
        numbers.append(number)
        return measure(runs, number)

    monkeypatch.setattr(NoiseRuns, "_pair", recorded)
    return numbers


def validated(pair: Pair) -> k3c.Report:
    made, model = pair
    return k3c.validate(made.model, model, inputs=made.inputs, plan=made.plan, proofs=PROOFS)


@pytest.mark.slow
def test_rounding_above_a_floor_that_is_small_by_chance_passes(pair: Pair) -> None:
    assert validated(pair).ok


@pytest.mark.slow
@pytest.mark.usefixtures("without_causes")
def test_a_change_a_little_above_the_noise_still_fails(pair: Pair, measured: list[int]) -> None:
    floor = validated(pair).section("outputs").tables[0].rows[0][3]
    assert isinstance(floor, float)
    bias = pair[1].layers[-1].bias
    bias.assign(bias + np.float32(200 * floor))
    report = validated(pair)
    assert {section.name for section in report.with_status("failed")} == {"outputs", "activations"}
    assert measured[-REPEATS:] == list(range(REPEATS))


@pytest.mark.slow
def test_a_large_difference_needs_no_further_measurement(pair: Pair, measured: list[int]) -> None:
    bias = pair[1].layers[1].bias
    bias.assign(bias + 1.0)
    assert not validated(pair).ok
    assert not measured
