"""The work of a deep model grows with its depth: counted in calls of functions, which no clock disturbs."""

import cProfile
import pstats
from collections.abc import Callable

import keras
import pytest
import torch

import keras3conv as k3c

SHALLOW, DEEP = 15, 45

EXPONENT = 1.1


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions a work calls."""
    profile = cProfile.Profile()
    profile.enable()
    work()
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def dense(depth: int) -> keras.Model:
    inputs = x = keras.Input((4,))
    for _ in range(depth):
        x = keras.layers.Dense(4)(x)
    return keras.Model(inputs, x)


def alignment(depth: int) -> Callable[[], object]:
    module = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(depth)))
    model, given = dense(depth), torch.rand(2, 4)
    return lambda: k3c.align(module, model, inputs=given).check()


def conversion(depth: int) -> Callable[[], object]:
    model = dense(depth)
    return lambda: k3c.convert(model, validate=False)


def certificate(depth: int) -> Callable[[], object]:
    model = dense(depth)
    made = k3c.convert(model, validate=False)
    return lambda: k3c.validate(made.model, model, inputs=made.inputs, plan=made.plan).raise_if_failed()


@pytest.mark.slow
@pytest.mark.parametrize("work", [alignment, conversion, certificate])
def test_the_work_grows_no_faster_than_the_depth(work: Callable[[int], Callable[[], object]]) -> None:
    work(SHALLOW)()  # fills what is computed once for all models
    growth = calls_of(work(DEEP)) / calls_of(work(SHALLOW))
    assert growth <= (DEEP / SHALLOW) ** EXPONENT
